"""Group features: the offline feature tables and the samples, daily partitions, any range of days in one Spark job."""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg

from dagster_project.assets.events import events_stored
from dagster_project.metadata import plain, rates_table
from dagster_project.partitions import EVENT_DAYS
from dagster_project.resources import Platform, days_of, logs_to
from features.attribution import Attribution
from features.errors import NoSamples
from features.offline import build_feature_tables
from features.samples import build_samples
from features.training_input import read_samples

ONE_JOB = dg.BackfillPolicy.single_run()
FEATURE_TABLES = ("user_features", "item_features", "creator_features")


@dg.multi_asset(
    specs=[dg.AssetSpec(name, deps=[events_stored], kinds={"spark", "deltalake"}) for name in FEATURE_TABLES],
    group_name="features",
    partitions_def=EVENT_DAYS,
    backfill_policy=ONE_JOB,
)
def feature_tables(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult[None]]:
    """One row an entity and day: every feature as of that day's end."""
    rows = build_feature_tables(
        platform.spark(), platform.settings.lake, dates=days_of(context), report=logs_to(context)
    )
    for name in FEATURE_TABLES:
        yield dg.MaterializeResult(asset_key=name, metadata={"dagster/row_count": rows[name]})


@dg.asset(
    deps=[events_stored],
    group_name="features",
    kinds={"spark", "deltalake"},
    partitions_def=EVENT_DAYS,
    backfill_policy=ONE_JOB,
)
def samples(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Each impression with the features the ranker saw and what the viewer did with it."""
    lake = platform.settings.lake
    try:
        report = build_samples(platform.spark(), lake, dates=days_of(context), report=logs_to(context))
    except NoSamples as error:  # a quiet day is no fault; the check says whether there is anything to train on at all
        return dg.MaterializeResult(metadata={"dagster/row_count": 0, "note": str(error)})
    return dg.MaterializeResult(
        metadata={"dagster/row_count": report.rows, **plain(asdict(report)), "rates": rates_table(read_samples(lake))}
    )


@dg.asset(
    deps=[events_stored],
    group_name="features",
    kinds={"spark", "deltalake"},
    partitions_def=EVENT_DAYS,
    backfill_policy=ONE_JOB,
)
def samples_corrected(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Windowed samples at once and each late positive when it comes: for training that corrects its loss."""
    spark, lake, dates = platform.spark(), platform.settings.lake, days_of(context)
    try:
        report = build_samples(spark, lake, dates=dates, attribution=Attribution.CORRECTION, report=logs_to(context))
    except NoSamples as error:
        return dg.MaterializeResult(metadata={"dagster/row_count": 0, "note": str(error)})
    return dg.MaterializeResult(metadata={"dagster/row_count": report.rows, **plain(asdict(report))})
