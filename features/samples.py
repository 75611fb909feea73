"""Samples: each impression with the features the ranker saw and what the viewer did with it.

One Spark job for any number of dates. Impressions and engagement meet on (request_id, item_id), where the item of a room is
its room id; features/labels.py says what counts, features/attribution.py how late answers are treated. Late events count as
labels (the model of the online store did without them); second copies of an event do not.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from events.topics import IMPRESSION
from features.attribution import Attribution, attribute, correction, negative_cache, once, with_first_positives
from features.errors import NoSamples
from features.history import Ask, hydrate
from features.labels import DAY, OBJECTIVES, Objective, labelling_events
from features.offline_tables import days, distinct, need_table
from features.sample_report import SampleReport, figures
from features.spark import read_table, replace_dates
from features.table_lock import builds

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TABLE, CORRECTED = "samples", "samples_corrected"
TABLE_OF = {Attribution.NEGATIVE_CACHE: TABLE, Attribution.CORRECTION: CORRECTED}
COMPUTED = pa.schema([("event_id", pa.string()), ("computed", pa.string())])
WRITE_ROWS = 5_000
ASKED = ("event_id", "event_at", "user_id", "item_id", "surface", "position")
Report = Callable[[str], None]


@builds("samples")
def build_samples(
    spark: SparkSession, lake: Path, *, dates: Sequence[date], attribution: Attribution = Attribution.NEGATIVE_CACHE,
    until: float | None = None, real_negatives: Collection[str] = (), objectives: Sequence[Objective] = OBJECTIVES,
    report: Report | None = None,
) -> SampleReport:  # fmt: skip
    """Write the samples of those dates, replacing them: `samples`, or `samples_corrected` for the correction.

    With `until` (epoch seconds of event time) the rows are those that could be known then; without it nothing is held back.
    NoSamples when no impression is there.
    """
    say = report or (lambda _: None)
    first, last = min(dates), max(dates)
    reach = timedelta(days=math.ceil(max(one.attribute_s for one in objectives) / DAY))
    seen, done = (need_table(lake, name, made_by="the collector") for name in ("impressions", "engagement"))
    if not seen.count(dates):
        raise NoSamples(f"no impression has an event date from {first} to {last}; serve or replay some first")
    with tempfile.TemporaryDirectory(prefix="livefeed-samples-") as scratch:
        computed = Path(scratch) / "computed.parquet"
        say(f"samples: {len(dates)} dates from {first} to {last}, attribution {attribution}")
        bare = (pc.field("type") == IMPRESSION) & pc.field("features").is_null()
        _compute_missing(lake, seen.read(dates, ASKED, where=bare), computed, report=say)
        impressions = read_table(spark, lake, "impressions", version=seen.version).where(f"type = '{IMPRESSION}'")
        engagement = read_table(spark, lake, "engagement", version=done.version)
        shown = once(_on(impressions, days(first - reach, last)))
        acts = labelling_events(_on(engagement, days(first, last + reach)), objectives)
        met = attribute(shown, acts, objectives=objectives, until=until).cache()
        say("samples: joining impressions and engagement")
        rows = with_first_positives(_on(shown, dates), met, objectives=objectives)
        if attribution is Attribution.CORRECTION:
            rows = correction(rows, objectives=objectives, until=until, real_negatives=real_negatives)
        else:
            rows = negative_cache(rows, objectives=objectives, until=until)
        told = _told(rows, spark.read.parquet(str(computed)))
        replace_dates(told, lake, TABLE_OF[attribution], column="event_date", dates=dates)
        found = figures(
            need_table(lake, TABLE_OF[attribution], made_by="`livefeed features samples`"),
            dates, attribution=attribution, objectives=objectives, met=met,
            impressions=_on(impressions, dates), engagement=_on(engagement, dates),
        )  # fmt: skip
        met.unpersist()
    say(f"samples: {found.rows:,} rows, {found.hydrated:,} of them with features computed from history")
    return found


def _told(rows: DataFrame, computed: DataFrame) -> DataFrame:
    """The rows as they are stored: the item's key, and features computed from history where none were logged."""
    from pyspark.sql import functions as F

    key = F.when(F.col("content_type") == "LIVE", F.col("creator_id")).otherwise(F.col("item_id"))
    left_out = (
        "event_id",
        "type",
        "schema_v",
        "ingested_at",
        "late",
        "kafka_partition",
        "kafka_offset",
        "scores",
        "explored",
        "computed",
    )
    out = rows.join(computed, "event_id", "left")
    out = out.withColumn("hydrated", F.col("features").isNull()).withColumn("item_key", key)
    out = out.withColumn("features", F.coalesce("features", "computed")).withColumn(
        "position", F.col("position").cast("int")
    )
    return out.drop(*left_out)


def _on(rows: DataFrame, dates: Sequence[date]) -> DataFrame:
    from pyspark.sql import functions as F

    return rows.where(F.col("event_date").isin([F.lit(day) for day in dates]))


def _compute_missing(lake: Path, bare: pa.Table, out: Path, *, report: Report) -> None:
    """Write the features, as JSON by event_id, of impressions that carry none."""
    asks = [
        Ask(
            row["event_id"],
            row["event_at"].timestamp(),
            row["user_id"],
            row["item_id"],
            row["surface"],
            row["position"],
        )
        for row in distinct(bare).to_pylist()
    ]
    found = ((one, msgspec.json.encode(features).decode()) for one, features in hydrate(lake, asks, report=report))
    with pq.ParquetWriter(out, COMPUTED, compression="zstd") as writer:
        while batch := list(islice(found, WRITE_ROWS)):
            writer.write_table(pa.table([list(column) for column in zip(*batch, strict=True)], schema=COMPUTED))
