"""The event frame: every event that changes a feature, from all offline tables, and the words of things as of a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import NODEFAULT, structs

from events.tables import SCHEMAS
from events.topics import TOPICS, Topic
from features.columns import event_types, fields_read, held
from features.definitions import BY_ENTITY, FEATURES, WORDS, Entity, Feature
from features.errors import NoTable
from features.history import APPLIED
from features.offline_tables import PinnedTable, open_table
from features.spark import read_table
from features.state import ESCAPE

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# The column that names the entity an event is about; `Feature.by` names one of them where it is not the usual one.
ID_COLUMN = {entity: entity.value for entity in Entity}
_IDS = ("user_id", "item_id", "room_id", "creator_id", "streamer_id")
_DERIVED = ("item_key", "hour", "event_at")
_PLACE = ("event_id", "kafka_partition", "type", "event_date")
_TYPES = {
    "string": "string",
    "double": "double",
    "int64": "long",
    "bool": "boolean",
    "list<item: string>": "array<string>",
}


def event_frame(spark: SparkSession, lake: Path, *, until: date | None = None) -> DataFrame:
    """Events, up to and with the day `until`, late ones left out; NoTable when there is no table at all.

    Columns: `type`, `event_date`, `at` and `ingested` (event and ingestion time in epoch seconds), the ids `user`, `item`,
    `creator` and `pair`, `item_key`, `hour`, and every field that a definition reads. An event may be there twice.
    """
    topics = {TOPICS[name].table: TOPICS[name] for name in APPLIED}
    found = [_table(spark, lake, table, topics[table.name], until) for table in need_events(lake)]
    rows = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), found)
    return _with_ids(_with_all_fields(rows))


def need_events(lake: Path) -> list[PinnedTable]:
    """The tables of events that change features, those that are there; NoTable when none is."""
    found = [table for name in APPLIED if (table := open_table(lake, TOPICS[name].table)) is not None]
    if not found:
        raise NoTable(f"there is no table of events in {lake} yet; the collector makes them")
    return found


def once(rows: DataFrame, *also: str) -> DataFrame:
    """Each event once in its partition of the log; `also` names columns that tell rows of one event apart."""
    return rows.dropDuplicates(["event_id", "topic", "kafka_partition", *also])


def of_entity(events: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """A row an event and entity that it is about, for features of one entity kind: adds `id`, and `by` as found."""
    from pyspark.sql import functions as F

    out: list[DataFrame] = []
    for by in sorted({feature.by for feature in features}):
        mine = [feature for feature in features if feature.by == by]
        column = by or ID_COLUMN[mine[0].entity]
        rows = events.where(F.col("type").isin(*event_types(mine)) & F.col(column).isNotNull())
        out.append(rows.withColumn("id", F.col(column)).withColumn("by", F.lit(by)))
    return reduce(lambda left, right: left.unionByName(right), out)


def with_words(events: DataFrame, totals: DataFrame, *, by: Sequence[str], about: Sequence[str]) -> DataFrame:
    """`totals` with the words of `key` as known then, an array of words a column of WORDS; null where nothing is known.

    The rows carry `feature` (only those of the features `about` words get any), `now` and `known_by` (epoch seconds of event
    and ingestion time), and are one by the columns `by`. An item's own words count, else those of the last room of the host
    of that id.
    """
    from pyspark.sql import functions as F

    item, host = (_described(events, entity) for entity in (Entity.ITEM, Entity.CREATOR))
    met = (F.col("key") == F.col("named")) & (F.col("said_at") <= F.col("now")) & F.col("feature").isin(*about)
    known = totals.join(item.unionByName(host), met & (F.col("ingested") <= F.col("known_by")), "left")
    rest = [F.first(name).alias(name) for name in totals.columns if name not in by]
    best = [F.max(name).alias(name) for name in (*_sides("item"), *_sides("creator"))]
    known = known.groupBy(*by).agg(*rest, *best)
    is_item = F.col("item_content_type").isNotNull()
    chosen = [F.when(is_item, F.col(f"item_{name}")).otherwise(F.col(f"creator_{name}")) for name in WORDS]
    words = [_as_list(column.getField("value"), name) for name, column in zip(WORDS, chosen, strict=True)]
    return known.select(*totals.columns, *words)


def _sides(side: str) -> list[str]:
    return [f"{side}_{name}" for name in WORDS]


def _described(events: DataFrame, entity: Entity) -> DataFrame:
    """What each event says of the words of one side: (named, said_at, ingested, <side>_<word>), nulls on the other side."""
    from pyspark.sql import functions as F

    features = {feature.name: feature for feature in BY_ENTITY[entity] if feature.name in WORDS}
    rows = of_entity(events, list(features.values()))
    columns: list[Column] = []
    for side in (Entity.ITEM, Entity.CREATOR):
        for name in WORDS:
            said = held(features[name])
            none = F.when(F.lit(False), said)  # a null of the same type
            columns.append((said if side is entity else none).alias(f"{side.value}_{name}"))
    return rows.select(F.col("id").alias("named"), F.col("at").alias("said_at"), "ingested", *columns)


def _as_list(value: Column, name: str) -> Column:
    from pyspark.sql import functions as F

    one = next(feature for feature in BY_ENTITY[Entity.ITEM] if feature.name == name)
    return (value if isinstance(one.default, tuple) else F.when(value.isNotNull(), F.array(value))).alias(name)


def _table(spark: SparkSession, lake: Path, table: PinnedTable, topic: Topic, until: date | None) -> DataFrame:
    """One table's contributing events: the ids, the fields that columns read, times as epoch seconds."""
    from pyspark.sql import functions as F

    rows = read_table(spark, lake, table.name, version=table.version)
    rows = rows.where(F.col("type").isin(*event_types(FEATURES)) & ~F.col("late"))
    if until is not None:
        rows = rows.where(F.col("event_date") <= F.lit(until))
    times = {name for name, kind in rows.dtypes if kind == "timestamp"}
    wanted = sorted(_fields() & set(SCHEMAS[topic.name].names))
    there = [name if name in rows.columns else None for name in wanted]
    fields = [_null(name) if one is None else _seconds(one) if one in times else F.col(one)
              for name, one in zip(wanted, there, strict=True)]  # fmt: skip
    filled = [_filled(topic, name, field).alias(name) for name, field in zip(wanted, fields, strict=True)]
    times_of = (_seconds("event_at").alias("at"), _seconds("ingested_at").alias("ingested"))
    return rows.select(F.lit(topic.name).alias("topic"), *_PLACE, *times_of, *filled)


def _fields() -> set[str]:
    """The event fields that columns read."""
    return {*_IDS, *fields_read()} - {*_DERIVED}


def _null(name: str) -> Column:
    """A null of the field's type."""
    from pyspark.sql import functions as F

    types = {field.name: str(field.type) for schema in SCHEMAS.values() for field in schema}
    return F.lit(None).cast(_TYPES.get(types[name], "double"))


def _filled(topic: Topic, name: str, field: Column) -> Column:
    """The field, with the default of its event type where a row is older than the field."""
    from pyspark.sql import functions as F

    by_default: dict[Any, list[str]] = {}
    for kind in topic.types:
        default = {one.name: one.default for one in structs.fields(kind)}.get(name, NODEFAULT)
        if default is not NODEFAULT and default is not None:
            by_default.setdefault(default, []).append(str(kind.__struct_config__.tag))
    out = field
    for default, tags in by_default.items():
        value = F.array().cast("array<string>") if default == () else F.lit(str(default))
        out = F.when(field.isNull() & F.col("type").isin(*tags), value).otherwise(out)
    return out


def _seconds(name: str) -> Column:
    """Epoch seconds: the same float as datetime.timestamp()."""
    from pyspark.sql import functions as F

    return F.unix_micros(name) / 1e6


def _with_all_fields(rows: DataFrame) -> DataFrame:
    """Fields of topics that have no table yet, as nulls."""
    return rows.select("*", *(_null(name).alias(name) for name in sorted(_fields() - set(rows.columns))))


def _with_ids(rows: DataFrame) -> DataFrame:
    """Add the ids of the entities an event is about and the keys that features/state.py derives."""
    from pyspark.sql import functions as F

    creator = F.coalesce("creator_id", "streamer_id")
    viewer = F.replace("user_id", F.lit(ESCAPE), F.lit(f"{ESCAPE}0"))  # features.state.viewer_part
    viewer = F.replace(viewer, F.lit("|"), F.lit(f"{ESCAPE}1"))
    hour = F.pmod(F.floor(F.col("at") / 3_600), F.lit(24)).cast("string")
    return rows.select(
        "*",
        F.col("user_id").alias("user"),
        F.coalesce("item_id", "room_id").alias("item"),
        creator.alias("creator"),
        F.concat(viewer, F.lit("|"), creator).alias("pair"),
        F.coalesce("streamer_id", "item_id").alias("item_key"),
        F.lpad(hour, 2, "0").alias("hour"),
    )
