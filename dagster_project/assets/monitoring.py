"""Group monitoring: do the ranker's inputs still look as they did in training; a report a candidate."""

import dagster as dg

from dagster_project.assets.models import Candidate
from dagster_project.metadata import table
from dagster_project.resources import Platform
from features.training_input import read_samples
from monitoring.drift import drift_report as compare


@dg.asset(
    group_name="monitoring", kinds={"evidently"}, automation_condition=dg.AutomationCondition.on_cron("0 6 * * *")
)
def drift_report(candidate: Candidate, platform: Platform) -> dg.MaterializeResult[None]:
    """The candidate's training period against what was shown since, feature by feature."""
    before, since = read_samples(platform.settings.lake).split(0.8)
    page = platform.settings.var / "drift" / f"{candidate.manifest.name}.html"
    report = compare(before.features, since.features, page)
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(page),
            "drifted_share": "not computable" if report.share is None else report.share,
            "drifted": ", ".join(report.drifted) or "none",
            "reference_rows": report.reference_rows,
            "current_rows": report.current_rows,
            "scores": table({n: getattr(row, n) for n in row.__struct_fields__} for row in report.features),
        }
    )
