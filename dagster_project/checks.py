"""What must hold before the pipeline goes on: each check blocks what lies downstream of its asset."""

import math

import dagster as dg

from dagster_project.assets.canary import canary_decision
from dagster_project.assets.features import samples
from dagster_project.assets.models import Candidate, candidate, verdict
from dagster_project.assets.skew import skew_report
from dagster_project.resources import Platform
from monitoring.canary_gate import Action
from monitoring.canary_log import read_log, replay
from monitoring.skew import SkewRecord
from registry.evaluation import Evaluation
from registry.experiment import Experiments
from registry.manifest import read_live
from registry.verdict import Outcome, Verdict
from release.errors import BadCandidate
from release.guard import barred
from release.promotion import Evaluated
from release.publish import check as check_folder
from serving.feed import STABLE
from training.errors import UnreadableExport


@dg.asset_check(asset=samples, blocking=True)
def there_are_samples(platform: Platform) -> dg.AssetCheckResult:
    """The samples table has rows to train on."""
    rows = platform.tables.read("samples", columns=["request_id"]).num_rows
    return dg.AssetCheckResult(
        passed=rows > 0,
        metadata={"rows": rows},
        description=f"{rows} samples; serve or replay impressions first" if not rows else f"{rows} samples",
    )


@dg.asset_check(asset=skew_report, blocking=True)
def features_agree(skew_report: SkewRecord) -> dg.AssetCheckResult:
    """What the ranker saw is what history says: names the features that drifted; undecided is no pass, but stops nothing."""
    undecided = skew_report.outcome is Outcome.UNDECIDED
    return dg.AssetCheckResult(
        passed=skew_report.outcome is Outcome.PASS,
        severity=dg.AssetCheckSeverity.WARN if undecided else dg.AssetCheckSeverity.ERROR,
        metadata={"skewed": ", ".join(skew_report.skewed) or "none"},
        description=skew_report.sentence,
    )


@dg.asset_check(asset=candidate, blocking=True)
def losses_are_numbers(candidate: Candidate) -> dg.AssetCheckResult:
    """Every epoch's loss and every figure of the evaluation is finite, and both models have a loss."""
    evaluation = Evaluation.load(candidate.folder)
    bad = not_finite(evaluation)
    seen = f"{len(evaluation.curves)} loss curves, {len(evaluation.measured())} figures"
    return dg.AssetCheckResult(
        passed=not bad and bool(evaluation.curves),
        metadata={"not_finite": ", ".join(bad) or "none"},
        description=f"{', '.join(bad)} are not numbers" if bad else f"all finite: {seen}",
    )


@dg.asset_check(asset=candidate, blocking=True)
def better_than_popularity(candidate: Candidate) -> dg.AssetCheckResult:
    """The two-tower finds more of the test period's positives than the popularity list does."""
    rows = Evaluation.load(candidate.folder).retrieval
    ours, popular = rows.recall(), rows.popularity_recall()
    known = ours is not None and popular is not None
    return dg.AssetCheckResult(
        passed=ours is not None and popular is not None and ours > popular,
        metadata={"recall": ours, "popularity_recall": popular} if known else {},
        description=f"recall@{rows.k} {ours:.4f}, popularity's {popular:.4f}" if known else "recall is not computable",
    )


@dg.asset_check(asset=candidate, blocking=True)
def export_is_readable(candidate: Candidate) -> dg.AssetCheckResult:
    """Manifest, encoder and index load as the proxy loads them, and both SavedModels with their signatures."""
    from training.export import load_scorers  # TensorFlow, as in the asset

    try:
        release = check_folder(candidate.folder)
        load_scorers(candidate.folder)
    except (BadCandidate, UnreadableExport) as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    items, objectives = len(release.item_ids), ", ".join(release.manifest.objectives)
    return dg.AssetCheckResult(
        passed=True, metadata={"items": items}, description=f"{items} items in the index, objectives {objectives}"
    )


@dg.asset_check(asset=verdict, blocking=True)
def gate_passes(verdict: Verdict) -> dg.AssetCheckResult:
    """The gate says pass: undecided never goes into traffic."""
    return dg.AssetCheckResult(
        passed=verdict.passed, description=f"the gate says {verdict.outcome}: {', '.join(verdict.reasons)}"
    )


def not_finite(evaluation: Evaluation) -> list[str]:
    """Names of curves and figures that hold something that is not a number (None, not computable, is not one of them)."""
    curves = [name for name, values in evaluation.curves.items() if not all(map(math.isfinite, values))]
    return curves + [name for name, value in evaluation.measured().items() if not math.isfinite(value)]


@dg.asset_check(asset=verdict, blocking=True)
def line_may_deploy(verdict: Verdict, platform: Platform) -> dg.AssetCheckResult:
    """The line is that of the stable release, or there is none yet: another line comes to traffic by promotion."""
    settings = platform.settings
    stable = read_live(settings.releases).get(STABLE, "")
    said = barred(Experiments(settings.releases).every(), stable, line=settings.line)
    return dg.AssetCheckResult(passed=not said, description=said or f"nothing stands against line {settings.line}")


@dg.asset_check(asset=canary_decision, blocking=True)
def canary_is_not_held(canary_decision: Evaluated) -> dg.AssetCheckResult:
    """The canary can be judged: a hold fails the run, so that somebody is told."""
    held = canary_decision.action is Action.HOLD
    done = canary_decision
    said = done.decided[-1].decision.text if done.decided else "; ".join(done.said) or "nothing was due"
    return dg.AssetCheckResult(passed=not held, description=said)


@dg.asset_check(asset=canary_decision, blocking=True)
def decision_replays(canary_decision: Evaluated, platform: Platform) -> dg.AssetCheckResult:
    """Judged again from the log, every decision is the same."""
    one = canary_decision.experiment
    entries = read_log(platform.promotion(lambda _: None).log(one)) if one is not None else []
    wrong = [entry.decision.hour for entry in entries if replay(entry) != entry.decision]
    said = f"hours {wrong} come out otherwise" if wrong else f"{len(entries)} decisions replay"
    return dg.AssetCheckResult(passed=not wrong, description=said)


@dg.asset_check(asset=canary_decision, blocking=True)
def audit_stands(canary_decision: Evaluated, platform: Platform) -> dg.AssetCheckResult:
    """A promotion that is decided and not yet done, in whichever run, has a passing audit of its line that is not too old."""
    one, rooms = canary_decision.experiment, platform.promotion(lambda _: None)
    if one is None or not rooms.promotes(one):
        return dg.AssetCheckResult(passed=True, description="no promotion is due")
    said = rooms.unaudited(one)
    return dg.AssetCheckResult(passed=not said, description=said or f"the audit of line {one.line} stands")


CHECKS = (
    there_are_samples, features_agree, losses_are_numbers, better_than_popularity, export_is_readable, gate_passes,
    line_may_deploy, canary_is_not_held, decision_replays, audit_stands,
)  # fmt: skip
