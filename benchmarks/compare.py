"""What a reader of the two stores could see after a run, and where two runs differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from events.log import Place
from events.topics import TOPICS
from features.definitions import Entity
from features.redis import RedisStore
from features.snapshot import look_in
from features.state import values
from features.tables import DeltaTables
from settings import Settings

ROOMS_MIN = 240  # how far back leases are looked at
Row = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """Offline rows by place, how often an id is there, and every online value as of one event time."""

    rows: dict[tuple[str, int, int], Row]
    copies: dict[str, Counter[str]]  # topic -> event id -> rows
    values: dict[tuple[str, str, str], Any]  # entity, id, feature
    rooms: dict[int, list[str]]  # minutes before now -> rooms whose lease reached beyond that
    watermark: float | None
    progress: dict[Place, int]


def look(settings: Settings, *, now: float) -> Seen:
    """Read both stores whole; online values as of `now` (epoch seconds)."""
    rows: dict[tuple[str, int, int], Row] = {}
    copies: dict[str, Counter[str]] = {}
    tables = DeltaTables(settings.lake)
    for name, topic in TOPICS.items():
        found = tables.read(topic.table).to_pylist()
        copies[name] = Counter(row["event_id"] for row in found)
        for row in found:
            del row["ingested_at"]  # wall time: the one column that may differ
            rows[name, row["kafka_partition"], row["kafka_offset"]] = row
    store = RedisStore(settings.redis)
    try:
        rooms = {minutes: store.live_rooms(now - 60.0 * minutes) for minutes in range(0, ROOMS_MIN, 5)}
        return Seen(
            rows, copies, _values(store, now, _ids(store, rows.values())), rooms, store.watermark(), store.progress()
        )
    finally:
        store.close()


def newest(settings: Settings) -> float:
    """The event time that the online store has reached (epoch seconds); 0 for an empty one."""
    store = RedisStore(settings.redis)
    try:
        return store.watermark() or 0.0
    finally:
        store.close()


def _ids(store: RedisStore, rows: Iterable[Row]) -> dict[Entity, list[str]]:
    """Every entity there is; items by the rows: when an ended room leaves the store's list is nobody's promise."""
    items = {row[name] for row in rows for name in ("item_id", "room_id") if row.get(name)}
    return {entity: sorted(items) if entity is Entity.ITEM else store.ids(entity) for entity in Entity}


def _values(store: RedisStore, now: float, every: Mapping[Entity, list[str]]) -> dict[tuple[str, str, str], Any]:
    out: dict[tuple[str, str, str], Any] = {}
    for entity, ids in every.items():
        for one, state in zip(ids, store.read(entity, ids), strict=True):
            for name, value in values(entity, state, now, look_in(store, state)).items():
                out[str(entity), one, name] = value
    return out


def differing(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> list[Any]:
    """The keys that one side lacks or whose values are not equal."""
    return [key for key in {**left, **right} if key not in left or key not in right or left[key] != right[key]]


def missing_ids(seen: Seen, wanted: Mapping[str, set[str]]) -> list[str]:
    """Event ids of the tape that no row has."""
    return [one for topic, ids in wanted.items() for one in sorted(ids - set(seen.copies[topic]))]


def repeated_ids(seen: Seen) -> list[str]:
    """Event ids that more than one row has."""
    return [one for counts in seen.copies.values() for one, count in counts.items() if count > 1]
