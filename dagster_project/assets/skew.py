"""Group monitoring: do the logged features agree with history; training waits for the answer."""

import dagster as dg

from dagster_project.assets.features import samples
from dagster_project.metadata import plain, skew_table
from dagster_project.resources import Platform, logs_to
from monitoring.skew import SkewRecord
from monitoring.skew_report import PAGE, report_skew


@dg.asset(deps=[samples], group_name="monitoring", kinds={"evidently"})
def skew_report(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[SkewRecord]:
    """Logged against recomputed values of the newest impressions, feature by feature."""
    out = platform.settings.var / "skew"
    record = report_skew(platform.settings.lake, out, report=logs_to(context))
    figures = {"outcome": str(record.outcome), "sentence": record.sentence, "sampled": record.sampled}
    return dg.MaterializeResult(
        value=record,
        metadata={
            "page": dg.MetadataValue.path(out / PAGE),
            **plain(figures | {"skewed": ", ".join(record.skewed) or "none"}),
            "features": skew_table(record),
        },
    )
