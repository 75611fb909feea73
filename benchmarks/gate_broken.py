"""Ways to break what a canary's gate is given, each from a canary that would be promoted; every one must be a hold."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from monitoring.canary_gate import Decision, judge
from monitoring.canary_log import decide_or_hold
from monitoring.canary_plan import HOUR_S, ArmLook, Audit, ExperimentPlan, HourLook, Looks
from monitoring.stats import Moments, RatioSums

Break = Callable[[HourLook], HourLook]
NAN, INF = float("nan"), float("inf")
NOTHING = RatioSums()


def _arm(look: HourLook, name: str, **changes: object) -> HourLook:
    arms = {**look.arms, name: msgspec.structs.replace(look.arms[name], **changes)}
    return msgspec.structs.replace(look, arms=arms)


def _metric(name: str, metric: str, sums: Callable[[RatioSums], RatioSums | None]) -> Break:
    def change(look: HourLook) -> HourLook:
        known = look.arms[name].metrics
        old = known[metric]
        return _arm(look, name, metrics={**known, metric: sums(old) if old is not None else None})

    return change


def _without(name: str, metric: str) -> Break:
    def change(look: HourLook) -> HourLook:
        kept = {key: sums for key, sums in look.arms[name].metrics.items() if key != metric}
        return _arm(look, name, metrics=kept)

    return change


def _empty(name: str) -> Break:
    return lambda look: _arm(
        look, name, viewers=0, newest_at=None, metrics=dict.fromkeys(look.arms[name].metrics, NOTHING)
    )


def _gone(name: str) -> Break:
    return lambda look: msgspec.structs.replace(look, arms={k: v for k, v in look.arms.items() if k != name})


def _newest(name: str, hours: float | None) -> Break:
    return lambda look: _arm(look, name, newest_at=None if hours is None else look.at - hours * HOUR_S)


def _resampled(look: HourLook) -> HourLook:
    """Three in ten of the canary's viewers lost on the way."""
    return _arm(look, "canary", **_scaled(look.arms["canary"], 0.7))


def _scaled(arm: ArmLook, share: float) -> Mapping[str, object]:
    viewers = round(share * arm.viewers)
    metrics = {name: _times(sums, viewers / arm.viewers) for name, sums in arm.metrics.items()}
    before = {name: _times_moments(one, viewers / arm.viewers) for name, one in arm.before.items()}
    days = {name: _times_moments(one, viewers / arm.viewers) for name, one in arm.days.items()}
    return {"viewers": viewers, "metrics": metrics, "before": before, "days": days}


def _times(sums: RatioSums | None, f: float) -> RatioSums | None:
    if sums is None:
        return None
    return RatioSums(round(f * sums.n), f * sums.y, f * sums.x, f * sums.yy, f * sums.xx, f * sums.xy)


def _times_moments(one: Moments | None, f: float) -> Moments | None:
    if one is None:
        return None
    return Moments(round(f * one.n), tuple(f * v for v in one.sums), tuple(f * v for v in one.products))


def _unclicked(look: HourLook, name: str) -> HourLook:
    return _metric(name, "ctr", lambda s: RatioSums(s.n, 0.0, s.x, 0.0, s.xx, 0.0))(look)


EVERY_LOOK: dict[str, Break] = {
    "no canary arm": _gone("canary"),
    "no control arm": _gone("stable"),
    "canary without traffic": _empty("canary"),
    "control without traffic": _empty("stable"),
    "canary traffic stopped": _newest("canary", 3.0),
    "control traffic stopped": _newest("stable", 3.0),
    "no newest event": _newest("canary", None),
    "newest event not a number": _newest("canary", NAN),
    "missing hours": lambda look: msgspec.structs.replace(look, missing_hours=(look.hour,)),
    "viewers in both arms": lambda look: msgspec.structs.replace(
        look, in_both=100 + look.arms["stable"].viewers // 100
    ),
    "sample ratio": _resampled,
    "ctr missing": _without("canary", "ctr"),
    "completion missing": _without("stable", "completion_rate"),
    "depth missing": _without("canary", "session_depth"),
    "ctr not a number": _metric("canary", "ctr", lambda s: RatioSums(s.n, NAN, s.x, s.yy, s.xx, s.xy)),
    "ctr infinite": _metric("stable", "ctr", lambda s: RatioSums(s.n, s.y, INF, s.yy, s.xx, s.xy)),
    "completion not a number": _metric(
        "canary", "completion_rate", lambda s: RatioSums(s.n, s.y, s.x, NAN, s.xx, s.xy)
    ),
    "depth could not be computed": _metric("canary", "session_depth", lambda s: None),
    "no starts": _metric("canary", "completion_rate", lambda s: RatioSums(s.n)),
    "clicks not logged": lambda look: _unclicked(look, "canary"),
    "clicks of both arms not logged": lambda look: _unclicked(_unclicked(look, "canary"), "stable"),
    "another release answers": lambda look: msgspec.structs.replace(look, answered=0.2),
    "negative clicks": _metric("canary", "ctr", lambda s: RatioSums(s.n, -s.y, s.x, s.yy, s.xx, s.xy)),
    "squares lost": _metric("canary", "ctr", lambda s: RatioSums(s.n, s.y, s.x, 0.0, s.xx, s.xy)),
    "viewers lost from sums": _metric("canary", "ctr", lambda s: RatioSums(s.n / 2, s.y, s.x, s.yy, s.xx, s.xy)),
}
AT_A_DECISION: dict[str, Break] = {
    "no pre-period": lambda look: _arm(look, "canary", before={}),
    "pre-period not a number": lambda look: _arm(look, "stable", before={"ctr": None}),
    "no days": lambda look: _arm(look, "canary", days={}),
    "days of other viewers": lambda look: _arm(
        look, "canary", days={"ctr": _times_moments(look.arms["canary"].days["ctr"], 0.5)}
    ),
    "no groups": lambda look: _arm(look, "canary", segments={}),
    "a group not a number": lambda look: _arm(
        look, "canary", segments={g: dict.fromkeys(of) for g, of in look.arms["canary"].segments.items()}
    ),
}


def broken_decisions(looks: Looks, audit: Audit) -> list[tuple[str, Decision]]:
    """The decision for each way to break a look in the middle and the one that decides."""
    plan, last, middle = looks.experiment, looks.hours[-1], looks.hours[len(looks.hours) // 2]
    out = [
        (f"{name}, hour {look.hour}", judge(plan, change(look), audit=audit))
        for look, ways in ((middle, EVERY_LOOK), (last, {**EVERY_LOOK, **AT_A_DECISION}))
        for name, change in ways.items()
    ]
    return [*out, *(("crash", _crash(plan, look, audit)) for look in (middle, last))]


def _crash(plan: ExperimentPlan, look: HourLook, audit: Audit) -> Decision:
    def read() -> Looks:
        raise OSError("the table cannot be read")

    with TemporaryDirectory() as folder:
        log = Path(folder) / "canary.jsonl"
        return decide_or_hold(log, plan, read, hour=look.hour, at=look.at, audit=audit)[0].decision
