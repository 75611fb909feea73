"""Viewers for the gate's benchmark: they return, in a daily rhythm, and differ strongly in activity and in taste.

Simple on purpose and fast: tens of thousands of canaries are played. Only the click rate differs between the arms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.canary_looks import ViewerHours, make_looks
from monitoring.canary_plan import HOUR_S, ArmLook, CanaryConfig, ExperimentPlan, HourLook, Looks, standard_metrics
from monitoring.power import planned_variance
from monitoring.stats import RatioSums

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
HOURS = 48
BASELINE = "baseline"
BASE_CTR, BASE_COMPLETION = 0.113, 0.4
PRE_PERIOD = 7.0  # the pre-period is so many times as long as the canary: 14 days
LANGUAGES, AGES = ("en", "es", "hi", "ja"), ("under 25", "25 to 44", "45 and over", "unknown")
_OF_DAY = 1 + 0.7 * np.sin((np.arange(HOURS) % 24 - 14) / 24 * 2 * np.pi)


@dataclass(frozen=True)
class Crowd:
    """How strongly viewers differ."""

    concentration: float = 20.0  # of the Beta that a viewer's click rate is drawn from; 5 is strong, 200 weak
    activity: float = 1.0  # shape of the Gamma of a viewer's activity; smaller is more uneven
    new_share: float = 0.2  # viewers without a pre-period


@dataclass(frozen=True)
class Sessions:
    """Who came when and saw how much, before anybody clicked: a row a session, taste and pre-period a viewer."""

    viewer: Ints
    hour: Ints
    items: Ints
    taste: Floats
    completes: Floats
    before: dict[str, Floats]
    language: Ints
    age: Ints


def sessions(rng: np.random.Generator, viewers: int, crowd: Crowd) -> Sessions:
    """Draw viewers and their sessions of 48 hours."""
    activity = rng.gamma(crowd.activity, 1 / crowd.activity, viewers)
    language = rng.choice(len(LANGUAGES), viewers, p=(0.4, 0.3, 0.2, 0.1))
    age = rng.choice(len(AGES), viewers, p=(0.35, 0.35, 0.2, 0.1))
    mean = BASE_CTR * (0.8 + 0.2 * np.minimum(activity, 4)) * (0.9 + 0.1 * language)
    taste = rng.beta(crowd.concentration * mean, crowd.concentration * (1 - mean))
    completes = rng.beta(8 * BASE_COMPLETION, 8 * (1 - BASE_COMPLETION), viewers)
    depth = rng.gamma(3.0, 1 / 3.0, viewers)
    count = 1 + rng.poisson(1.5 * activity)
    viewer = np.repeat(np.arange(viewers), count)
    hour = 1 + np.searchsorted(np.cumsum(_OF_DAY) / _OF_DAY.sum(), rng.random(len(viewer)))
    items = 1 + rng.poisson(9.0 * depth[viewer])
    old = rng.random(viewers) >= crowd.new_share
    x0 = old * rng.poisson(PRE_PERIOD * (1 + 1.5 * activity) * (1 + 9.0 * depth))
    before = {"impressions": x0.astype(np.float64), "clicks": rng.binomial(x0, taste).astype(np.float64)}
    return Sessions(viewer, hour, items, taste, completes, before, language, age)


def outcomes(rng: np.random.Generator, who: Sessions, arm: Ints, lift: Floats) -> ViewerHours:
    """What the sessions lead to; `arm` and `lift` (0.05 is five per cent more clicks an impression) by viewer."""
    rate = np.minimum(who.taste * (1 + lift), 1.0)
    clicks = rng.binomial(who.items, rate[who.viewer])
    completions = rng.binomial(clicks, who.completes[who.viewer])
    items = who.items.astype(np.float64)
    counts = {
        "impressions": items, "clicks": clicks.astype(np.float64), "starts": clicks.astype(np.float64),
        "completions": completions.astype(np.float64), "items": items, "sessions": np.ones(len(items)),
    }  # fmt: skip
    groups = {"language": (who.language[who.viewer], LANGUAGES), "age": (who.age[who.viewer], AGES)}
    newest = np.asarray(who.hour * HOUR_S - 60.0, np.float64)
    before = {name: column[who.viewer] for name, column in who.before.items()}
    return ViewerHours(who.viewer, arm[who.viewer], who.hour, counts, newest, before, groups)


def planned(
    canary: int,
    control: int,
    config: CanaryConfig,
    crowd: Crowd,
    *,
    seed: int,
    viewers: int = 100_000,
    baseline: int = 0,
) -> ExperimentPlan:
    """A plan with variances from other viewers of the same crowd, over a period as long as the canary.

    With a `baseline` of so many viewers it has a third arm, which serves what control serves.
    """
    rng = np.random.default_rng(seed)
    nobody = np.zeros(viewers)
    rows = outcomes(rng, sessions(rng, viewers, crowd), nobody.astype(np.int64), nobody)

    def variance(y: str, x: str) -> float:
        sums = [np.bincount(rows.viewer, weights=rows.counts[name]) for name in (y, x)]
        return planned_variance(RatioSums.of(*sums), canary=canary, control=control)

    names = {
        "ctr": ("clicks", "impressions"),
        "completion_rate": ("completions", "starts"),
        "session_depth": ("items", "sessions"),
    }
    sizes = {"canary": canary, "stable": control} | ({BASELINE: baseline} if baseline else {})
    return ExperimentPlan(
        id="bench", line="bench", started_at=0.0, config=config, baseline=BASELINE if baseline else "",
        weights={name: size / sum(sizes.values()) for name, size in sizes.items()}, segments=("language", "age"),
        metrics=standard_metrics({name: variance(*of) for name, of in names.items()}),
    )  # fmt: skip


def small_canary(
    rng: np.random.Generator, plan: ExperimentPlan, viewers: int, crowd: Crowd, *, lift: float = 0.0
) -> Looks:
    """One canary of its own viewers, each assigned by the plan's weights."""
    edges = np.cumsum(list(plan.weights.values()))[:-1]
    arm = np.searchsorted(edges, rng.random(viewers), side="right").astype(np.int64)
    rows = outcomes(rng, sessions(rng, viewers, crowd), arm, np.where(arm == 0, lift, 0.0))
    return make_looks(plan, rows, hours=HOURS)


def shared_canaries(
    rng: np.random.Generator, plan: ExperimentPlan, viewers: int, crowd: Crowd, *, lifts: Sequence[float]
) -> dict[float, list[Looks]]:
    """By lift, as many canaries as the canary's share fits into one crowd: each takes another part, control is the rest.

    The parts' viewers have both outcomes, with and without the lift, so each canary is one random assignment of the crowd.
    """
    parts = round(1 / plan.weights[plan.canary])
    names = [f"part {number}" for number in range(parts)]
    split = ExperimentPlan(
        id=plan.id, line=plan.line, started_at=0.0, weights=dict.fromkeys(names, 1 / parts), metrics=plan.metrics,
        canary=names[0], control=names[1], segments=plan.segments, config=plan.config,
    )  # fmt: skip
    who, arm = sessions(rng, viewers, crowd), rng.integers(0, parts, viewers)
    plain = make_looks(split, outcomes(rng, who, arm, np.zeros(viewers)), hours=HOURS)
    rest = [_rests(look, names) for look in plain.hours]
    out = {}
    for lift in lifts:
        treated = make_looks(split, outcomes(rng, who, arm, np.full(viewers, lift)), hours=HOURS)
        out[lift] = [
            Looks(plan, tuple(
                HourLook(hour=look.hour, at=look.at, arms={plan.canary: look.arms[name], plan.control: others[number]})
                for look, others in zip(treated.hours, rest, strict=True)
            ))
            for number, name in enumerate(names)
        ]  # fmt: skip
    return out


def _rests(look: HourLook, names: Sequence[str]) -> list[ArmLook]:
    """For each part, all the other parts as one arm."""
    arms = [look.arms[name] for name in names]
    before, after = [arms[0]], [arms[-1]]
    for arm in arms[1:-1]:
        before.append(_both(before[-1], arm))
    for arm in arms[-2:0:-1]:
        after.append(_both(after[-1], arm))
    after.reverse()
    middle = [_both(before[n - 1], after[n]) for n in range(1, len(arms) - 1)]
    return [after[0], *middle, before[-1]]


def _both(one: ArmLook, other: ArmLook) -> ArmLook:
    def add(a: RatioSums | None, b: RatioSums | None) -> RatioSums | None:
        return a + b if a is not None and b is not None else None

    return ArmLook(
        viewers=one.viewers + other.viewers,
        newest_at=max((at for at in (one.newest_at, other.newest_at) if at is not None), default=None),
        metrics={name: add(sums, other.metrics[name]) for name, sums in one.metrics.items()},
        before={name: a + b if a and (b := other.before[name]) else None for name, a in one.before.items()},
        days={name: a + b if a and (b := other.days[name]) else None for name, a in one.days.items()},
        segments={
            group: {name: add(sums, other.segments[group][name]) for name, sums in of.items()}
            for group, of in one.segments.items()
        },
    )
