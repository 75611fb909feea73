"""When it happens: the job over the whole graph, its schedule and its automation; both stopped until someone starts them."""

from datetime import UTC, datetime, timedelta

import dagster as dg

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

learn = dg.define_asset_job(
    "learn",
    # training reads the samples; the corrected ones are materialised by who wants them
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets("samples_corrected")
    - dg.AssetSelection.groups("upkeep"),
    description="The whole way from stored events to a deployed release, for a range of event dates.",
)


upkeep = dg.define_asset_job(
    "upkeep",
    selection=dg.AssetSelection.groups("upkeep"),
    description="People who asked are forgotten, old days and unused files go.",
)
every_night = dg.ScheduleDefinition(job=upkeep, cron_schedule="0 3 * * *", execution_timezone="UTC")


def range_tags(first: str, last: str) -> dict[str, str]:
    """Run tags that make the partitioned assets materialise those days, first and last included."""
    return {RANGE_START: first, RANGE_END: last}


@dg.schedule(job=learn, cron_schedule="*/15 * * * *", execution_timezone="UTC")
def every_15_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Learn from yesterday (its labels may still have come) and today."""
    at = context.scheduled_execution_time.astimezone(UTC)
    return dg.RunRequest(run_key=at.isoformat(), tags=window_tags(at))


def window_tags(at: datetime) -> dict[str, str]:
    """The range of a run at that moment: the day before, and the day itself."""
    return range_tags((at - timedelta(days=1)).date().isoformat(), at.date().isoformat())


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
)
