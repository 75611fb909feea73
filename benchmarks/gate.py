"""`livefeed bench gate --json`: how often the canary's gate is wrong, how soon it is right, and that it holds when blind.

Every canary is judged by the real gate, look by look; only the viewers are drawn. Intervals are Clopper and Pearson's.
In `aa` and `strong` a canary of about 2,000 viewers meets 6,000, both arms alike; `strong` has click rates that differ
more. `fresh` and `fresh_strong` are the same with what the product runs by default: a third arm, of 2,000, that serves what
control serves, so that the gate can also be wrong in saying that these two differ. In the others 5,000 of a crowd meet the
other 95,000. The plans of the first four are set so that nothing but the gate's tests keeps a canary from promotion: there
is power enough, half the mde is less than 1.96 standard errors, and the guards' margin is wide.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest

from benchmarks.gate_broken import broken_decisions
from benchmarks.gate_world import HOURS, Crowd, planned, shared_canaries, small_canary
from benchmarks.result import Bar, Result, bar
from monitoring.canary_gate import Action, Decision, judge_all
from monitoring.canary_plan import Audit, CanaryConfig, Looks
from monitoring.lift import lift
from monitoring.sample_ratio import final_p, sequential_p
from monitoring.stats import RatioSums
from registry.verdict import Outcome, Reason
from settings import Settings

AUDIT = Audit("bench", Outcome.PASS, 0.0)
AA_RUNS = 2_000  # canaries of each A/A crowd
CROWDS = 60  # of 100,000 viewers, each with 20 canaries a lift
LIFTS = {0.0: "same", 0.05: "plus5", -0.10: "minus10", -0.20: "minus20"}
RATIO_RUNS = 20_000
BROKEN_CANARIES = 10
WRONG = ("promoted_or_rolled_back", "gained_or_rolled_back", "promoted", "rolled_back", "held", "underpowered")
ALIKE = ("aa", "strong", "fresh", "fresh_strong")
FRESH = (*WRONG, "held_for_baseline")
Z = 1.959964  # two-sided 5 %
Figures = dict[str, float | None]


@dataclass
class Tally:
    """What happened to the canaries of one kind."""

    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rollback_hours: list[int] = field(default_factory=list)

    def add(self, looks: Looks) -> None:
        """Judge a canary with the gate and beside it with the tests that the gate is not."""
        decisions = list(judge_all(looks, audit=AUDIT))
        last = decisions[-1]
        self.runs += 1
        promoted, back = last.action is Action.PROMOTE, last.action is Action.ROLLBACK
        self.counts.update({
            "promoted": promoted, "rolled_back": back, "promoted_or_rolled_back": promoted or back,
            "held": any(one.action is Action.HOLD for one in decisions),
            "held_for_baseline": any(Reason.BASELINE_DIFFERS in one.verdict.reasons for one in decisions),
            "underpowered": Reason.UNDERPOWERED in last.verdict.reasons,
            "gained_or_rolled_back": back or _gained(last),
        })  # fmt: skip
        self.counts.update(last.verdict.reasons if not promoted else ())
        self.counts.update(compared(looks))
        if back:
            self.rollback_hours.append(last.hour)

    def share(self, what: str) -> float:
        """Of the canaries, how many."""
        return self.counts[what] / self.runs

    def figures(self, name: str, whats: Iterable[str]) -> Figures:
        """Shares with their 95 % intervals."""
        out: Figures = {f"{name}_runs": self.runs}
        for what in whats:
            out |= share(f"{name}_{what}", self.counts[what], self.runs)
        return out


def share(name: str, count: int, runs: int) -> Figures:
    """A share with its interval."""
    interval = binomtest(count, runs).proportion_ci()
    return {f"{name}_share": count / runs, f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def _gained(last: Decision) -> bool:
    """Whether the deciding test passed, whatever else stood against a promotion."""
    one = next((e for e in last.verdict.evidence if e.check == "gain"), None)
    if one is None or one.p is None or one.estimate is None or one.threshold is None:
        return False
    return one.p < 0.05 and one.estimate >= one.threshold


def compared(looks: Looks) -> dict[str, bool]:
    """The tests that people use instead: per impression as if independent, and the delta method at every look.

    With the gate's own patience: none is asked before 100 clicks in each arm. A plain fixed test at the end is beside them.
    """
    naive = delta = False
    last = math.nan
    for look in looks.hours:
        one, other = look.arms["canary"].metrics["ctr"], look.arms["stable"].metrics["ctr"]
        if one is None or other is None or min(one.y, other.y) < 100:
            continue
        last = lift(one, other).z()
        naive |= abs(per_impression(one, other)) > Z
        delta |= abs(last) > Z
    return {
        "naive_hourly": naive, "delta_hourly": delta, "fixed_different": abs(last) > Z, "fixed_better": last > Z,
    }  # fmt: skip


def per_impression(one: RatioSums, other: RatioSums) -> float:
    """The score of two click rates with impressions taken for independent."""
    rate = (one.y + other.y) / (one.x + other.x)
    return (one.ratio - other.ratio) / math.sqrt(rate * (1 - rate) * (1 / one.x + 1 / other.x))


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """A/A canaries, power and harm, the sample ratio, and broken input."""
    mild, uneven = Crowd(concentration=20.0), Crowd(concentration=5.0)
    dials, wide = CanaryConfig(mde=0.07, margin=0.1), CanaryConfig(mde=0.1, margin=0.1)
    aa = same_arms(seed, mild, dials, say, "aa")
    strong = same_arms(seed + 1, uneven, wide, say, "strong")
    lifted = by_lift(seed + 2, say)
    figures = _figures(aa, strong, lifted) | ratios(seed + 3) | held(seed + 4)
    figures |= same_arms(seed + 5, mild, dials, say, "fresh", baseline=2_000).figures("fresh", FRESH)
    figures |= same_arms(seed + 6, uneven, wide, say, "fresh_strong", baseline=2_000).figures("fresh_strong", FRESH)
    say("sample ratio and broken input done")
    tests = ("naive_hourly", "delta_hourly", "fixed_different")
    baseline = aa.figures("aa", tests) | strong.figures("strong", tests)
    return Result(bench="gate", figures=figures, baseline=baseline, bars=_bars(figures | baseline), seed=seed)


def _figures(aa: Tally, strong: Tally, lifted: dict[float, Tally]) -> Figures:
    figures = aa.figures("aa", WRONG) | strong.figures("strong", WRONG)
    for one, name in LIFTS.items():
        figures |= lifted[one].figures(name, ("promoted", "rolled_back", "held"))
        figures[f"{name}_rollback_median_hour"] = (
            float(np.median(lifted[one].rollback_hours)) if lifted[one].rollback_hours else None
        )
    figures |= lifted[0.0].figures("same", ("promoted_or_rolled_back",))
    better = lifted[0.05]
    figures |= better.figures("plus5", ("fixed_better", "gained_or_rolled_back"))
    return figures | {
        f"plus5_stopped_by_{why}_share": better.share(why)
        for why in (Reason.NOT_BETTER, Reason.NOT_SHOWN_NON_INFERIOR, Reason.FADING, Reason.SEGMENT_HARMED)
    }


def _bars(figures: Figures) -> tuple[Bar, ...]:
    alike = {"promoted_or_rolled_back": 0.06, "gained_or_rolled_back": 0.06, "rolled_back": 0.05}
    bars = [
        *((f"{name}_{what}_share", "<=", most) for name in ALIKE for what, most in alike.items()),
        ("same_promoted_or_rolled_back_share", "<=", 0.06),
        ("aa_naive_hourly_share", ">", 0.60),
        ("aa_delta_hourly_share", ">", 0.22),
        ("plus5_fixed_better_share", ">=", 0.80),
        ("minus10_rolled_back_share", ">=", 0.98),
        ("minus10_rollback_median_hour", "<=", 14),
        ("minus20_rolled_back_share", ">=", 0.98),
        ("minus20_rollback_median_hour", "<=", 6),
        ("ratio_false_alarm_share", "<=", 0.002),
        ("ratio_found_4_for_5_of_20000_share", ">=", 0.98),
        ("ratio_found_4.5_for_5_of_50000_share", ">=", 0.95),
        ("broken_held_share", ">=", 1.0),
        ("broken_promoted_share", "<=", 0.0),
        ("unbroken_promoted_share", ">=", 1.0),
    ]
    return tuple(bar(figures, *one) for one in bars)


def same_arms(
    seed: int, crowd: Crowd, config: CanaryConfig, say: Callable[[str], None], name: str, *, baseline: int = 0
) -> Tally:
    """Canaries that do not differ from control, each with viewers of its own."""
    rng, tally = np.random.default_rng(seed), Tally()
    plan = planned(2_000, 6_000, config, crowd, seed=seed, baseline=baseline)
    for number in range(AA_RUNS):
        tally.add(small_canary(rng, plan, 8_000 + baseline, crowd))
        if (number + 1) % 500 == 0:
            say(f"{name}: {number + 1} canaries, {tally.share('promoted_or_rolled_back'):.2%} decided")
    return tally


def by_lift(seed: int, say: Callable[[str], None]) -> dict[float, Tally]:
    """Canaries of 5,000 against 95,000 by their true lift."""
    rng, crowd = np.random.default_rng(seed), Crowd()
    plan = planned(5_000, 95_000, CanaryConfig(), crowd, seed=seed)
    tallies = {one: Tally() for one in LIFTS}
    for number in range(CROWDS):
        for one, canaries in shared_canaries(rng, plan, 100_000, crowd, lifts=tuple(LIFTS)).items():
            for looks in canaries:
                tallies[one].add(looks)
        if (number + 1) % 10 == 0:
            seen = ", ".join(f"{n} {tallies[one].share('promoted'):.1%} promoted" for one, n in LIFTS.items())
            say(f"crowd {number + 1} of {CROWDS}: {seen}")
    return tallies


def ratios(seed: int) -> Figures:
    """Sample ratio at 48 looks: alarms where the weights are kept, and found mismatches."""
    rng = np.random.default_rng(seed)
    alarm, peeked = _alarms(rng, viewers=20_000, true=0.05)
    found, _ = _alarms(rng, viewers=20_000, true=0.04)
    found_more, _ = _alarms(rng, viewers=50_000, true=0.045)
    return (
        share("ratio_false_alarm", alarm, RATIO_RUNS)
        | share("ratio_peeked_chi2_false_alarm", peeked, RATIO_RUNS)
        | share("ratio_found_4_for_5_of_20000", found, RATIO_RUNS)
        | share("ratio_found_4.5_for_5_of_50000", found_more, RATIO_RUNS)
    )


def _alarms(rng: np.random.Generator, *, viewers: int, true: float, weight: float = 0.05) -> tuple[int, int]:
    """Of RATIO_RUNS, how often the gate's two checks say so, and how often a chi-squared at every look does."""
    arriving = np.full(HOURS, viewers // HOURS) + (np.arange(HOURS) < viewers % HOURS)
    canary = np.cumsum(rng.binomial(arriving, true, (RATIO_RUNS, HOURS)), axis=1)
    counts = np.stack([canary, np.cumsum(arriving) - canary], axis=-1)
    weights, alpha = (weight, 1 - weight), CanaryConfig().ratio_alpha
    chi2 = final_p(counts, weights) < alpha
    gate = (sequential_p(counts, weights) < alpha).any(1) | chi2[:, -1]
    return int(gate.sum()), int(chi2.any(1).sum())


def held(seed: int) -> Figures:
    """Every broken input, made from canaries that the gate promotes when nothing is broken."""
    rng, crowd = np.random.default_rng(seed), Crowd()
    plan = planned(2_000, 6_000, CanaryConfig(mde=0.10, margin=0.15), crowd, seed=seed)
    canaries = [small_canary(rng, plan, 8_000, crowd, lift=0.3) for _ in range(BROKEN_CANARIES)]
    unbroken = [list(judge_all(looks, audit=AUDIT))[-1].action for looks in canaries]
    actions: Sequence[Action] = [one.action for looks in canaries for _, one in broken_decisions(looks, AUDIT)]
    figures = share("broken_held", actions.count(Action.HOLD), len(actions))
    figures |= share("broken_promoted", actions.count(Action.PROMOTE), len(actions))
    figures |= share("unbroken_promoted", unbroken.count(Action.PROMOTE), len(unbroken))
    return figures | {"broken_runs": len(actions)}
