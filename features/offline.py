"""Feature tables: one row an entity and day, each Spark feature as of that day's end (midnight UTC after `as_of`).

A table has the entity's id, `as_of`, and a column a feature. Days are rewritten whole, so a second run changes nothing. An
entity has a row on every day from its first event on. Values that only events change are computed on the days that had any
and carried forward; windows are computed for every day asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from features import columns as c
from features.definitions import DAY, Entity, Feature
from features.offline_events import ID_COLUMN, event_frame
from features.offline_tables import need_table
from features.spark import replace_dates

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

Report = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """Some features of one entity in a frame: by day of change (`point`) or by day asked for (`as_of`)."""

    frame: DataFrame
    day: str


def table_of(entity: Entity) -> str:
    """Name of the entity's feature table."""
    return f"{entity.value}_features"


def build_feature_tables(
    spark: SparkSession, lake: Path, *, dates: Sequence[date], report: Report | None = None
) -> dict[str, int]:
    """Write the feature tables of those days and return the rows written by table; NoTable when no event was ever stored."""
    say = report or (lambda _: None)
    say(f"feature tables: {len(dates)} days from {min(dates)} to {max(dates)}")
    events = event_frame(spark, lake, until=max(dates)).cache()
    written: dict[str, int] = {}
    for entity in ID_COLUMN:
        table = table_of(entity)
        replace_dates(feature_frame(events, entity, dates=dates), lake, table, column="as_of", dates=dates)
        written[table] = need_table(lake, table, made_by="`livefeed features tables`").count(dates)
        say(f"feature tables: {table} has {written[table]:,} rows")
    events.unpersist()
    return written


def feature_frame(events: DataFrame, entity: Entity, *, dates: Sequence[date]) -> DataFrame:
    """One row an entity and day with every Spark feature of the entity."""
    from pyspark.sql import functions as F

    mine = _of_entity(events, entity)
    out = _spine(mine, dates)
    for part in _parts(mine, entity, out, dates):
        out = out.join(part.frame, ["id", part.day], "left")
    values = [c.with_default(feature) for feature in c.spark_features(entity)]
    return out.select(F.col("id").alias(f"{entity.value}_id"), "as_of", *values)


def _of_entity(events: DataFrame, entity: Entity) -> DataFrame:
    from pyspark.sql import functions as F

    tags = c.event_types(c.spark_features(entity))
    mine = events.where(F.col("type").isin(*tags) & F.col(ID_COLUMN[entity]).isNotNull())
    return mine.withColumn("id", F.col(ID_COLUMN[entity]))


def _spine(mine: DataFrame, dates: Sequence[date]) -> DataFrame:
    """(id, as_of, point): each day asked for, and the last day up to it on which the entity had an event."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    active = mine.select("id", F.col("event_date").alias("point")).distinct()
    after = F.lead("point").over(Window.partitionBy("id").orderBy("point"))
    first, last = F.lit(min(dates)), F.lit(max(dates))
    spans = active.select(
        "id", "point", F.greatest("point", first).alias("start"),
        F.coalesce(F.date_sub(after, 1), last).alias("end"),
    )  # fmt: skip
    held = spans.where("start <= end").select("id", "point", F.explode(F.sequence("start", "end")).alias("as_of"))
    return held.where(F.col("as_of").isin([F.lit(day) for day in dates]))


def _parts(mine: DataFrame, entity: Entity, spine: DataFrame, dates: Sequence[date]) -> list[Part]:
    """The entity's features, by way of computing; ways that it does not use are left out."""
    points = spine.select("id", "point").distinct()
    out: list[Part] = []
    if features := c.of_kind(entity, "running"):
        out.append(Part(_running(mine, features, points), "point"))
    if features := c.of_kind(entity, "keyed"):
        upto = _by_day(_keyed(mine, features)).join(points, "id").where("event_date <= point")
        out.append(Part(_lists(upto, features, "point"), "point"))
    if features := c.of_kind(entity, "window"):
        near = _near(mine, dates, reach=max(c.days_reached(feature) for feature in features))
        sums = [c.windowed_sum(feature) for feature in features]
        out.append(Part(near.groupBy("id", "as_of").agg(*sums), "as_of"))
    if features := c.of_kind(entity, "keyed_window"):
        near = _near(_keyed(mine, features), dates, reach=max(c.days_reached(feature) for feature in features))
        out.append(Part(_lists(near.where(_inside(features)), features, "as_of"), "as_of"))
    return out


def _running(mine: DataFrame, features: Sequence[Feature], points: DataFrame) -> DataFrame:
    """Values of all events up to each day of change, from one partial state a day."""
    states = mine.groupBy("id", "event_date").agg(*(state for feature in features for state in c.partials(feature)))
    upto = states.join(points, "id").where("event_date <= point")
    return upto.groupBy("id", "point").agg(*(c.finished(feature) for feature in features))


def _keyed(mine: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """One row an event and list feature that it adds a key to: id, event_date, at, feature, key, weight."""
    from pyspark.sql import functions as F

    adds = [
        F.struct(F.lit(one.name).alias("feature"), c.key(one).alias("key"), c.weight(one).alias("weight"))
        for one in features
    ]  # fmt: skip
    rows = mine.select("id", "event_date", "at", F.explode(F.array(*adds)).alias("add"))
    return rows.select("id", "event_date", "at", "add.*").where("key is not null")


def _by_day(keyed: DataFrame) -> DataFrame:
    """A key met often in a day, once."""
    from pyspark.sql import functions as F

    same = keyed.groupBy("id", "event_date", "feature", "key")
    return same.agg(F.max("at").alias("at"), F.sum("weight").alias("weight"))


def _near(rows: DataFrame, dates: Sequence[date], *, reach: int) -> DataFrame:
    """Each event once for every day asked for whose windows it can reach: adds `as_of` and its end, `now`."""
    from pyspark.sql import functions as F

    reached = F.sequence("event_date", F.date_add("event_date", reach))
    rows = rows.withColumn("as_of", F.explode(reached)).where(F.col("as_of").isin([F.lit(day) for day in dates]))
    return rows.withColumn("now", (F.unix_date("as_of") + 1) * DAY)


def _inside(features: Sequence[Feature]) -> Column:
    """Whether a keyed row lies in its own feature's window."""
    from pyspark.sql import functions as F

    out = F.lit(False)
    for feature in features:
        out = F.when(F.col("feature") == feature.name, c.in_window(feature)).otherwise(out)
    return out


def _lists(keyed: DataFrame, features: Sequence[Feature], day: str) -> DataFrame:
    """A list of keys a feature, by entity and day."""
    from pyspark.sql import functions as F

    totals = keyed.groupBy("id", day, "feature", "key").agg(F.max("at").alias("at"), F.sum("weight").alias("weight"))
    return totals.groupBy("id", day).agg(*(c.listed(feature) for feature in features))
