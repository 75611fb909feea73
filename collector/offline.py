"""The offline side: rows of the offline tables with the offsets they reach, one commit a topic."""

from collections.abc import Sequence
from datetime import date

import pyarrow.dataset as ds

from collector.config import TIMED_TOPICS
from collector.lane import Lane, Taken
from collector.report import Report
from events.clock import utc
from events.tables import Stored, table_of
from events.topics import topic
from features.tables import DeltaTables

_COLUMNS = ("event_id", "kafka_partition", "kafka_offset")


def is_late(taken: Taken) -> bool:
    """Whether an event came too late for its windows: kept in the table, not applied online."""
    return taken.old and taken.record.topic in TIMED_TOPICS


def _stored(rows: Sequence[Taken]) -> list[Stored]:
    times = {at: utc(at) for at in {taken.ingested_at for taken in rows}}  # one a poll
    return [Stored(taken.event, taken.record, times[taken.ingested_at], is_late(taken)) for taken in rows]


def without_old_twins(tables: DeltaTables, table: str, rows: Sequence[Taken]) -> list[Taken]:
    """Rows less those whose id lies at an earlier offset of their partition but had left the window: the table knows."""
    old = [taken for taken in rows if taken.old]
    if not old:
        return list(rows)
    ids = sorted({taken.event.event_id for taken in old})
    dates: list[date] = sorted({utc(taken.at).date() for taken in old})
    found = tables.read(table, columns=_COLUMNS, dates=dates, where=ds.field("event_id").isin(ids)).to_pylist()
    first: dict[tuple[int, str], int] = {}
    for row in found:
        _keep_first(first, int(row["kafka_partition"]), str(row["event_id"]), int(row["kafka_offset"]))
    for taken in rows:
        _keep_first(first, taken.record.partition, taken.event.event_id, taken.record.offset)
    return [t for t in rows if not t.old or first[t.record.partition, t.event.event_id] == t.record.offset]


def _keep_first(first: dict[tuple[int, str], int], partition: int, event_id: str, offset: int) -> None:
    first[partition, event_id] = min(offset, first.get((partition, event_id), offset))


def commit_topic(tables: DeltaTables, topic_name: str, lanes: Sequence[Lane], report: Report) -> bool:
    """Commit the waiting rows and offsets of one topic's lanes; False when nothing moved. Fenced, TablesUnavailable."""
    moved = [lane for lane in lanes if lane.next > lane.stored]
    if not moved:
        return False
    waiting = [taken for lane in moved for taken in lane.rows]
    rows = without_old_twins(tables, topic(topic_name).table, waiting)
    reached = {lane.place.partition: lane.next for lane in moved}
    tables.append(topic_name, table_of(topic_name, _stored(rows)), offsets=reached)
    for lane in moved:
        lane.stored = lane.next
        lane.rows.clear()
        report.outcomes[topic_name, "duplicate"] += lane.counts.pop("duplicate", 0)
        report.outcomes[topic_name, "dead_letter"] += lane.counts.pop("dead_letter", 0)
        report.outcomes[topic_name, "erased"] += lane.counts.pop("erased", 0)
    report.outcomes[topic_name, "stored"] += len(rows)
    report.outcomes[topic_name, "late"] += sum(map(is_late, rows))
    report.outcomes[topic_name, "duplicate"] += len(waiting) - len(rows)
    return True
