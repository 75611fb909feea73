"""When it happens: the job over the whole graph, its schedule and its automation; both stopped until someone starts them."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dagster_project.resources import Platform

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

learn = dg.define_asset_job(
    "learn",
    # training reads the samples; the corrected ones are materialised by who wants them
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets("samples_corrected")
    - dg.AssetSelection.groups("upkeep", "canary", "audit"),
    description="The whole way from stored events to a deployed release, for a range of event dates.",
)


upkeep = dg.define_asset_job(
    "upkeep",
    selection=dg.AssetSelection.groups("upkeep"),
    description="People who asked are forgotten, old days and unused files go.",
)
every_night = dg.ScheduleDefinition(job=upkeep, cron_schedule="0 3 * * *", execution_timezone="UTC")


canary = dg.define_asset_job(
    "canary",
    selection=dg.AssetSelection.groups("canary"),
    description="Looks at the running canary, decides and acts; harmless when nothing is due.",
)
every_hour = dg.ScheduleDefinition(job=canary, cron_schedule="7 * * * *", execution_timezone="UTC")

audit = dg.define_asset_job(
    "audit",
    selection=dg.AssetSelection.groups("audit"),
    description="The bias audit of a month, by language, age band and gender.",
)
every_month = dg.build_schedule_from_partitioned_job(audit, name="every_month", day_of_month=1, hour_of_day=4)


@dg.sensor(job=canary, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.STOPPED)
def canary_due(platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """A run for each hour of event time that is complete and not decided, for each phase that is over, and every hour for
    whatever is decided and not yet done or read back.
    """
    due = platform.promotion(lambda _: None).due()
    return dg.RunRequest(run_key=due) if due else dg.SkipReason("nothing of a canary is due")


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
