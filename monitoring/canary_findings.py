"""What a believable look says: harm at any hour; at a decision power, gain, guards, groups, novelty and the audit."""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from monitoring.canary_checks import Finding, evidence, finite, lift_of, measurable, number
from monitoring.canary_plan import HOUR_S, Audit, ExperimentPlan, HourLook, MetricPlan, Role
from monitoring.cuped import Cuped, cuped, fading
from monitoring.lift import Lift, holm, lift, p_non_inferior, p_worse_than
from monitoring.sequential import always_valid_p, always_valid_z
from monitoring.stats import RatioSums
from registry.verdict import Evidence, Outcome, Reason

NORMAL = NormalDist()
DAY_S = 24 * HOUR_S
POOLED = "small groups"


def harm(plan: ExperimentPlan, look: HourLook) -> tuple[list[Finding], list[Evidence]]:
    """Metrics whose always-valid upper bound is below zero, and every metric's numbers; any of several: alpha is split."""
    canary, control = look.arms[plan.canary], look.arms[plan.control]
    found, shown = [], []
    for metric in plan.metrics:
        if not measurable(plan, metric, canary, control):
            continue
        one = lift_of(look, metric.name, arm=plan.canary, against=plan.control)
        shown.append(_harm(plan, metric, one, n=canary.viewers))
        high = shown[-1].high
        if high is not None and high < 0:
            text = f"{metric.name} is {one.estimate:+.1%}, at most {high:+.1%} at every look so far"
            found.append(Finding(Reason.HARMED, text, (shown[-1],)))
    return found, shown


def _harm(plan: ExperimentPlan, metric: MetricPlan, one: Lift, *, n: int) -> Evidence:
    alpha = plan.config.harm_alpha / len(plan.metrics)
    edge = always_valid_z(alpha, se=one.se, planned_variance=metric.planned_variance)
    p = always_valid_p(one.z(), alpha=alpha, se=one.se, planned_variance=metric.planned_variance)
    return evidence("harm", metric.name, one, n=n, high=one.bound(edge), threshold=0.0, p=p)


def adjusted(plan: ExperimentPlan, look: HourLook) -> Cuped:
    """The deciding metric's lift adjusted by the pre-period; both arms must have one."""
    metric = plan.deciding.name
    canary, control = look.arms[plan.canary].before[metric], look.arms[plan.control].before[metric]
    assert canary is not None and control is not None  # for the type checker: `broken` came first
    return cuped(canary, control)


def disagreement(plan: ExperimentPlan, look: HourLook) -> Iterator[Finding]:
    """Adjusted and plain lift on different sides of zero, and the arms differed before: neither is to be believed."""
    if not plan.config.use_cuped:
        return
    metric, found = plan.deciding.name, adjusted(plan, look)
    plain = lift_of(look, metric, arm=plan.canary, against=plan.control)
    if not math.isfinite(found.lift.z()):
        yield Finding(Reason.NOT_A_NUMBER, f"the adjusted lift of {metric} has no error")
    elif found.lift.estimate * plain.estimate < 0 and found.p_shift < plan.config.disagree_alpha:
        n = look.arms[plan.canary].viewers
        shown = evidence("cuped", metric, found.lift, n=n, threshold=plan.config.disagree_alpha, p=found.p_shift)
        text = (
            f"{metric} is {plain.estimate:+.1%} as seen and {found.lift.estimate:+.1%} adjusted by the pre-period, "
            f"in which the arms already differed (p = {found.p_shift:.2g})"
        )
        yield Finding(Reason.ESTIMATES_DISAGREE, text, (shown,))


def decisive(plan: ExperimentPlan, look: HourLook) -> Lift:
    """The lift that the deciding test is taken on."""
    if plan.config.use_cuped:
        return adjusted(plan, look).lift
    return lift_of(look, plan.deciding.name, arm=plan.canary, against=plan.control)


def power(plan: ExperimentPlan, look: HourLook) -> tuple[list[Finding], list[Evidence]]:
    """Too little to decide by: a metric without enough viewers or events, or a detectable lift above the planned one."""
    canary, control, config = look.arms[plan.canary], look.arms[plan.control], plan.config
    short = [metric.name for metric in plan.metrics if not measurable(plan, metric, canary, control)]
    if short:
        few = min(canary.viewers, control.viewers) < config.min_viewers
        reason = Reason.TOO_FEW_VIEWERS if few else Reason.UNDERPOWERED
        text = (
            f"{', '.join(short)} cannot be judged with {canary.viewers} and {control.viewers} viewers; needed are "
            f"{config.min_viewers} in each arm and {config.min_events} events to expect"
        )
        return [Finding(reason, text)], []
    one = decisive(plan, look)
    reached = config.reach * one.se
    shown = number("power", plan.deciding.name, reached, n=canary.viewers, threshold=config.mde)
    if reached <= config.mde:
        return [], [shown]
    text = f"{plan.deciding.name} would show a lift of {reached:.1%} at best; the plan asks for {config.mde:.1%}"
    return [Finding(Reason.UNDERPOWERED, text)], [shown]


def gain(plan: ExperimentPlan, look: HourLook, *, edge: float) -> tuple[list[Finding], list[Evidence]]:
    """Is the deciding metric better, and by enough? `edge` is the bound on its score (1.96 at 5 %, more at early looks)."""
    one, config, metric = decisive(plan, look), plan.config, plan.deciding.name
    n, least = look.arms[plan.canary].viewers, plan.config.practical_share * plan.config.mde
    shown = [
        evidence(
            "gain", metric, one, n=n, low=one.bound(-edge), high=one.bound(edge), threshold=least, p=one.p_two_sided()
        )
    ]
    if config.use_cuped:
        plain = lift_of(look, metric, arm=plan.canary, against=plan.control)
        low, high = plain.bound(-edge), plain.bound(edge)
        shown.append(evidence("gain_unadjusted", metric, plain, n=n, low=low, high=high, p=plain.p_two_sided()))
    said = f"{metric} is {one.estimate:+.1%} (p = {one.p_two_sided():.2g})"
    if not one.z() > edge:
        text = f"{said}; a promotion needs a score above {edge:.2f}, this is {one.z():.2f}"
        return [Finding(Reason.NOT_BETTER, text)], shown
    if not one.estimate >= least:
        return [Finding(Reason.TOO_SMALL_A_GAIN, f"{said}; a promotion needs {least:.1%} or more")], shown
    return [], shown


def guards(plan: ExperimentPlan, look: HourLook) -> tuple[list[Finding], list[Evidence]]:
    """Guarding metrics not shown to be within their margin. All must pass, so none is corrected (Berger 1982)."""
    found, shown, config = [], [], plan.config
    for metric in plan.metrics:
        if metric.role is not Role.GUARDS:
            continue
        one = lift_of(look, metric.name, arm=plan.canary, against=plan.control)
        p, low = p_non_inferior(one, margin=config.margin), one.bound(NORMAL.inv_cdf(config.margin_alpha))
        n = look.arms[plan.canary].viewers
        shown.append(evidence("non_inferior", metric.name, one, n=n, low=low, threshold=-config.margin, p=p))
        if not p < config.margin_alpha:
            text = f"{metric.name} is {one.estimate:+.1%}, at least {low:+.1%}; {-config.margin:+.1%} must be excluded"
            found.append(Finding(Reason.NOT_SHOWN_NON_INFERIOR, text, (shown[-1],)))
    return found, shown


def groups(plan: ExperimentPlan, look: HourLook) -> tuple[list[Finding], list[Evidence]]:
    """Groups proved to have lost more than the floor, simultaneously over groups and metrics; none is dropped silently."""
    config = plan.config
    judged: list[tuple[str, str, Lift, int, float]] = []
    small: list[tuple[str, str, Lift, int, float]] = []
    for group, (canary, control) in _pooled(plan, look).items():
        for metric in plan.metrics:
            one = lift(canary[metric.name], control[metric.name])
            n = int(canary[metric.name].n)
            p = p_worse_than(one, floor=config.segment_floor)
            usable = n >= config.segment_min_viewers and math.isfinite(p)
            (judged if usable else small).append((group, metric.name, one, n, p))
    corrected = holm([p for *_, p in judged])
    edge = NORMAL.inv_cdf(1 - config.segment_alpha / len(judged)) if judged else 0.0
    shown = [
        evidence(f"group {group}", metric, one, n=n, high=one.bound(edge), threshold=config.segment_floor, p=p)
        for (group, metric, one, n, _), p in zip(judged, corrected, strict=True)
    ]
    found = [
        Finding(
            Reason.SEGMENT_HARMED,
            f"{item.metric} of {item.check} is {item.estimate or 0:+.1%}, proved below {config.segment_floor:+.0%}",
            (item,),
        )
        for item in shown
        if item.p is not None and item.p < config.segment_alpha
    ]
    shown += [
        evidence(f"group {group}: too small", metric, one, n=n, threshold=config.segment_floor)
        for group, metric, one, n, _ in small
    ]
    return found, shown


def _pooled(plan: ExperimentPlan, look: HourLook) -> dict[str, tuple[dict[str, RatioSums], dict[str, RatioSums]]]:
    """Sums by group and metric of both arms, small groups of a dimension added up."""
    arms = look.arms[plan.canary].segments, look.arms[plan.control].segments
    out: dict[str, tuple[dict[str, RatioSums], dict[str, RatioSums]]] = {}
    for group in sorted(arms[0].keys() | arms[1].keys()):
        sums = tuple(
            {m.name: arm.get(group, {}).get(m.name) or RatioSums() for m in plan.metrics} for arm in arms
        )  # fmt: skip
        small = min(sums[0][plan.deciding.name].n, sums[1][plan.deciding.name].n) < plan.config.segment_min_viewers
        name = f"{group.split('=')[0]}={POOLED}" if small else group
        if name in out:
            sums = tuple({m: old[m] + new[m] for m in new} for old, new in zip(out[name], sums, strict=True))
        out[name] = (sums[0], sums[1])
    return out


def novelty(plan: ExperimentPlan, look: HourLook) -> tuple[list[Finding], list[Evidence]]:
    """A lift that has mostly gone by the last day, which says that the canary was only new."""
    if not plan.config.check_fading:
        return [], []
    metric, n = plan.deciding.name, look.arms[plan.canary].viewers
    canary, control = look.arms[plan.canary].days[metric], look.arms[plan.control].days[metric]
    assert canary is not None and control is not None  # for the type checker: `broken` came first
    days = fading(canary, control)
    shown = Evidence(
        check="fading", metric=metric, candidate=finite(days.last), baseline=finite(days.first), low=None, high=None,
        estimate=finite(days.last - days.first), se=finite(days.se), p=finite(days.p), threshold=plan.config.alpha, n=n,
    )  # fmt: skip
    if shown.p is None:
        return [Finding(Reason.FADING, f"first and last day of {metric} cannot be compared", (shown,))], [shown]
    if days.last < (1 - plan.config.fading_share) * days.first and days.p < plan.config.alpha:
        text = f"{metric} was {days.first:+.1%} on the first day and {days.last:+.1%} on the last (p = {days.p:.2g})"
        return [Finding(Reason.FADING, text, (shown,))], [shown]
    return [], [shown]


def audited(plan: ExperimentPlan, look: HourLook, audit: Audit | None) -> tuple[list[Finding], list[Evidence]]:
    """Whatever keeps the last bias audit from standing for this line: none, failed, too old, undecided."""
    if audit is None or audit.line != plan.line:
        return [Finding(Reason.AUDIT_MISSING, f"line {plan.line} has no bias audit")], []
    days, limit = max(look.at - audit.at, 0.0) / DAY_S, plan.config.audit_days + plan.config.audit_run_days
    shown = [number("audit", "days", days, n=0, threshold=limit)]
    if audit.outcome is Outcome.FAIL:
        return [Finding(Reason.AUDIT_FAILED, f"line {plan.line} failed its bias audit", tuple(shown))], shown
    if days > limit:
        return [Finding(Reason.AUDIT_OVERDUE, f"the bias audit is {days:.0f} days old; {limit:g} are allowed")], shown
    if audit.outcome is not Outcome.PASS:
        return [Finding(Reason.AUDIT_UNDECIDED, f"the bias audit of line {plan.line} is undecided")], shown
    return [], shown


def reasons(found: Sequence[Finding]) -> tuple[Reason, ...]:
    """The reasons, each once, in order."""
    return tuple(dict.fromkeys(finding.reason for finding in found))
