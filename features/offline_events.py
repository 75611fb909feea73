"""The event frame: every event that changes a feature, from all offline tables, with its item's attributes as of its time."""

from __future__ import annotations

from datetime import date
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from events.topics import TOPICS
from features.columns import event_types, fields_read, held, spark_features
from features.definitions import BY_ENTITY, Entity
from features.errors import NoTable
from features.history import APPLIED
from features.offline_tables import PinnedTable, open_table
from features.spark import read_table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# The column that names the entity an event is about.
ID_COLUMN = {Entity.USER: "user_id", Entity.ITEM: "item", Entity.CREATOR: "creator"}
_ALWAYS = ("event_id", "type", "event_date", "event_at", "user_id", "item_id", "room_id", "creator_id", "streamer_id")


def event_frame(spark: SparkSession, lake: Path, *, until: date) -> DataFrame:
    """Events up to and with the day `until`, each once, late ones left out; NoTable when there is no table at all."""
    found = [_table(spark, lake, table, until) for table in need_events(lake)]
    return _with_attributes(reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), found))


def need_events(lake: Path) -> list[PinnedTable]:
    """The tables of events that change features, those that are there; NoTable when none is."""
    found = [table for name in APPLIED if (table := open_table(lake, TOPICS[name].table)) is not None]
    if not found:
        raise NoTable(f"there is no table of events in {lake} yet; the collector makes them")
    return found


def _table(spark: SparkSession, lake: Path, table: PinnedTable, until: date) -> DataFrame:
    """One table's contributing events: the ids, and the fields that columns read."""
    from pyspark.sql import functions as F

    rows = read_table(spark, lake, table.name, version=table.version)
    wanted = {*_ALWAYS, *(path for path in fields_read() if not path.startswith("item."))}
    tags = event_types(feature for entity in ID_COLUMN for feature in spark_features(entity))
    rows = rows.where(F.col("type").isin(*tags) & ~F.col("late") & (F.col("event_date") <= F.lit(until)))
    rows = rows.dropDuplicates(["event_id"]).withColumn("at", F.unix_micros("event_at") / 1e6)
    return rows.select(*sorted(wanted & set(rows.columns)), "at")


def _with_attributes(rows: DataFrame) -> DataFrame:
    """Add `item`, `item_<attribute>` as of the event (what was said at the same instant counts), and `creator`."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    rows = rows.withColumn("item", F.coalesce("item_id", "room_id"))
    # events without an item must not all meet in one partition
    one_item = Window.partitionBy(F.coalesce("item", F.concat(F.lit("user|"), "user_id")))
    so_far = one_item.orderBy("at").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    names = sorted({path[5:] for path in fields_read() if path.startswith("item.")} | {"creator_id"})
    known: list[Column] = []
    for feature in BY_ENTITY[Entity.ITEM]:
        if feature.name in names:
            known.append(F.max(held(feature)).over(so_far).getField("value").alias(f"item_{feature.name}"))
    rows = rows.select("*", *known)
    return rows.withColumn("creator", F.coalesce("creator_id", "streamer_id", "item_creator_id"))
