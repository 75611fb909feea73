"""`livefeed bench audit --json`: how often the bias audit blocks where nothing is unfair, and how surely where something is.

Every month is judged by the audit's own functions, with the month before in memory; only the viewers are drawn. Four metrics
by twelve languages of 100 to 400,000 viewers; intervals are Clopper and Pearson's. Beside it the raw four-fifths rule, and
single tests without correction, on the same months. For creators: what a ranker makes of a group's share of exposure, judged
by the rule for changes and by the plain difference to the incumbent.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np
from scipy.stats import binomtest

from benchmarks.audit_exposure import CASES, months
from benchmarks.audit_world import HABITS, Crowd, beside, month, sizes
from benchmarks.result import Bar, Result, bar
from monitoring.audit_cells import judge_change, judge_level
from monitoring.audit_record import AuditConfig, AuditReason, AuditRecord, Check, Family, concluded
from monitoring.audit_stats import group_to_rest
from monitoring.stats import RatioSums
from registry.verdict import Outcome
from settings import Settings

CONFIG = AuditConfig()
METRICS = ("ctr", "completion_rate", "session_depth", "session_return")
MONTHS, UNFAIR_MONTHS, CHANGES = 2_500, 2_500, 1_000
SMALL = {
    "one": 1_000,
    "two": 1_000,
    "three": 1_000,
}  # viewers: a platform at the floor, where two open months count most
WRONGED, WRONGED_VIEWERS = "l05", 5_000
RATIOS = {0.70: "ratio70", 0.80: "ratio80"}  # 0.80 lies on the line: there the error is what alpha says
HARMLESS = ("same", "same_over", "same_under", "corrected", "corrected_past")  # of audit_exposure.CASES
NORMAL = NormalDist()
Figures = dict[str, float | None]


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Fair and unfair months, and candidates that change nothing or something, for two kinds of viewers."""
    figures: Figures = {}
    baseline: Figures = {}
    for number, (kind, habits) in enumerate(HABITS.items()):
        rng = np.random.default_rng([seed, number])
        crowd = Crowd.of(rng, habits)
        figures[f"{kind}_cv2"] = crowd.cv2
        fair, compared = fair_months(rng, crowd, sizes())
        small, _ = fair_months(rng, crowd, SMALL)
        figures |= _shares(f"{kind}_fair", fair, MONTHS) | _shares(f"{kind}_small", small, MONTHS)
        baseline |= _shares(f"{kind}_fair", compared, MONTHS)
        say(f"{kind}: {fair['failed']} of {MONTHS} fair months failed, {compared['four_fifths']} by four fifths alone")
        for ratio, name in RATIOS.items():
            found = unfair_months(rng, crowd, crowd.thinned(rng, ratio))
            figures |= _shares(f"{kind}_{name}", found, UNFAIR_MONTHS)
            say(f"{kind}: {found['failed']} of {UNFAIR_MONTHS} months failed with a true ratio of {ratio}")
        figures |= _changed(rng, kind, crowd)
        say(f"{kind}: changes judged")
    for number, (name, ratios) in enumerate(CASES.items()):
        found = months(np.random.default_rng([seed, 100 + number]), ratios, CHANGES)
        baseline[f"exposure_{name}_difference_failed_share"] = found.pop("difference") / CHANGES
        figures |= _shares(f"exposure_{name}", found, CHANGES)
        say(f"creators {ratios[0]:g} -> {ratios[1]:g} of their merit: {found['blocked']} of {CHANGES} months blocked")
    return Result(bench="audit", figures=figures, baseline=baseline, bars=_bars(figures | baseline), seed=seed)


def fair_months(
    rng: np.random.Generator, crowd: Crowd, viewers: Mapping[str, int]
) -> tuple[Counter[str], Counter[str]]:
    """Months in a row without disparity: the audit's outcomes, and what other rules would have said of them."""
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    before: AuditRecord | None = None
    for _ in range(MONTHS):
        sums = {metric: month(rng, crowd, viewers) for metric in METRICS}
        before = judged(sums, before)
        counts.update(_outcome(before))
        # One metric alone, as the figures that are held against it were: four would fail more often still.
        others.update(_raw_rules(sums["ctr"]))
    return counts, others


def unfair_months(rng: np.random.Generator, crowd: Crowd, wronged: Crowd) -> Counter[str]:
    """Single months in which one language of 5,000 viewers clicks less; the others are as everybody."""
    counts: Counter[str] = Counter()
    viewers = sizes() | {WRONGED: WRONGED_VIEWERS}
    for _ in range(UNFAIR_MONTHS):
        record = judged({"ctr": month(rng, crowd, viewers, other={WRONGED: wronged})}, None)
        counts.update(_outcome(record))
        cell = next(one for one in record.cells if one.group == WRONGED)
        counts.update(cell_failed=cell.outcome is Outcome.FAIL, cell_passed=cell.outcome is Outcome.PASS)
    return counts


def judged(sums: Mapping[str, Mapping[str, RatioSums]], before: AuditRecord | None) -> AuditRecord:
    """A month's record by the audit's own functions."""
    found = [
        judge_level(Family("consumer", "language", metric), groups, config=CONFIG, before=before)
        for metric, groups in sums.items()
    ]
    cells = tuple(cell for one in found for cell in one.cells)
    outcome, reasons, sentence = concluded(cells, [trouble for one in found for trouble in one.troubles])
    return AuditRecord(
        line="bench", month="", at=0.0, source="traffic", outcome=outcome, reasons=reasons, sentence=sentence,
        config=CONFIG, cells=cells,
    )  # fmt: skip


def _outcome(record: AuditRecord) -> Counter[str]:
    return Counter({
        "failed": record.outcome is Outcome.FAIL, "held": record.outcome is Outcome.UNDECIDED,
        "passed": record.outcome is Outcome.PASS, "failed_held_again": AuditReason.HELD_AGAIN in record.reasons,
    })  # fmt: skip


def _raw_rules(sums: Mapping[str, RatioSums]) -> Counter[str]:
    """Any group under four fifths of the best one; any group below the rest with p < 0.05, not corrected."""
    rates = {name: one.ratio for name, one in sums.items()}
    best = max(rates.values())
    whole = list(sums.items())
    low = False
    for name, one in whole:
        rest = RatioSums()
        for other, sum_ in whole:
            rest = rest if other == name else rest + sum_
        low |= NORMAL.cdf(group_to_rest(one, rest).z(1.0)) < 0.05
    return Counter(four_fifths=min(rates.values()) / best < 0.8, uncorrected=low)


def _changed(rng: np.random.Generator, kind: str, crowd: Crowd) -> Figures:
    """Candidates against incumbents, viewers split in halves: how often a worsening is said to be proved."""
    figures: Figures = {}
    for name, ratio in (("same", 1.0), ("worse30", 0.70)):
        wronged = crowd if ratio == 1.0 else crowd.thinned(rng, ratio)
        failed = sum(_worsened(rng, crowd, wronged) for _ in range(CHANGES))
        figures |= _share(f"{kind}_change_{name}_failed", failed, CHANGES)
    return figures


def _worsened(rng: np.random.Generator, crowd: Crowd, wronged: Crowd) -> bool:
    """Whether one language of 5,000 viewers a side is found to be worse off (or, where nobody is, any language)."""
    viewers = {name: max(n // 2, 1) for name, n in sizes().items()} | {WRONGED: WRONGED_VIEWERS}
    ours, theirs = month(rng, crowd, viewers, other={WRONGED: wronged}), month(rng, crowd, viewers)
    family = Family("consumer", "language", "ctr")
    level = judge_level(family, ours, config=CONFIG)
    moments = {name: beside(ours[name], theirs[name]) for name in ours}
    cells = judge_change(family, moments, members=level.members, config=CONFIG).cells
    wanted = {WRONGED} if wronged is not crowd else {cell.group for cell in cells}
    return any(one.outcome is Outcome.FAIL and one.check is Check.CHANGE and one.group in wanted for one in cells)


def _shares(name: str, counts: Counter[str], runs: int) -> Figures:
    out: Figures = {f"{name}_months": runs}
    for what in counts:
        out |= _share(f"{name}_{what}", counts[what], runs)
    return out


def _share(name: str, count: int, runs: int) -> Figures:
    """A share with its 95 % interval."""
    interval = binomtest(count, runs).proportion_ci()
    low, high = (float(one) if math.isfinite(one) else None for one in interval)
    return {f"{name}_share": count / runs, f"{name}_low": low, f"{name}_high": high}


def _bars(figures: Figures) -> tuple[Bar, ...]:
    bars = [
        ("mild_fair_failed_share", "<=", 0.01),
        ("strong_fair_failed_share", "<=", 0.01),
        ("mild_fair_four_fifths_share", ">=", 0.10),
        ("strong_fair_four_fifths_share", ">=", 0.40),
        ("mild_ratio70_cell_failed_share", ">=", 0.95),
        ("strong_ratio70_cell_failed_share", ">=", 0.95),
        ("mild_ratio80_cell_failed_share", "<=", 0.05),
        ("strong_ratio80_cell_failed_share", "<=", 0.05),
        # on the line the nominal error is 0.05 itself: its interval must not lie above
        ("mild_ratio80_cell_passed_low", "<=", 0.05),
        ("strong_ratio80_cell_passed_low", "<=", 0.05),
        ("mild_change_same_failed_share", "<=", 0.01),
        ("strong_change_same_failed_share", "<=", 0.01),
        *((f"exposure_{name}_blocked_share", "<=", 0.01) for name in HARMLESS),
        ("exposure_at_the_line_change_low", "<=", 0.05),
        ("exposure_worse30_blocked_share", ">=", 0.95),
        ("exposure_worse30_from_over_blocked_share", ">=", 0.95),
        (
            "exposure_corrected_difference_failed_share",
            ">=",
            0.95,
        ),  # else the bench would tell the rules apart by nothing
    ]
    return tuple(bar(figures, *one) for one in bars)
