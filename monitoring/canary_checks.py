"""Can this look be believed? Whatever says no is a hold: the canary keeps its traffic for a while, and somebody is told.

Each finding has its reason, a sentence for the page and its numbers; an empty list means that the look may be judged.
"""

import math
from collections.abc import Iterator

from msgspec import Struct

from monitoring.canary_plan import HOUR_S, ArmLook, ExperimentPlan, HourLook, MetricPlan
from monitoring.lift import Lift, lift
from monitoring.sample_ratio import final_p, sequential_p
from monitoring.sequential import always_valid_z
from monitoring.stats import Moments, RatioSums
from registry.verdict import Evidence, Reason


class Finding(Struct, frozen=True):
    """One thing seen, why it matters, and its numbers."""

    reason: Reason
    text: str
    evidence: tuple[Evidence, ...] = ()


def broken(plan: ExperimentPlan, look: HourLook, *, due: bool) -> list[Finding]:
    """Everything that keeps this look from being judged; where arms or sums are broken, what needs them is not asked."""
    found = [*_late(plan, look), *_answered(plan, look), *_sums(plan, look)]
    if due and not found:
        found = [*_parts(plan, look)]
    if found:
        return found
    found = [*_both_arms(plan, look), *_ratio(plan, look, due=due), *_flat(plan, look)]
    return found or [*_baseline(plan, look)]


def measurable(plan: ExperimentPlan, metric: MetricPlan, arm: ArmLook, against: ArmLook) -> bool:
    """Whether both arms have viewers enough, and events enough to expect if they did not differ."""
    one, other = arm.metrics.get(metric.name), against.metrics.get(metric.name)
    if one is None or other is None or not one.x or not other.x:
        return False
    rate = (one.y + other.y) / (one.x + other.x)
    few = rate * min(one.x, other.x) < plan.config.min_events
    return not few and min(arm.viewers, against.viewers) >= plan.config.min_viewers


def lift_of(look: HourLook, metric: str, *, arm: str, against: str) -> Lift:
    """The lift of one arm over another; both must have the metric."""
    one, other = look.arms[arm].metrics[metric], look.arms[against].metrics[metric]
    assert one is not None and other is not None  # for the type checker: `broken` came first
    return lift(one, other)


def evidence(check: str, metric: str, one: Lift, *, n: int, **numbers: float | None) -> Evidence:
    """A lift as evidence; `numbers` are low, high, threshold and p, and what is not finite becomes None."""
    known = {name: finite(value) for name, value in numbers.items()}
    return Evidence(
        check=check, metric=metric, candidate=finite(one.treatment), baseline=finite(one.control),
        estimate=finite(one.estimate), se=finite(one.se), low=known.get("low"), high=known.get("high"),
        threshold=known.get("threshold"), p=known.get("p"), n=n,
    )  # fmt: skip


def finite(value: float | None) -> float | None:
    """The number, or None for what is none."""
    return value if value is not None and math.isfinite(value) else None


def number(check: str, metric: str, value: float | None, *, n: int, threshold: float, p: bool = False) -> Evidence:
    """Evidence that is no lift: one value (a share, a count, hours, or a p) against its threshold."""
    said = None if value is None else finite(value)
    return Evidence(
        check=check, metric=metric, candidate=None, baseline=None, low=None, high=None, n=n, threshold=threshold,
        estimate=None if p else said, p=said if p else None,
    )  # fmt: skip


def _late(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    for name in plan.weights:
        arm = look.arms.get(name)
        if arm is None or arm.viewers <= 0:
            yield Finding(Reason.NO_DATA, f"arm {name} has no viewers at hour {look.hour}")
            continue
        lag = None if arm.newest_at is None else finite(look.at - arm.newest_at)
        if lag is None or lag > plan.config.max_lag_s:
            limit = plan.config.max_lag_s / HOUR_S
            said = (
                "has no newest event" if lag is None else f"had its newest event {lag / HOUR_S:.1f} h before the look"
            )
            shown = number("lag_hours", name, None if lag is None else lag / HOUR_S, n=arm.viewers, threshold=limit)
            yield Finding(Reason.LATE_DATA, f"arm {name} {said}; {limit:g} h are allowed", (shown,))
    if look.missing_hours:
        hours = ", ".join(map(str, look.missing_hours))
        yield Finding(Reason.MISSING_HOURS, f"data of hour {hours} are not complete")


def _answered(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    """Another release behind the canary's label, or proxies that cannot load it: what the arm shows is not the canary's."""
    limit = plan.config.answered_share
    if look.answered < limit:
        arm = look.arms.get(plan.canary)
        shown = number("answered", "share", look.answered, n=arm.viewers if arm else 0, threshold=limit)
        text = (
            f"line {plan.line} answered {look.answered:.0%} of arm {plan.canary}'s impressions; {limit:.0%} are needed"
        )
        yield Finding(Reason.NOT_ANSWERED, text, (shown,))


def _sums(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    for name in plan.weights:
        arm = look.arms.get(name)
        for metric in plan.metrics if arm is not None and arm.viewers > 0 else ():
            assert arm is not None
            if metric.name not in arm.metrics:
                yield Finding(Reason.MISSING_METRIC, f"metric {metric.name} is planned and arm {name} does not have it")
            else:
                yield from _sum(plan, metric, name, arm.metrics[metric.name], arm.viewers)
                yield from _silent(plan, metric, name, arm.metrics[metric.name], look.hour)


def _silent(
    plan: ExperimentPlan, metric: MetricPlan, name: str, sums: RatioSums | None, hour: int
) -> Iterator[Finding]:
    """A metric that the plan expects events of by now and that has none, in one arm or in all: it is not being logged.

    Events are no less noisy than independent ones: with E of them to expect in x chances the squared variation of the arm's
    rate is 1 / E - 1 / x or more (binomial). What was planned for it is the arm's part of the lift's; by hour in proportion.
    """
    if sums is None or sums.y or not sums.x > 0:
        return
    part = 1 / plan.weights[name] / sum(1 / plan.weights[arm] for arm in (plan.canary, plan.control))
    expected = 1 / (part * metric.planned_variance * plan.config.hours / hour + 1 / sums.x)
    if expected >= plan.config.min_events:
        text = (
            f"{metric.name} of arm {name} has no {metric.numerator} in {sums.x:g} {metric.denominator}; "
            f"{expected:.0f} or more were to be expected by now"
        )
        yield Finding(Reason.NO_DATA, text)


def _sum(
    plan: ExperimentPlan, metric: MetricPlan, name: str, sums: RatioSums | None, viewers: int
) -> Iterator[Finding]:
    where = f"{metric.name} of arm {name}"
    values = () if sums is None else (sums.n, sums.y, sums.x, sums.yy, sums.xx, sums.xy)
    if sums is None or not all(map(math.isfinite, values)):
        yield Finding(Reason.NOT_A_NUMBER, f"{where} has sums that are not numbers")
    elif not sums.possible or sums.n != viewers:
        yield Finding(Reason.IMPOSSIBLE_SUMS, f"{where} has sums that {viewers} viewers cannot have")
    elif not sums.x and viewers >= plan.config.min_viewers:
        yield Finding(Reason.NO_DATA, f"{where} has no {metric.denominator} from {viewers} viewers")


def _parts(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    """What a decision needs beside the hourly sums: pre-period, days, groups."""
    metric = plan.deciding.name
    for name in (plan.canary, plan.control):
        arm = look.arms[name]
        wanted = {"pre-period": arm.before} if plan.config.use_cuped else {}
        wanted |= {"first and last day": arm.days} if plan.config.check_fading else {}
        for what, found in wanted.items():
            if metric not in found:
                yield Finding(Reason.MISSING_METRIC, f"{what} of {metric} is needed and arm {name} does not have it")
            else:
                yield from _moments(f"{what} of {metric} of arm {name}", found[metric], arm.viewers)
        for dimension in plan.segments:
            if not any(group.startswith(f"{dimension}=") for group in arm.segments):
                yield Finding(Reason.MISSING_METRIC, f"groups by {dimension} are planned and arm {name} has none")
        for group, metrics in arm.segments.items():
            for one in plan.metrics:
                sums = metrics.get(one.name)
                if sums is None or not sums.possible:
                    yield Finding(Reason.NOT_A_NUMBER, f"{one.name} of group {group} of arm {name} has no usable sums")


def _moments(where: str, moments: Moments | None, viewers: int) -> Iterator[Finding]:
    if moments is None or not moments.possible:
        yield Finding(Reason.NOT_A_NUMBER, f"{where} has sums that are not numbers")
    elif moments.n != viewers:
        yield Finding(Reason.IMPOSSIBLE_SUMS, f"{where} is of {moments.n:g} viewers; the arm has {viewers}")


def _both_arms(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    viewers, limit = sum(arm.viewers for arm in look.arms.values()), plan.config.both_arms_share
    if look.in_both > limit * viewers:
        shown = number("both_arms", "share", look.in_both / viewers, n=viewers, threshold=limit)
        text = f"{look.in_both} of {viewers} viewers were seen in more than one arm; {limit:.2%} are allowed"
        yield Finding(Reason.SEEN_IN_BOTH_ARMS, text, (shown,))


def _ratio(plan: ExperimentPlan, look: HourLook, *, due: bool) -> Iterator[Finding]:
    """Sequential at every look, chi-squared once more when a decision is due."""
    counts, weights = [look.arms[name].viewers for name in plan.weights], list(plan.weights.values())
    checks = {"sample_ratio": float(sequential_p(counts, weights, strength=plan.config.ratio_strength))}
    checks |= {"sample_ratio_final": float(final_p(counts, weights))} if due else {}
    for check, p in checks.items():
        if not p >= plan.config.ratio_alpha:
            shown = number(check, "viewers", p, n=sum(counts), threshold=plan.config.ratio_alpha, p=True)
            got = ", ".join(f"{name} {count}" for name, count in zip(plan.weights, counts, strict=True))
            said = ", ".join(f"{name} {weight:g}" for name, weight in plan.weights.items())
            yield Finding(
                Reason.SAMPLE_RATIO, f"viewers ({got}) do not fit the weights ({said}): p = {p:.2g}", (shown,)
            )


def _flat(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    """A metric with events to expect and no spread at all was not measured (clicks are not being logged, say)."""
    canary, control = look.arms[plan.canary], look.arms[plan.control]
    for metric in plan.metrics:
        if measurable(plan, metric, canary, control):
            one = lift_of(look, metric.name, arm=plan.canary, against=plan.control)
            if not one.treatment_variance > 0 or not one.control_variance > 0 or not one.se > 0:
                text = f"{metric.name} has no spread among viewers of one arm, so no error can be given"
                yield Finding(Reason.NOT_A_NUMBER, text, (evidence("spread", metric.name, one, n=canary.viewers),))


def _baseline(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    """The fresh baseline serves what control serves; where they differ, the comparison itself is broken."""
    if not plan.baseline:
        return
    fresh, control = look.arms[plan.baseline], look.arms[plan.control]
    alpha = plan.config.baseline_alpha / 2 / len(plan.metrics)
    for metric in plan.metrics:
        if not measurable(plan, metric, fresh, control):
            continue
        one = lift_of(look, metric.name, arm=plan.baseline, against=plan.control)
        edge = always_valid_z(alpha, se=one.se, planned_variance=metric.planned_variance) if one.se > 0 else 0.0
        if not abs(one.z()) <= edge:
            shown = evidence(
                "baseline", metric.name, one, n=fresh.viewers, low=one.bound(-edge), high=one.bound(edge), threshold=0.0
            )
            text = (
                f"the fresh baseline's {metric.name} differs from control's by {one.estimate:+.1%}; both serve the same"
            )
            yield Finding(Reason.BASELINE_DIFFERS, text, (shown,))
