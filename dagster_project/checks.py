"""What must hold before the pipeline goes on: each check blocks what lies downstream of its asset."""

import math

import dagster as dg

from dagster_project.assets.features import samples
from dagster_project.assets.models import Candidate, candidate, verdict
from dagster_project.assets.skew import skew_report
from dagster_project.resources import Platform
from monitoring.skew import SkewRecord
from registry.evaluation import Evaluation
from registry.verdict import Outcome, Verdict
from release.errors import BadCandidate
from release.publish import check as check_folder
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


CHECKS = (
    there_are_samples, features_agree, losses_are_numbers, better_than_popularity, export_is_readable, gate_passes,
)  # fmt: skip
