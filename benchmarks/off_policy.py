"""`livefeed bench off-policy --json`: off-policy estimates of 30 policy pairs whose true difference is known.

Five pairs of policies in each of six worlds drawn from the prior; pages are laid out by the product's own arranging (pool
20 instead of 200), the truth of every choice is the simulator's exact expectation. Each pair is logged many times; each log
is judged by the check before the canary. `answered` are logs that it did not leave undecided; bars are on these, for the
doubly robust estimate, which decides. Intervals of shares are Clopper and Pearson's over logs. In `null` the candidate's
choices are worth exactly what the incumbent's are; in `alike` they are the incumbent's. Broken propensities are also what
the incumbent is believed to do, so comparing the two finds nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from benchmarks.off_policy_world import FAULTS, REWARDS, Log, Pair, broken, pairs, played
from benchmarks.result import Bar, Result, bar
from monitoring.off_policy import Method, doubly_robust, ips, naive, snips
from monitoring.off_policy_gate import OffPolicyReason, OffPolicyVerdict, judge
from monitoring.off_policy_log import LoggedPlaces
from registry.verdict import Outcome
from settings import Settings

WORLDS = 6
VIEWERS = 12_000  # of a log; 70,000 to 90,000 places
LOGS = 100  # of each pair
NULL_LOGS, FAULT_LOGS = 25, 4
LEVEL = 0.95
Bounded = tuple[float, float, float]  # estimate, low, high


def _of_method(method: Method) -> Callable[[LoggedPlaces], Bounded]:
    def bounded(places: LoggedPlaces) -> Bounded:
        found = method(places).difference
        return (found.value, *found.bounds(LEVEL))

    return bounded


def _by_place(places: LoggedPlaces) -> Bounded:
    """As if a viewer's places were independent."""
    return _of_method(doubly_robust)(replace(places, viewer=places.request))


def _normal(places: LoggedPlaces) -> Bounded:
    """Without the correction for skewness."""
    found = doubly_robust(places).difference
    return found.value, found.value - 1.959964 * found.se, found.value + 1.959964 * found.se


USED: dict[str, Callable[[LoggedPlaces], Bounded]] = {"dr": _of_method(doubly_robust), "snips": _of_method(snips)}
COMPARED: dict[str, Callable[[LoggedPlaces], Bounded]] = {
    "ips": _of_method(ips), "naive": _of_method(naive), "dr_by_place": _by_place, "dr_normal": _normal,
}  # fmt: skip
Figures = dict[str, float | None]


@dataclass
class Tally:
    """Counts over logs, and errors by method."""

    counts: Counter[str] = field(default_factory=Counter)
    squares: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, pair: Pair, log: Log, verdict: OffPolicyVerdict) -> None:
        """One log of a pair whose truth is known."""
        answered = verdict.outcome is not Outcome.UNDECIDED
        self.counts.update({"logs": 1, "answered": answered, f"outcome_{verdict.outcome}": 1, "stopped": verdict.stops})
        self.counts.update(f"reason_{one}" for one in verdict.reasons)
        for reward in REWARDS:
            one, other = pair.truth(reward)
            true = one - other
            for name, method in (USED | COMPARED).items():
                value, low, high = method(log.places[reward])
                self._count(f"{name}_{reward}", value - true, low <= true <= high, answered=answered)
                right = (low > 0 and true > 0) or (high < 0 and true < 0)
                self._count_sign(f"{name}_{reward}", right, said=low > 0 or high < 0, answered=answered)
                self.counts[f"{name}_{reward}_below"] += answered and high < true
                self.counts[f"{name}_{reward}_above"] += answered and low > true

    def _count(self, name: str, error: float, covered: bool, *, answered: bool) -> None:
        self.squares[name] += error**2
        self.counts[f"{name}_covered_all"] += covered
        self.counts[f"{name}_covered"] += covered and answered

    def _count_sign(self, name: str, right: bool, *, said: bool, answered: bool) -> None:
        self.counts[f"{name}_said"] += said and answered
        self.counts[f"{name}_right"] += right and answered


def share(name: str, count: int, runs: int) -> Figures:
    """A share with its 95 % interval; None of nothing."""
    if not runs:
        return {f"{name}_share": None, f"{name}_low": None, f"{name}_high": None}
    interval = binomtest(count, runs).proportion_ci()
    return {f"{name}_share": count / runs, f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Thirty pairs, their null twins, and broken propensities; on one core."""
    with threadpool_limits(1):
        rng, every = np.random.default_rng(seed), list(pairs(seed, WORLDS, say))
        known = judged(every, rng, LOGS, say)
        null = judged([pair.null() for pair in every], rng, NULL_LOGS, say)
        figures = _of(known) | _null(null) | alike(every, rng) | faults(every, rng)
    figures |= {"pairs": len(every), **_weak(every)}
    baseline = _baseline(known)
    return Result(bench="off-policy", figures=figures, baseline=baseline, bars=_bars(figures | baseline), seed=seed)


def judged(every: Iterable[Pair], rng: np.random.Generator, logs: int, say: Callable[[str], None]) -> Tally:
    """So many logs of each pair, each with the check's verdict."""
    tally = Tally()
    for pair in every:
        before = tally.counts.copy()
        for _ in range(logs):
            log = played(pair, rng, viewers=VIEWERS)
            tally.add(pair, log, judge(log.places))
        new = tally.counts - before
        true = {reward: pair.truth(reward) for reward in REWARDS}
        worth = ", ".join(f"{name} {one:.4f} against {other:.4f}" for name, (one, other) in true.items())
        said = ", ".join(f"{name} {count}" for name, count in new.items() if name.startswith(("outcome_", "reason_")))
        covered = ", ".join(f"{name} {new[f'dr_{name}_covered_all']}" for name in REWARDS)
        say(f"{pair.name}: {worth}; {said}; covered {covered} of {logs}")
    return tally


def _of(known: Tally) -> Figures:
    counts, answered = known.counts, known.counts["answered"]
    figures: Figures = {"logs": counts["logs"], **share("answered", answered, counts["logs"])}
    for name in USED:
        for reward in REWARDS:
            what = f"{name}_{reward}"
            figures |= share(f"{what}_covered", counts[f"{what}_covered"], answered)
            figures |= share(f"{what}_covered_all", counts[f"{what}_covered_all"], counts["logs"])
            figures |= share(f"{what}_sign_right", counts[f"{what}_right"], counts[f"{what}_said"])
            figures |= {
                f"{what}_{side}_share": counts[f"{what}_{side}"] / max(answered, 1) for side in ("below", "above")
            }
            figures |= {f"{what}_said": counts[f"{what}_said"], f"{what}_rmse": _rmse(known, what)}
        pooled = {key: sum(counts[f"{name}_{r}_{key}"] for r in REWARDS) for key in ("covered", "right", "said")}
        figures |= share(f"{name}_covered", pooled["covered"], answered * len(REWARDS))
        figures |= share(f"{name}_sign_right", pooled["right"], pooled["said"])
    broken_found = counts[f"reason_{OffPolicyReason.PROPENSITY_BROKEN}"]
    figures |= share("unbroken_called_broken", broken_found, counts["logs"])
    figures |= {f"{name}_share": counts[name] / counts["logs"] for name in sorted(counts) if name.startswith("reason_")}
    return figures


def _rmse(known: Tally, what: str) -> float:
    return float(np.sqrt(known.squares[what] / known.counts["logs"]))


def _baseline(known: Tally) -> Figures:
    """The same logs by estimates and intervals that are not used."""
    counts, out = known.counts, Figures()
    for name in COMPARED:
        for reward in REWARDS:
            what = f"{name}_{reward}"
            out |= share(f"{what}_covered", counts[f"{what}_covered"], counts["answered"])
            out |= share(f"{what}_sign_right", counts[f"{what}_right"], counts[f"{what}_said"])
            out |= {
                f"{what}_{side}_share": counts[f"{what}_{side}"] / max(counts["answered"], 1)
                for side in ("below", "above")
            }
            out[f"{what}_rmse"] = _rmse(known, what)
    return out


def _null(null: Tally) -> Figures:
    counts, answered = null.counts, null.counts["answered"]
    figures = share("null_stopped", counts["stopped"], counts["logs"]) | {"null_logs": counts["logs"]}
    for reward in REWARDS:
        figures |= share(f"null_dr_{reward}_said_different", counts[f"dr_{reward}_said"], answered)
    return figures | share("null_answered", answered, counts["logs"])


def alike(every: Iterable[Pair], rng: np.random.Generator) -> Figures:
    """Candidates that choose as the incumbent: every difference must be exactly zero, and nothing stopped."""
    largest, stopped = 0.0, 0
    for pair in every:
        log = played(pair.same(), rng, viewers=VIEWERS)
        stopped += judge(log.places).stops
        ends = [
            end
            for one in log.places.values()
            for m in (doubly_robust, snips)
            for end in m(one).difference.bounds(LEVEL)
        ]
        largest = float(max(largest, *map(abs, ends)))
    return {"alike_largest_bound": largest, "alike_stopped": stopped}


def faults(every: Iterable[Pair], rng: np.random.Generator) -> Figures:
    """Of logs with each fault, how many are noticed."""
    noticed: Counter[str] = Counter()
    runs = 0
    for pair in every:
        for _ in range(FAULT_LOGS):
            log = played(pair, rng, viewers=VIEWERS, predicted=False)
            runs += 1
            verdicts = {fault: judge(broken(log, fault, rng)) for fault in FAULTS}
            noticed.update(fault for fault, one in verdicts.items() if OffPolicyReason.PROPENSITY_BROKEN in one.reasons)
    figures: Figures = {"fault_runs": runs}
    for fault in FAULTS:
        figures |= share(f"fault_{fault}_noticed", noticed[fault], runs)
    return figures


def _weak(every: Iterable[Pair]) -> Figures:
    """How different the pairs are, as shares of the incumbent's worth."""
    gains = [(truth[0] - truth[1]) / truth[1] for pair in every for truth in [pair.truth("click")]]
    return {"true_lift_least": float(min(gains)), "true_lift_most": float(max(gains))}


def _bars(figures: Figures) -> tuple[Bar, ...]:
    wanted: list[tuple[str, str, float]] = [
        ("dr_covered_share", ">=", 0.93), ("dr_covered_share", "<=", 0.97), ("dr_click_covered_share", ">=", 0.93),
        ("dr_click_covered_share", "<=", 0.97), ("dr_completion_covered_share", ">=", 0.93),
        ("dr_completion_covered_share", "<=", 0.97), ("snips_covered_share", ">=", 0.93), ("snips_covered_share", "<=", 0.97),
        ("dr_sign_right_share", ">=", 0.95), ("snips_sign_right_share", ">=", 0.95), ("null_stopped_share", "<=", 0.05),
        ("alike_largest_bound", "<=", 0.0), ("unbroken_called_broken_share", "<=", 0.005),
        ("naive_click_covered_share", "<=", 0.6),  # what ignores the odds must be caught, or the harness catches nothing
        *((f"fault_{fault}_noticed_share", ">=", 1.0) for fault in FAULTS),
    ]  # fmt: skip
    return tuple(bar(figures, *one) for one in wanted)
