"""The offline tables replayed in event-time order through the definitions: a store as of a moment, and features as of then.

Rows that came late (the online store left them out too) and second copies of an event are skipped. At equal times what an
item is comes before what viewers did with it. Memory is bounded by the store and one chunk of dates.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import NODEFAULT, structs

from events import schema as s
from events.log import Place
from events.topics import ENGAGEMENT, LIFECYCLE, MEDIA, PROFILES, TOPICS, Topic
from features.offline_tables import PinnedTable, distinct, open_table
from features.snapshot import read_known, snapshot
from features.store import MemoryStore, lease_end

# Topics whose events change features, those that describe items and people first.
APPLIED = (MEDIA, LIFECYCLE, PROFILES, ENGAGEMENT)
CHUNK_ROWS = 250_000
Report = Callable[[str], None]


class Ask(NamedTuple):
    """One impression whose features are wanted as of just before `at` (epoch seconds)."""

    event_id: str
    at: float
    user_id: str
    item_id: str
    surface: str
    position: int


class Past(NamedTuple):
    """One event of the past, its time in epoch seconds, and the partition it came from."""

    at: float
    event: s.Event
    place: Place


def store_as_of(
    lake: Path, *, until: float | None = None, topics: Sequence[str] = APPLIED, report: Report | None = None,
    versions: Mapping[str, int] | None = None,
) -> MemoryStore:  # fmt: skip
    """A store that has applied every event strictly before `until` (epoch seconds; None: all of them)."""
    store = MemoryStore()
    for past in replayed(lake, until=until, topics=topics, report=report, versions=versions):
        apply_event(store, past)
    return store


def hydrate(
    lake: Path, impressions: Iterable[Ask], *, report: Report | None = None
) -> Iterator[tuple[str, dict[str, s.FeatureValue]]]:
    """(event_id, snapshot) of each impression in time order, from the events strictly before it: one pass over history."""
    asks = sorted(impressions, key=lambda ask: (ask.at, ask.event_id))
    if not asks:
        return
    store, done = MemoryStore(), 0
    for past in replayed(lake, until=asks[-1].at, report=report):
        while asks[done].at <= past.at:
            yield asks[done].event_id, _as_of(store, asks[done])
            done += 1
        apply_event(store, past)
    for ask in asks[done:]:
        yield ask.event_id, _as_of(store, ask)


def _as_of(store: MemoryStore, ask: Ask) -> dict[str, s.FeatureValue]:
    known = read_known(store, ask.user_id, [ask.item_id], now=ask.at, look=store.look)[0]
    surface = s.Surface(ask.surface)
    return snapshot(ask.user_id, ask.item_id, known, now=ask.at, surface=surface, position=ask.position)


def apply_event(store: MemoryStore, past: Past) -> None:
    """Fold one event into the store: features, leases of live rooms, watermark."""
    store.apply(past.event, past.at)
    match past.event:
        case s.RoomClosed(room_id=room_id):
            store.set_room(room_id, lease_until=past.at)
        case s.RoomOpened(room_id=room_id) | s.RoomHeartbeat(room_id=room_id) | s.RoomStatusChanged(room_id=room_id):
            store.set_room(room_id, lease_until=lease_end(past.at))
        case _:
            pass
    store.set_watermark(past.at)


def replayed(
    lake: Path, *, until: float | None = None, topics: Sequence[str] = APPLIED, report: Report | None = None,
    versions: Mapping[str, int] | None = None,
) -> Iterator[Past]:  # fmt: skip
    """Events of the tables in event-time order, strictly before `until`; a topic without a table has none.

    `versions` are those of the tables to read, by name; the newest where it names none.
    """
    at = versions or {}
    opened = [(TOPICS[n], open_table(lake, TOPICS[n].table, version=at.get(TOPICS[n].table))) for n in topics]
    tables = [(topic, table) for topic, table in opened if table is not None]
    last = None if until is None else datetime.fromtimestamp(until, tz=UTC).date()
    done, total = 0, sum(sum(table.rows.values()) for _, table in tables)
    for dates in chunks([table for _, table in tables], last=last):
        lanes = [_events(table, topic, dates, until) for topic, table in tables]
        yield from sorted((past for lane in lanes for past in lane), key=itemgetter(0))  # stable: topics stay in order
        done += sum(table.rows.get(day, 0) for _, table in tables for day in dates)
        if report:
            report(f"history: {done:,} of {total:,} rows, up to {dates[-1]}")


def chunks(tables: Sequence[PinnedTable], *, last: date | None, rows: int = CHUNK_ROWS) -> Iterator[list[date]]:
    """The tables' dates in order, as many at once as hold about `rows` rows together, at least one."""
    held: list[date] = []
    count = 0
    for day in sorted({day for table in tables for day in table.rows if last is None or day <= last}):
        here = sum(table.rows.get(day, 0) for table in tables)
        if held and count + here > rows:
            yield held
            held, count = [], 0
        held.append(day)
        count += here
    if held:
        yield held


def _events(table: PinnedTable, topic: Topic, dates: Sequence[date], until: float | None) -> list[Past]:
    """One table's events of some dates by time, then place in the log."""
    fields = sorted({name for kind in topic.types for name in kind.__struct_fields__})
    rows = table.read(dates, [*fields, "type", "late", "kafka_partition", "kafka_offset"])
    rows = rows.filter(pc.invert(rows["late"]))
    if until is not None:
        rows = rows.filter(pc.less(rows["event_at"], pa.scalar(round(until * 1e6), pa.timestamp("us", tz="UTC"))))
    places = [("event_at", "ascending"), ("kafka_partition", "ascending"), ("kafka_offset", "ascending")]
    rows = distinct(rows.sort_by(places))
    if not rows.num_rows:
        return []  # Arrow 25's indices_nonzero crashes the process on an array without chunks
    out: list[tuple[int, Past]] = []
    for kind in topic.types:
        out.extend(_of_kind(rows, kind, topic.name))
    out.sort(key=itemgetter(0))
    return [past for _, past in out]


def _of_kind(rows: pa.Table, kind: type[s.Event], topic_name: str) -> Iterator[tuple[int, Past]]:
    """Rows of one event type as events, each with its place among `rows`; stored rows are valid: no second check."""
    here = pc.indices_nonzero(pc.equal(rows["type"], str(kind.__struct_config__.tag)))
    mine = rows.take(here)
    names = kind.__struct_fields__
    columns = [_plain(mine[name], name, default) for name, default in _defaults(kind).items()]
    make: Any = kind
    places = [Place(topic_name, number) for number in mine["kafka_partition"].to_pylist()]
    for number, place, values in zip(here.to_pylist(), places, zip(*columns, strict=True), strict=True):
        event = make(**dict(zip(names, values, strict=True)))
        yield number, Past(event.event_at.timestamp(), event, place)


def _defaults(kind: type[s.Event]) -> dict[str, Any]:
    """The fields of an event type, each with its default: what a row has that is older than the field; None without one."""
    return {one.name: None if one.default is NODEFAULT else one.default for one in structs.fields(kind)}


def _plain(column: pa.ChunkedArray, name: str, default: Any) -> list[Any]:
    """Lists back to the tuples the schema has, and nulls to defaults."""
    values = column.to_pylist()
    if name in ("tags", "blocked_creators"):
        values = [tuple(v) if isinstance(v, list) else v for v in values]
    return values if default is None or not column.null_count else [default if v is None else v for v in values]
