"""The offline gate: is a candidate better than what needs no training? Evidence first, then pass, fail or undecided.

The two-tower's recall must beat the popularity list's; the ranker's AUC must not be worse than running user-plus-item
means. Both are compared on the same redrawn viewers (paired bootstrap). What could not be computed never passes.
"""

import math
from dataclasses import dataclass

import numpy as np

from monitoring.dials import Allowed, check_dials
from monitoring.stats import Interval, auc_difference, bootstrap, recall_difference
from registry.evaluation import Evaluation, RankingRows, RetrievalRows
from registry.verdict import Evidence, Outcome, Reason, Verdict

CLICK = "click"
_ALLOWED = {
    "resamples": Allowed(100), "level": Allowed(0.5, 1, high_counts=False), "min_viewers": Allowed(2),
    "auc_margin": Allowed(0, 0.5, high_counts=False),
}  # fmt: skip


@dataclass(frozen=True)
class GateConfig:
    """The gate's dials; BadPlan for one that would switch a comparison off."""

    resamples: int = 1000  # percentiles of 95 % then move by about a tenth of the interval's width from seed to seed
    level: float = 0.95
    min_viewers: int = 30  # with fewer, the percentile interval of the bootstrap is too narrow to be believed
    # AUC the ranker may lose and still count as not worse; an interval that reaches further down is undecided.
    auc_margin: float = 0.02

    def __post_init__(self) -> None:
        check_dials("the offline gate", self, _ALLOWED)


@dataclass(frozen=True)
class Finding:
    """One comparison and what it says on its own."""

    evidence: Evidence
    outcome: Outcome
    reason: Reason


def judge_offline(
    evaluation: Evaluation, *, seed: int, config: GateConfig | None = None, decided_at: str = ""
) -> Verdict:
    """The verdict over a candidate's evaluation; `decided_at` is ISO 8601 UTC and comes from the caller's clock.

    Any failing comparison fails it, else any undecided one leaves it undecided, else it passes.
    """
    config = config or GateConfig()
    findings = [judge_retrieval(evaluation.retrieval, seed=seed, config=config)]
    findings += [judge_ranking(name, rows, seed=seed, config=config) for name, rows in decisive(evaluation).items()]
    if len(findings) == 1:
        findings.append(_unknown("auc", 0, Reason.NO_DATA))
    outcomes = {finding.outcome for finding in findings}
    worst = next(outcome for outcome in (Outcome.FAIL, Outcome.UNDECIDED, Outcome.PASS) if outcome in outcomes)
    reasons = tuple(dict.fromkeys(finding.reason for finding in findings if finding.outcome is worst))
    return Verdict(
        outcome=worst, reasons=reasons, evidence=tuple(finding.evidence for finding in findings), decided_at=decided_at
    )


def decisive(evaluation: Evaluation) -> dict[str, RankingRows]:
    """The objectives that decide: click where it varies, else every objective that does (rated data has no clicks)."""
    varying = {name: rows for name, rows in evaluation.ranking.items() if len(np.unique(np.asarray(rows.y) > 0)) == 2}
    return {CLICK: varying[CLICK]} if CLICK in varying else varying


def judge_retrieval(rows: RetrievalRows, *, seed: int, config: GateConfig) -> Finding:
    """Recall against popularity over viewers: pass only when the whole interval of the difference is above zero."""
    name = f"recall_at_{rows.k}"
    viewers = len(rows.user)
    if not viewers or not np.asarray(rows.positives).sum():
        return _unknown(name, viewers, Reason.NO_DATA)
    statistic = recall_difference(rows.positives, rows.hits, rows.popularity_hits)
    interval = bootstrap(statistic, viewers, resamples=config.resamples, seed=seed, level=config.level)
    return _finding(name, rows.recall(), rows.popularity_recall(), interval, viewers, margin=0.0, config=config)


def judge_ranking(objective: str, rows: RankingRows, *, seed: int, config: GateConfig) -> Finding:
    """AUC against the baseline's over viewers: pass unless the interval of the difference reaches below the margin."""
    name = f"auc_{objective}"
    if not np.isfinite(rows.score).all() or not np.isfinite(rows.baseline).all():
        return _unknown(name, len(np.unique(rows.user)), Reason.NOT_A_NUMBER)
    statistic, viewers = auc_difference(rows.user, np.asarray(rows.y) > 0, rows.score, rows.baseline)
    interval = bootstrap(statistic, viewers, resamples=config.resamples, seed=seed, level=config.level)
    return _finding(name, rows.auc(), rows.baseline_auc(), interval, viewers, margin=config.auc_margin, config=config)


def _finding(
    metric: str,
    candidate: float | None,
    baseline: float | None,
    interval: Interval,
    viewers: int,
    *,
    margin: float,
    config: GateConfig,
) -> Finding:
    low, high = _finite(interval.low), _finite(interval.high)
    evidence = Evidence(
        metric=metric, candidate=_finite(candidate), baseline=_finite(baseline), low=low, high=high, n=viewers
    )
    if viewers < config.min_viewers:
        return Finding(evidence, Outcome.UNDECIDED, Reason.TOO_FEW_VIEWERS)
    if low is None or high is None or evidence.candidate is None or evidence.baseline is None:
        return Finding(evidence, Outcome.UNDECIDED, Reason.NOT_A_NUMBER)
    if high < 0:
        return Finding(evidence, Outcome.FAIL, Reason.WORSE_THAN_BASELINE)
    if low > -margin:
        return Finding(evidence, Outcome.PASS, Reason.BEATS_BASELINE if low > 0 else Reason.INTERVAL_COVERS_ZERO)
    return Finding(evidence, Outcome.UNDECIDED, Reason.INTERVAL_COVERS_ZERO)


def _unknown(metric: str, viewers: int, reason: Reason) -> Finding:
    evidence = Evidence(metric=metric, candidate=None, baseline=None, low=None, high=None, n=viewers)
    return Finding(evidence, Outcome.UNDECIDED, reason)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
