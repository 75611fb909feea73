"""Two ways to give an impression its labels, over the same join on (request_id, item_id).

Negative cache: one row an impression, held back until every objective has its positive or its window is over. Correction: a
windowed row (W) at the end of the observation windows with what was known then, a first-positive delta (DP) for each
objective whose first positive came later, and, where asked for, real negatives (RN) at the end of the attribution window.
Only event times decide, so duplicates, disorder, outages and replays change no row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from features.labels import OBJECTIVES, Objective

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


class Attribution(StrEnum):
    """How late positives are treated."""

    NEGATIVE_CACHE = "negative-cache"
    CORRECTION = "correction"


class Kind(StrEnum):
    """What a corrected row says: the windowed sample, a delayed first positive, a real negative."""

    WINDOWED = "W"
    DELAYED_POSITIVE = "DP"
    REAL_NEGATIVE = "RN"


def once(impressions: DataFrame) -> DataFrame:
    """Each (request_id, item_id) once, by its earliest impression: the key that samples are idempotent by."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same = Window.partitionBy("request_id", "item_id").orderBy("event_at", "position", "event_id")
    return impressions.withColumn("copy", F.row_number().over(same)).where("copy = 1").drop("copy")


def attribute(
    shown: DataFrame, acts: DataFrame, *, objectives: Sequence[Objective] = OBJECTIVES, until: float | None = None
) -> DataFrame:
    """Every labelling event up to `until` (epoch seconds) with the impression it answers: its event_id, null for none.

    An objective's column is 1 only within its attribution window, and an event that has none left answers nothing.
    """
    from pyspark.sql import functions as F

    slim = shown.select("event_id", "request_id", "item_id", "event_at")
    gap = F.unix_micros("act_at") - F.unix_micros("event_at")
    if until is not None:
        acts = acts.where(F.unix_micros("act_at") <= _micros(until))
    longest = max(one.attribute_s for one in objectives)
    same = (slim.request_id == acts.request_id) & (slim.item_id == acts.item_id)
    met = acts.join(slim, same & gap.between(0, _micros(longest)), "left").select(
        "act_id", "act_at", "act_date", "late", "event_id",
        *((F.coalesce(gap <= _micros(one.attribute_s), F.lit(False)).cast("byte") * acts[one.name]).alias(one.name)
          for one in objectives),
    )  # fmt: skip
    answers = sum((F.col(one.name) for one in objectives), F.lit(0)) > 0
    return met.withColumn("event_id", F.when(answers, F.col("event_id")))


def with_first_positives(rows: DataFrame, met: DataFrame, *, objectives: Sequence[Objective] = OBJECTIVES) -> DataFrame:
    """The impressions with `<objective>_us`, microseconds to the first positive (null for none), and `positive_at`."""
    from pyspark.sql import functions as F

    found = met.where("event_id is not null").groupBy("event_id").agg(
        F.min("act_at").alias("positive_at"),
        *(F.min(F.when(F.col(one.name) == 1, F.unix_micros("act_at"))).alias(_first(one)) for one in objectives),
    )  # fmt: skip
    gaps = ((F.col(_first(one)) - F.unix_micros("event_at")).alias(_first(one)) for one in objectives)
    return rows.join(found, "event_id", "left").select(*rows.columns, "positive_at", *gaps)


def negative_cache(rows: DataFrame, *, objectives: Sequence[Objective] = OBJECTIVES, until: float | None) -> DataFrame:
    """One row an impression with its final labels; without `until` nothing is held back and labels are those known."""
    from pyspark.sql import functions as F

    if until is not None:
        for one in objectives:
            rows = rows.where(F.col(_first(one)).isNotNull() | _over(one.attribute_s, until))
    labels = (F.col(_first(one)).isNotNull().cast("byte").alias(one.name) for one in objectives)
    return _without_firsts(rows.select("*", *labels), objectives)


def correction(
    rows: DataFrame, *, objectives: Sequence[Objective] = OBJECTIVES, until: float | None,
    real_negatives: Collection[str] = (),
) -> DataFrame:  # fmt: skip
    """W, DP and RN rows: adds kind, objective, elapsed_s, known_at, delays, and a label and a mask an objective.

    A label counts only where its mask is 1. `delays` is JSON, seconds from the impression by positive objective. An
    impression whose observation windows are not all over as of `until` has only those objectives in its mask that are.
    """
    from pyspark.sql import functions as F

    said = [_windowed(objectives, until)]
    for place, one in enumerate(objectives):
        said.append(_delta(objectives, place, until=None, when=F.col(_first(one)) > _micros(one.observe_s)))
        if one.name in real_negatives:
            said.append(_delta(objectives, place, until=until, when=F.col(_first(one)).isNull(), real=True))
    rows = rows.withColumn("said", F.explode(F.filter(F.array(*said), lambda one: one["elapsed_us"].isNotNull())))
    elapsed = F.col("said.elapsed_us")
    told = [F.col("said.labels")[n].alias(one.name) for n, one in enumerate(objectives)]
    masks = [F.col("said.masks")[n].alias(f"mask_{one.name}") for n, one in enumerate(objectives)]
    delays = F.struct(
        *(
            F.when(F.col("said.labels")[n] == 1, F.col(_first(one)) / 1e6).alias(one.name)
            for n, one in enumerate(objectives)
        )
    )
    out = rows.select(
        "*", "said.kind", "said.objective", (elapsed / 1e6).alias("elapsed_s"),
        F.timestamp_micros(F.unix_micros("event_at") + elapsed).alias("known_at"),
        F.to_json(delays).alias("delays"), *told, *masks,
    )  # fmt: skip
    return _without_firsts(out.drop("said"), objectives)


def _windowed(objectives: Sequence[Objective], until: float | None) -> Column:
    """The W row: labels of the objectives whose observation window is over; no elapsed time where none is."""
    from pyspark.sql import functions as F

    over = [F.lit(True) if until is None else _over(one.observe_s, until) for one in objectives]
    labels = [
        (closed & F.coalesce(F.col(_first(one)) <= _micros(one.observe_s), F.lit(False))).cast("byte")
        for one, closed in zip(objectives, over, strict=True)
    ]
    ends = [F.when(closed, F.lit(_micros(one.observe_s))) for one, closed in zip(objectives, over, strict=True)]
    return _said(Kind.WINDOWED, "", F.array_max(F.array(*ends)), labels, [closed.cast("byte") for closed in over])


def _delta(
    objectives: Sequence[Objective], place: int, *, until: float | None, when: Column, real: bool = False
) -> Column:
    """A row about one objective alone: its first positive, or that there was none in its attribution window."""
    from pyspark.sql import functions as F

    mine = objectives[place]
    over = F.lit(True) if until is None else _over(mine.attribute_s, until)
    elapsed = F.lit(_micros(mine.attribute_s)) if real else F.col(_first(mine))
    one = [F.lit(int(n == place)).cast("byte") for n in range(len(objectives))]
    none = [F.lit(0).cast("byte")] * len(objectives)
    kind = Kind.REAL_NEGATIVE if real else Kind.DELAYED_POSITIVE
    return _said(kind, mine.name, F.when(when & over, elapsed), none if real else one, one)


def _said(kind: Kind, objective: str, elapsed: Column, labels: Sequence[Column], masks: Sequence[Column]) -> Column:
    from pyspark.sql import functions as F

    return F.struct(
        F.lit(kind.value).alias("kind"), F.lit(objective).alias("objective"), elapsed.cast("long").alias("elapsed_us"),
        F.array(*labels).alias("labels"), F.array(*masks).alias("masks"),
    )  # fmt: skip


def _over(window_s: float, until: float) -> Column:
    """Whether the window of an impression has passed at `until`."""
    from pyspark.sql import functions as F

    return F.unix_micros("event_at") + _micros(window_s) <= _micros(until)


def _without_firsts(rows: DataFrame, objectives: Sequence[Objective]) -> DataFrame:
    return rows.drop(*(_first(one) for one in objectives))


def _first(objective: Objective) -> str:
    return f"{objective.name}_us"


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)
