"""Samples: each impression with the features the ranker saw and what the viewer did with it within a day.

One Spark job for any number of dates. Impressions and engagement meet on (request_id, item_id), where the item of a room is
its room id. Late events count as labels (the model of the online store did without them); second copies of an event do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import NoSamples
from features.history import Ask, hydrate
from features.offline_tables import PinnedTable, days, distinct, need_table
from features.spark import read_table, replace_dates

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

TABLE = "samples"
ATTRIBUTION_S = 24 * 3_600.0
EFFECTIVE_WATCH_S = 30.0
# Objective -> the events that make its label 1. A room is watched effectively from 30 s on: its first heartbeat, or the
# seconds that room_left states.
LABELS: dict[str, tuple[str, ...]] = {
    "click": ("feed_clicked", "media_started", "room_entered"),
    "completion": ("media_completed", "watch_heartbeat", "room_left"),
    "like": (
        "media_liked", "media_shared", "media_added_to_playlist", "media_replay", "comment_posted", "gift_sent",
        "streamer_followed", "room_shared", "subscription_to_creator",
    ),
}  # fmt: skip
OBJECTIVES = tuple(LABELS)
COMPUTED = pa.schema([("event_id", pa.string()), ("computed", pa.string())])
WRITE_ROWS = 5_000
ONE_DAY = timedelta(days=1)
ASKED = ("event_id", "event_at", "user_id", "item_id", "surface", "position")
Report = Callable[[str], None]


@dataclass(frozen=True)
class SampleReport:
    """Figures of one build. `events` are labelling events of these dates that name a request, `joined` those of them that
    found their impression; `join_rate` is None when there were none. `late` of the joined came late; `duplicates` are
    second copies of impressions and engagement events that were left out.
    """

    rows: int
    events: int
    joined: int
    join_rate: float | None
    late: int
    duplicates: int
    positives: dict[str, int]
    hydrated: int


def build_samples(
    spark: SparkSession, lake: Path, *, dates: Sequence[date], report: Report | None = None
) -> SampleReport:
    """Write the samples of those dates into `<lake>/samples`, replacing them; NoSamples when no impression is there."""
    say = report or (lambda _: None)
    first, last = min(dates), max(dates)
    seen, done = (need_table(lake, name, made_by="the collector") for name in ("impressions", "engagement"))
    if not seen.count(dates):
        raise NoSamples(f"no impression has an event date from {first} to {last}; serve or replay some first")
    with tempfile.TemporaryDirectory(prefix="livefeed-samples-") as scratch:
        computed = Path(scratch) / "computed.parquet"
        say(f"samples: {len(dates)} dates from {first} to {last}")
        _compute_missing(lake, seen.read(dates, ASKED, where=pc.field("features").is_null()), computed, report=say)
        shown = impressions(spark, lake, days(first - ONE_DAY, last), version=seen.version)
        acts = labelling_events(spark, lake, days(first, last + ONE_DAY), version=done.version)
        met = attribute(shown, acts).cache()
        say("samples: joining impressions and engagement")
        replace_dates(
            _rows(spark, shown, met, dates=dates, computed=computed), lake, TABLE, column="event_date", dates=dates
        )
        figures = _figures(lake, dates, met=met, copies=sum(_copies(table, dates) for table in (seen, done)))
        met.unpersist()
    say(f"samples: {figures.rows:,} rows, {figures.hydrated:,} of them with features computed from history")
    return figures


def impressions(spark: SparkSession, lake: Path, dates: Sequence[date], *, version: int) -> DataFrame:
    """Impressions of those dates, each once."""
    return _on(read_table(spark, lake, "impressions", version=version), dates).dropDuplicates(["event_id"])


def labelling_events(spark: SparkSession, lake: Path, dates: Sequence[date], *, version: int) -> DataFrame:
    """Engagement of those dates that labels an impression, each once, with a 0/1 column an objective."""
    from pyspark.sql import functions as F

    rows = _on(read_table(spark, lake, "engagement", version=version), dates).where("request_id is not null")
    flags = [_label(objective).alias(objective) for objective in OBJECTIVES]
    acts = rows.select(
        F.col("event_id").alias("act_id"), "request_id", F.coalesce("item_id", "room_id").alias("item_id"),
        F.col("event_at").alias("act_at"), F.col("event_date").alias("act_date"), "late", *flags,
    )  # fmt: skip
    return acts.where(" or ".join(f"{name} = 1" for name in OBJECTIVES)).dropDuplicates(["act_id"])


def attribute(shown: DataFrame, acts: DataFrame) -> DataFrame:
    """Every labelling event with the impression (event_id) it followed within a day; event_id is null where there is none."""
    from pyspark.sql import functions as F

    slim = shown.select("event_id", "request_id", "item_id", "event_at")
    gap_s = (F.unix_micros("act_at") - F.unix_micros("event_at")) / 1e6
    same = (slim.request_id == acts.request_id) & (slim.item_id == acts.item_id)
    return acts.join(slim, same & gap_s.between(0, ATTRIBUTION_S), "left").select(acts["*"], "event_id")


def _label(objective: str) -> Column:
    """1 where an event is a positive of the objective; a room that was left counts from 30 s on."""
    from pyspark.sql import functions as F

    kind = F.col("type")
    said = kind.isin(*LABELS[objective]) & ((kind != "room_left") | (F.col("watched_s") >= EFFECTIVE_WATCH_S))
    return F.coalesce(said, F.lit(False)).cast("byte")


def _rows(spark: SparkSession, shown: DataFrame, met: DataFrame, *, dates: Sequence[date], computed: Path) -> DataFrame:
    """The samples table: impressions of the dates, their features and labels; 0 where nothing followed."""
    from pyspark.sql import functions as F

    labels = met.where("event_id is not null").groupBy("event_id").agg(
        F.min("act_at").alias("positive_at"), *(F.max(name).alias(name) for name in OBJECTIVES)
    )  # fmt: skip
    told = spark.read.parquet(str(computed))
    rows = _on(shown, dates).join(labels, "event_id", "left").join(told, "event_id", "left")
    key = F.when(F.col("content_type") == "LIVE", F.col("creator_id")).otherwise(F.col("item_id"))
    return rows.select(
        "request_id", "item_id", "user_id", key.alias("item_key"), "content_type", "creator_id", "surface",
        F.col("position").cast("int").alias("position"), "source", "arm", "release", "propensity", "event_at", "event_date",
        F.coalesce("features", "computed").alias("features"),
        *(F.coalesce(F.col(name), F.lit(0)).cast("byte").alias(name) for name in OBJECTIVES),
        "positive_at", F.col("features").isNull().alias("hydrated"),
    )  # fmt: skip


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


def _figures(lake: Path, dates: Sequence[date], *, met: DataFrame, copies: int) -> SampleReport:
    """Count what was written and how the labelling events of these dates fared."""
    from pyspark.sql import functions as F

    found = F.col("event_id").isNotNull()
    counts = met.where(F.col("act_date").isin([F.lit(day) for day in dates])).agg(
        F.countDistinct("act_id").alias("events"),
        F.countDistinct(F.when(found, F.col("act_id"))).alias("joined"),
        F.countDistinct(F.when(found & F.col("late"), F.col("act_id"))).alias("late"),
    ).first()  # fmt: skip
    events, joined, late = counts if counts is not None else (0, 0, 0)
    rows = need_table(lake, TABLE, made_by="`livefeed features samples`").read(dates, [*OBJECTIVES, "hydrated"])
    positives = {name: int(pc.sum(rows[name].cast(pa.int64())).as_py() or 0) for name in OBJECTIVES}
    return SampleReport(
        rows=rows.num_rows,
        events=events,
        joined=joined,
        join_rate=joined / events if events else None,
        late=late,
        duplicates=copies,
        positives=positives,
        hydrated=int(pc.sum(rows["hydrated"].cast(pa.int64())).as_py() or 0),
    )


def _copies(table: PinnedTable, dates: Sequence[date]) -> int:
    """Rows of those dates that repeat an event_id."""
    ids = table.read(dates, ["event_id"])
    return int(ids.num_rows) - int(pc.count_distinct(ids["event_id"]).as_py())
