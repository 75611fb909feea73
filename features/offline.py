"""Feature tables: one row an entity and day, each daily feature as of that day's end (midnight UTC after `as_of`).

A table has the entity's id, `as_of`, a column a feature, and `written_at`. Days are rewritten whole, so a second run changes
nothing. An entity has a row on every day from the first event on that one of its columns counts. Values that only events
change are computed on the days that had any and carried forward; windows are computed for every day asked for.

`written_at` says since when a row has said what it says: a row that is written again with the same values keeps it, one whose
values changed gets the time of the rewrite. So a join that looks only at what was written by then (features/point_in_time.py)
never sees a correction early; it goes without that day instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from events.clock import Clock, WallClock
from features import columns as c
from features.definitions import DAY, Entity, Feature
from features.offline_events import event_frame, of_entity, once, with_words
from features.offline_tables import need_table, open_table
from features.spark import read_table, replace_dates
from features.table_lock import builds

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

Report = Callable[[str], None]
DAILY = (Entity.USER, Entity.ITEM, Entity.CREATOR)  # pairs are too many for a row a day
ALIKE = 1e-9  # relative: sums of parts in another order are the same value


@dataclass(frozen=True)
class Part:
    """Some features of one entity in a frame: by day of change (`point`) or by day asked for (`as_of`)."""

    frame: DataFrame
    day: str


def table_of(entity: Entity) -> str:
    """Name of the entity's feature table."""
    return f"{entity.value}_features"


@builds("feature tables")
def build_feature_tables(
    spark: SparkSession, lake: Path, *, dates: Sequence[date], entities: Sequence[Entity] = DAILY,
    report: Report | None = None, clock: Clock | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write the feature tables of those days and return the rows written by table; NoTable when no event was ever stored."""
    say = report or (lambda _: None)
    now = (clock or WallClock()).now()
    say(f"feature tables: {len(dates)} days from {min(dates)} to {max(dates)}")
    events = once(event_frame(spark, lake, until=max(dates))).cache()
    written: dict[str, int] = {}
    for entity in entities:
        table = table_of(entity)
        frame = _dated(spark, lake, feature_frame(events, entity, dates=dates), entity, dates=dates, now=now)
        replace_dates(frame, lake, table, column="as_of", dates=dates)
        written[table] = need_table(lake, table, made_by="`livefeed features tables`").count(dates)
        say(f"feature tables: {table} has {written[table]:,} rows")
    events.unpersist()
    return written


def feature_frame(events: DataFrame, entity: Entity, *, dates: Sequence[date]) -> DataFrame:
    """One row an entity and day with every daily feature of the entity."""
    from pyspark.sql import functions as F

    mine = of_entity(events, c.spark_features(entity))
    out = _spine(mine, dates)
    for part in _parts(mine, events, entity, out, dates):
        out = out.join(part.frame, ["id", part.day], "left")
    values = [c.with_default(feature) for feature in c.spark_features(entity)]
    return out.select(F.col("id").alias(f"{entity.value}_id"), "as_of", *values)


def _dated(
    spark: SparkSession, lake: Path, frame: DataFrame, entity: Entity, *, dates: Sequence[date], now: float
) -> DataFrame:
    """The rows with `written_at`: as the table has it where it says the same already, else now."""
    from pyspark.sql import functions as F

    this_time = F.timestamp_micros(F.lit(round(now * 1e6)))
    table = open_table(lake, table_of(entity))
    if table is None or not table.count(dates):
        return frame.withColumn("written_at", this_time)
    old = read_table(spark, lake, table.name, version=table.version)
    if not {*frame.columns, "written_at"} <= set(old.columns):
        return frame.withColumn("written_at", this_time)
    own = [f"{entity.value}_id", "as_of"]
    old = old.where(F.col("as_of").isin([F.lit(day) for day in dates]))
    old = old.select(*own, *(F.col(name).alias(f"old_{name}") for name in [*frame.columns[2:], "written_at"]))
    same = F.lit(True)
    for name, kind in frame.dtypes[2:]:
        same = same & _alike(F.col(name), F.col(f"old_{name}"), number=kind == "double")
    both = frame.join(old, own, "left").withColumn(
        "written_at", F.coalesce(F.when(same, F.col("old_written_at")), this_time)
    )
    return both.select(*frame.columns, "written_at")


def _alike(new: Column, old: Column, *, number: bool) -> Column:
    from pyspark.sql import functions as F

    same = new.eqNullSafe(old)
    if not number:
        return same
    return same | F.coalesce(F.abs(new - old) <= ALIKE * F.greatest(F.abs(new), F.lit(1.0)), F.lit(False))


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


def _parts(mine: DataFrame, events: DataFrame, entity: Entity, spine: DataFrame, dates: Sequence[date]) -> list[Part]:
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
        sums = [c.single(feature) for feature in features]
        out.append(Part(near.groupBy("id", "as_of").agg(*sums), "as_of"))
    if features := c.of_kind(entity, "keyed_window"):
        near = _near(_keyed(mine, features), dates, reach=max(c.days_reached(feature) for feature in features))
        near = near.where(c.inside(features))
        out.append(Part(_lists(near, features, "as_of", events=events), "as_of"))
    return out


def _running(mine: DataFrame, features: Sequence[Feature], points: DataFrame) -> DataFrame:
    """Values of all events up to each day of change, from one partial state a day."""
    states = mine.groupBy("id", "event_date").agg(*(state for feature in features for state in c.partials(feature)))
    upto = states.join(points, "id").where("event_date <= point")
    return upto.groupBy("id", "point").agg(*(c.finished(feature) for feature in features))


def _keyed(mine: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """One row an event and list feature that it adds a key to: id, event_date, at, feature, key, weight."""
    from pyspark.sql import functions as F

    rows = mine.select("id", "event_date", "at", F.explode(c.adds(features)).alias("add"))
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
    return rows.withColumn("now", _end_of("as_of"))


def _lists(keyed: DataFrame, features: Sequence[Feature], day: str, *, events: DataFrame | None = None) -> DataFrame:
    """A list of keys a feature, by entity and day; of words, as known at the day's end, where it is about words."""
    from pyspark.sql import functions as F

    of_key = [F.max("at").alias("at"), F.sum("weight").alias("weight")]
    totals = keyed.groupBy("id", day, "feature", "key").agg(*of_key)
    if (about := c.about_words(features)) and events is not None:
        totals = totals.withColumn("now", _end_of(day)).withColumn("known_by", F.lit(float("inf")))
        known = with_words(events, totals, by=["id", day, "feature", "key"], about=about)
        totals = known.withColumn("key", F.explode(c.keys_meant(features)))
        totals = totals.groupBy("id", day, "feature", "key").agg(*of_key)
    return totals.groupBy("id", day).agg(*(c.collected(feature) for feature in features))


def _end_of(day: str) -> Column:
    """Epoch second of the midnight after the day."""
    from pyspark.sql import functions as F

    return (F.unix_date(day) + 1) * DAY
