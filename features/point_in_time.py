"""Point-in-time joins: beside each impression the newest row of a feature table that could be known then.

Known means two things at once: the row is about a time up to the impression's, and it had been written by then. A value that
was corrected later, or computed for a day that had not ended, is not seen. The join is one sort by key and time with a
running best: rows of either side are streamed, sorts spill, nothing is collected or broadcast, and a key with very many
rows costs disk, not memory (tests/features/skewed_join.py: half a gigabyte of one key in a heap of 512 MB).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.definitions import DAY, Entity
from features.errors import BadRange
from features.offline import DAILY, table_of
from features.offline_tables import need_table
from features.spark import read_table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# How an impression names the entity that a daily table is about.
ENTITY_OF_IMPRESSION = {Entity.USER: "user_id", Entity.ITEM: "item_id", Entity.CREATOR: "creator_id"}


def as_of_join(
    left: DataFrame, right: DataFrame, *, key: str | Sequence[str], at: str, event_at: str, written_at: str | None,
    max_age_s: float | None = None, prefix: str = "",
) -> DataFrame:  # fmt: skip
    """Every left row once, with the values of the newest right row of its key that could be known at the left's time `at`.

    All times are timestamps. A right row can be known from the later of `event_at` and `written_at` on, that instant
    included; of those the one with the largest `event_at` counts, and of two the one written last. With `written_at` None a
    row counts as written when its `event_at` comes. Values older than `max_age_s` seconds do not count. Right columns but the
    keys and times are added, `prefix` before their names; null where nothing was known. Rows of the right are one by (key,
    event_at, written_at). BadRange when a name is missing or on both sides.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    keys = [key] if isinstance(key, str) else list(key)
    times = [event_at, *([written_at] if written_at else [])]
    added = [name for name in right.columns if name not in (*keys, *times)]
    _check(left, right, keys=keys, at=at, times=times, added=[prefix + name for name in added])
    known_at = F.greatest(*times) if written_at else F.col(event_at)
    order = F.struct(F.col(event_at).alias("about"), F.col(times[-1]).alias("written"))
    value = F.struct(*added).alias("_value")
    said = right.where(_all_known([*keys, *times]))
    said = said.select(*keys, known_at.alias("_at"), F.lit(0).alias("_side"), order.alias("_order"), value)
    asking = left.select(*keys, F.col(at).alias("_at"), F.lit(1).alias("_side"), F.struct(*left.columns).alias("_left"))
    both = asking.unionByName(said, allowMissingColumns=True)
    so_far = Window.partitionBy(*keys).orderBy("_at", "_side").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    best = F.max_by(F.struct("_order", "_value"), "_order").over(so_far)
    met = both.withColumn("_best", best).where("_side = 1")
    fresh = F.lit(True)
    if max_age_s is not None:
        fresh = F.unix_micros("_at") - F.unix_micros("_best._order.about") <= round(max_age_s * 1e6)
    values = [F.when(fresh, F.col(f"_best._value.{name}")).alias(prefix + name) for name in added]
    return met.select("_left.*", *values)


def _all_known(names: Sequence[str]) -> str:
    return " AND ".join(f"`{name}` IS NOT NULL" for name in names)


def _check(
    left: DataFrame, right: DataFrame, *, keys: Sequence[str], at: str, times: Sequence[str], added: Sequence[str]
) -> None:
    for side, columns, wanted in (("left", left.columns, [*keys, at]), ("right", right.columns, [*keys, *times])):
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise BadRange(f"the {side} side of the join has no column {missing[0]!r}; it has {', '.join(columns)}")
    twice = sorted(set(added) & set(left.columns))
    if twice:
        raise BadRange(f"the column {twice[0]!r} is on both sides of the join; give a prefix")


def join_features(
    spark: SparkSession, lake: Path, impressions: DataFrame, *, entity: Entity, backfilled: bool = False
) -> DataFrame:
    """Impressions with the daily features of one of their entities, as `<entity>_<feature>`; NoTable, BadRange for pairs.

    A day's row is about the midnight that ends the day and counts from the time it was written. With `backfilled` the tables
    count as written at that midnight, as if the daily job had run on time: for history that was computed after the fact,
    where otherwise nothing was known yet. It trusts that no event of the day came after midnight.
    """
    if entity not in DAILY:
        raise BadRange(f"there is no daily table of the entity {entity.value!r}; allowed are {', '.join(DAILY)}")
    table = need_table(lake, table_of(entity), made_by="`livefeed features tables`")
    key = ENTITY_OF_IMPRESSION[entity]
    rows = read_table(spark, lake, table.name, version=table.version).withColumnRenamed(f"{entity.value}_id", key)
    rows = rows.withColumn("ends_at", _end_of_day()).drop("as_of")
    if backfilled:
        rows = rows.drop("written_at")
    return as_of_join(
        impressions, rows, key=key, at="event_at", event_at="ends_at", written_at=None if backfilled else "written_at",
        prefix=f"{entity.value}_",
    )  # fmt: skip


def _end_of_day() -> Column:
    """The midnight UTC after `as_of`."""
    from pyspark.sql import functions as F

    return F.timestamp_seconds((F.unix_date("as_of") + 1) * int(DAY))
