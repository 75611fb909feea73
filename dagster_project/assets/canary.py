"""Group canary: what viewers did with the canary, the decision of each complete hour, and what it does to traffic."""

import dagster as dg

from dagster_project.metadata import evidence_table, plain
from dagster_project.resources import Platform, logs_to
from release.promotion import Evaluated, Looked


@dg.asset(group_name="canary", kinds={"deltalake"})
def canary_looks(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Looked | None]:
    """The running canary hour by hour; None while no hour is complete and undecided."""
    looked = platform.promotion(logs_to(context)).look()
    if looked is None:
        return dg.MaterializeResult(value=None, metadata={"note": "nothing is due"})
    last = looked.looks.hours[-1] if looked.looks is not None else None
    arms = {f"viewers.{name}": arm.viewers for name, arm in last.arms.items()} if last is not None else {}
    figures = {"experiment": looked.experiment.id, "hour": looked.hour, "error": looked.error or "none"}
    return dg.MaterializeResult(value=looked, metadata=plain(figures | arms))


@dg.asset(group_name="canary", kinds={"numpy"})
def canary_decision(
    context: dg.AssetExecutionContext, platform: Platform, canary_looks: Looked | None
) -> dg.MaterializeResult[Evaluated]:
    """The gate's decisions, in the log; harm is rolled back here and now, a promotion is left to the next asset."""
    rooms = platform.promotion(logs_to(context))
    done = rooms.decide(canary_looks, promote=False)
    figures = {"state": str(done.experiment.state) if done.experiment else "none", "decided": len(done.decided)}
    shown = plain(figures | {"said": "; ".join(done.said) or "nothing"})
    if done.experiment is not None and done.decided:
        last = done.decided[-1].decision
        shown |= plain({"hour": last.hour, "action": str(last.action), "text": last.text})
        shown |= {"evidence": evidence_table(last.verdict), "page": dg.MetadataValue.path(rooms.page(done.experiment))}
    if done.off_policy is not None:
        found = done.off_policy.verdict
        texts, reasons = "; ".join(found.texts), ", ".join(found.reasons)
        shown |= plain({"off_policy": str(found.outcome), "off_policy.reasons": reasons, "off_policy.text": texts})
    return dg.MaterializeResult(value=done, metadata=shown)


@dg.asset(group_name="canary", kinds={"tensorflow", "mlflow"})
def promotion(
    context: dg.AssetExecutionContext, platform: Platform, canary_decision: Evaluated
) -> dg.MaterializeResult[str]:
    """A promotion that is due, done: labels, aliases, record; and the end of a canary read back from traffic."""
    done = platform.promotion(logs_to(context)).decide(None)
    one = done.experiment
    figures = {"state": "none" if one is None else str(one.state), "said": "; ".join(done.said) or "nothing"}
    if one is not None:
        figures |= {"labels_have_followed": str(one.settled), "read_back": one.read_back or "not yet"}
    return dg.MaterializeResult(value=figures["state"], metadata=plain(figures))
