"""What a sample build came to: how the labelling events fared, what was written, and how orderly the events came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from features.attribution import Attribution, Kind
from features.labels import Objective
from features.offline_tables import PinnedTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class SampleReport:
    """Figures of one build; a rate is None when there was nothing to divide by.

    `events` are labelling events of these dates that name a request, `joined` those of them that found their impression
    within its window, `late` those of the joined that the collector flagged; `duplicates` are second copies of impressions
    and engagement events, left out. `held` impressions wait for their windows. `delayed` are first positives that came after
    their observation window (rows of kind DP), `delayed_share` their share of all first positives; None unless corrected.
    An event is out of order when one of its log partition with a later event time came before it, by so many seconds.
    """

    rows: int
    events: int
    joined: int
    join_rate: float | None
    late: int
    duplicates: int
    positives: Mapping[str, int]
    hydrated: int
    attribution: str = Attribution.NEGATIVE_CACHE.value
    held: int = 0
    late_rate: float | None = None
    duplicate_rate: float | None = None
    delayed: int | None = None
    delayed_share: float | None = None
    out_of_order_rate: float | None = None
    out_of_order_p50_s: float | None = None
    out_of_order_p99_s: float | None = None


def figures(
    table: PinnedTable, dates: Sequence[date], *, attribution: Attribution, objectives: Sequence[Objective],
    met: DataFrame, impressions: DataFrame, engagement: DataFrame,
) -> SampleReport:  # fmt: skip
    """Count what was written for those dates and how their events fared."""
    events, joined, late = _joined(met, dates)
    stored, distinct, shown = _copies(impressions, engagement)
    behind, p50, p99 = _disorder(engagement)
    corrected = attribution is Attribution.CORRECTION
    names = [one.name for one in objectives]
    rows = table.read(dates, [*names, "hydrated", *(["kind"] if corrected else [])])
    windowed = rows.filter(pc.equal(rows["kind"], Kind.WINDOWED.value)) if corrected else rows
    delayed = _count(rows, "kind", Kind.DELAYED_POSITIVE.value) if corrected else None
    positives = {name: int(pc.sum(rows[name].cast(pa.int64())).as_py() or 0) for name in names}
    return SampleReport(
        rows=rows.num_rows,
        events=events,
        joined=joined,
        join_rate=_share(joined, events),
        late=late,
        duplicates=stored - distinct,
        positives=positives,
        hydrated=_count(windowed, "hydrated", True),
        attribution=attribution.value,
        held=shown - windowed.num_rows,
        late_rate=_share(late, joined),
        duplicate_rate=_share(stored - distinct, stored),
        delayed=delayed,
        delayed_share=None if delayed is None else _share(delayed, sum(positives.values())),
        out_of_order_rate=behind,
        out_of_order_p50_s=p50,
        out_of_order_p99_s=p99,
    )


def _joined(met: DataFrame, dates: Sequence[date]) -> tuple[int, int, int]:
    """Labelling events of the dates, those that answer an impression, and those of them that came late."""
    from pyspark.sql import functions as F

    found = F.col("event_id").isNotNull()
    mine = met.where(F.col("act_date").isin([F.lit(day) for day in dates]))
    counts = mine.agg(F.count("*"), F.count(F.when(found, 1)), F.count(F.when(found & F.col("late"), 1))).first()
    return (0, 0, 0) if counts is None else (counts[0], counts[1], counts[2])


def _copies(impressions: DataFrame, engagement: DataFrame) -> tuple[int, int, int]:
    """Stored rows of both tables, distinct event ids of both, and distinct impressions by their key."""
    from pyspark.sql import functions as F

    shown = impressions.agg(F.count("*"), F.countDistinct("event_id"), F.countDistinct("request_id", "item_id")).first()
    done = engagement.agg(F.count("*"), F.countDistinct("event_id")).first()
    if shown is None or done is None:
        return 0, 0, 0
    return shown[0] + done[0], shown[1] + done[1], shown[2]


def _disorder(engagement: DataFrame) -> tuple[float | None, float | None, float | None]:
    """Share of the events that came out of order, and the median and 99th percentile of their seconds behind."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    lane = Window.partitionBy("kafka_partition").orderBy("kafka_offset").rowsBetween(Window.unboundedPreceding, -1)
    at = F.unix_micros("event_at")
    behind = engagement.select(((F.max(at).over(lane) - at) / 1e6).alias("behind"))
    late = F.when(F.col("behind") > 0, F.col("behind"))
    found = behind.agg(F.count("*"), F.count(late), F.percentile_approx(late, [0.5, 0.99])).first()
    if found is None or not found[0]:
        return None, None, None
    p50, p99 = found[2] or (None, None)
    return found[1] / found[0], p50, p99


def _count(rows: pa.Table, column: str, value: object) -> int:
    return int(pc.sum(pc.equal(rows[column], value).cast(pa.int64())).as_py() or 0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
