"""What a partition needs to go on where the stores stand: offsets, and from the table's rows its watermark and ids seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from collector.lane import Lane, Window
from events.log import Place
from events.topics import topic
from features.store import OnlineStore
from features.tables import DeltaTables

_COLUMNS = ("event_id", "event_at", "kafka_partition", "kafka_offset")


@dataclass
class Memory:
    """A partition's watermark and window as they were before offset `start`."""

    start: int
    window: Window
    watermark: float | None = None


def open_lanes(
    places: frozenset[Place], tables: DeltaTables, store: OnlineStore, *, lateness_s: float
) -> dict[Place, Lane]:
    """Lanes for partitions newly held; each goes on at the smaller of its two stores' offsets."""
    applied = store.progress()
    out: dict[Place, Lane] = {}
    for name in sorted({place.topic for place in places}):
        numbers = sorted(place.partition for place in places if place.topic == name)
        stored = tables.progress(name, partitions=numbers)
        starts = {n: min(stored.get(n, 0), applied.get(Place(name, n), 0)) for n in numbers}
        memories = remember(tables, name, starts, lateness_s=lateness_s)
        for n in numbers:
            place, memory = Place(name, n), memories[n]
            out[place] = Lane(
                place, stored.get(n, 0), applied.get(place), starts[n], lateness_s, memory.window, memory.watermark
            )
    return out


def remember(
    tables: DeltaTables, topic_name: str, starts: Mapping[int, int], *, lateness_s: float
) -> dict[int, Memory]:
    """Watermark and window of each partition before its start, read backwards day by day until the bound is covered."""
    table = topic(topic_name).table
    out = {n: Memory(start, Window(lateness_s)) for n, start in starts.items()}
    waiting = {n for n, start in starts.items() if start > 0}
    for day in reversed(tables.dates(table) if waiting else []):
        rows = tables.read(
            table, columns=_COLUMNS, dates=[day], where=ds.field("kafka_partition").isin(sorted(waiting))
        )
        for n in sorted(waiting):
            _recall(out[n], rows.filter(_before(n, out[n].start)), lateness_s)
        waiting = {n for n in waiting if not _covered(out[n], day, lateness_s)}
        if not waiting:
            break
    return out


def _before(partition: int, offset: int) -> pc.Expression:
    return (pc.field("kafka_partition") == partition) & (pc.field("kafka_offset") < offset)


def _recall(memory: Memory, rows: pa.Table, lateness_s: float) -> None:
    if rows.num_rows == 0:
        return
    # Microseconds over a million: the same float as datetime.timestamp().
    times = [us / 1e6 for us in rows.column("event_at").cast(pa.int64()).to_pylist()]
    if memory.watermark is None:
        memory.watermark = max(times)
    horizon = memory.watermark - lateness_s
    offsets = rows.column("kafka_offset").to_pylist()
    for event_id, offset, at in zip(rows.column("event_id").to_pylist(), offsets, times, strict=True):
        if at >= horizon:
            memory.window.add(event_id, offset, at)


def _covered(memory: Memory, day: date, lateness_s: float) -> bool:
    """Whether the days from `day` on hold everything within the bound."""
    begin = datetime.combine(day, time(), UTC).timestamp()
    return memory.watermark is not None and begin <= memory.watermark - lateness_s
