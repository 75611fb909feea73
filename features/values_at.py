"""Every feature of any entity as of any moment, in Spark: what the online store would have said then.

A value as of `at` rests on the events with an event time up to `at` that were not late, each once. With `seen_at` it rests on
those alone that had been ingested by then: what a store that was read at that moment can have known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features import columns as c
from features.aggregates import Sessions
from features.definitions import BY_ENTITY, Entity, Feature
from features.errors import BadRange
from features.offline_events import event_frame, of_entity, once, with_words

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

POINT = ("id", "now", "known_by")  # `seen` is a feature


def values_at(
    spark: SparkSession, lake: Path, points: DataFrame, *, entity: Entity, features: Collection[str] | None = None
) -> DataFrame:
    """`points` (id, at in epoch seconds, optionally seen_at) with a column a feature; NoTable, BadRange for unknown names.

    Each point meets all earlier events of its entity, so this is for thousands of points, or entities with short histories;
    every entity on every day is what the daily tables are for (features/offline.py). Nothing is collected; joins and sorts
    spill.
    """
    from pyspark.sql import functions as F

    wanted = _wanted(entity, features)
    bound = F.lit(None).cast("double")
    if "seen_at" in points.columns:  # to the microsecond, as the tables have it
        bound = F.round(F.col("seen_at").cast("double") * 1e6) / 1e6
    asked = points.withColumn("now", F.col("at").cast("double"))
    asked = asked.withColumn("known_by", F.coalesce(bound, F.lit(float("inf"))))
    events = event_frame(spark, lake)
    near = _near(of_entity(events, wanted), asked.select(*POINT).distinct())
    out = asked
    for part in _parts(near, events, wanted):
        out = out.join(part, list(POINT), "left")
    return out.select(*points.columns, *(c.with_default(feature) for feature in wanted))


def _wanted(entity: Entity, names: Collection[str] | None) -> list[Feature]:
    found = [feature for feature in BY_ENTITY[entity] if names is None or feature.name in names]
    unknown = sorted(set(names or ()) - {feature.name for feature in found})
    if unknown:
        known = ", ".join(feature.name for feature in BY_ENTITY[entity])
        raise BadRange(f"there is no feature {unknown[0]!r} of the entity {entity.value}; allowed are {known}")
    return found


def _near(mine: DataFrame, asked: DataFrame) -> DataFrame:
    """Each point's events, each once: the rows of a point lie together, so that what follows needs no other shuffle."""
    rows = mine.join(asked, "id").where("at <= now AND ingested <= known_by")
    return once(rows.repartition(*POINT), *POINT, "by")


def _parts(near: DataFrame, events: DataFrame, wanted: Sequence[Feature]) -> list[DataFrame]:
    """Frames by point that together have every feature, by way of computing."""
    out: list[DataFrame] = []
    if single := [one for one in wanted if isinstance(one.aggregate, c.SINGLE)]:
        out.append(near.groupBy(*POINT).agg(*(c.single(one) for one in single)))
    if keyed := [one for one in wanted if isinstance(one.aggregate, c.KEYED)]:
        out.append(_keyed(near, events, keyed))
    out += [_sessions(near, one) for one in wanted if isinstance(one.aggregate, Sessions)]
    return out


def _keyed(near: DataFrame, events: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """Lists, maps and counts: what was added by key, then as many keys as the feature keeps, then their words."""
    from pyspark.sql import functions as F

    rows = near.select(*POINT, "at", F.explode(c.adds(features)).alias("add")).select(*POINT, "at", "add.*")
    rows = rows.where(F.col("key").isNotNull() & c.inside(features))
    totals = _kept(rows.groupBy(*POINT, "feature", "key").agg(*c.totals()), features)
    if about := c.about_words(features):
        known = with_words(events, totals, by=[*POINT, "feature", "key"], about=about)
        totals = known.withColumn("key", F.explode(c.keys_meant(features)))
        totals = totals.groupBy(*POINT, "feature", "key").agg(*c.totals_of_totals())
    return totals.groupBy(*POINT).agg(*(c.collected(one) for one in features))


def _kept(totals: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """The keys that bounded features keep, before any list is made of them."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = Window.partitionBy(*POINT, "feature").orderBy(c.place_of_key(features), "key")
    ranked = totals.withColumn("place", F.row_number().over(order))
    size = c.keys_kept(features)
    return ranked.where(size.isNull() | (F.col("place") <= size)).drop("place")


def _sessions(near: DataFrame, feature: Feature) -> DataFrame:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = Window.partitionBy(*POINT).orderBy("at")
    signs = near.where(c.is_sign(feature)).select(*POINT, "at")
    signs = signs.withColumn("begins", c.begins(feature, F.lag("at").over(order)))
    signs = signs.withColumn("session", F.sum("begins").over(order.rowsBetween(Window.unboundedPreceding, 0)))
    each = signs.groupBy(*POINT, "session").agg(F.min("at").alias("first"), F.max("at").alias("last"))
    return each.groupBy(*POINT).agg(c.mean_length(feature))
