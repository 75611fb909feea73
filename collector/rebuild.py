"""The online store from the offline tables alone: all of it after a loss, or one new feature from history.

States do not depend on the order of events, so the tables are read as they lie, in passes that each keep a share of the
entities in memory. A record gets the offset that the tables reach: the collector goes on from there, and applies nothing
twice. No collector may run meanwhile: it would write the records it holds in memory over these.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from collector.config import COLLECTED
from collector.errors import CannotRebuild
from collector.online import keep_s, lease_until
from collector.trending import Trending
from events.log import Place
from events.topics import LIFECYCLE, topic
from features.definitions import FEATURES, Entity
from features.history import APPLIED, Past, replayed
from features.offline_tables import open_table
from features.state import EntityState, fold, item_of
from features.store import OnlineRecord, OnlineStore, RecordKey
from features.tables import DeltaTables

ROWS_A_PASS = 2_000_000  # some 5 GB of states in memory
SAVED_AT_ONCE = 5_000
Report = Callable[[str], None]


def rebuild(lake: Path, store: OnlineStore, *, report: Report) -> int:
    """Fill an empty online store from the tables; how many records it has then. CannotRebuild when it is not empty."""
    if store.progress():
        raise CannotRebuild("the online store holds progress of a collector; empty it first (`--replace` does)")
    reached = _reached(lake)
    watermark, seen, written = None, dict[str, float](), 0
    for records, past in _passes(lake, reached, report=report):
        rooms = {key.entity_id: record.state for key, record in records.items() if key.place.topic == LIFECYCLE}
        for room, state in rooms.items():
            if (until := lease_until(state)) is not None:
                store.set_room(room, lease_until=until)
        written += _save(store, records)
        watermark, seen = past
        report(f"rebuild: {written:,} records")
    if watermark is not None:
        store.set_watermark(watermark)
        Trending(store).refresh(seen, now=watermark)
    store.advance(reached)
    return written


def backfill(lake: Path, store: OnlineStore, name: str, *, report: Report) -> int:
    """Fill one feature's state from the tables into every record; how many were changed. `name` is `<entity>.<feature>`.

    CannotRebuild for an unknown name, and while the two stores do not stand at the same offsets.
    """
    entity, state_name = feature_state(name)
    reached = _reached(lake)
    ahead = {place: offset for place, offset in store.progress().items() if offset != reached.get(place, 0)}
    if ahead:
        place, offset = next(iter(sorted(ahead.items())))
        raise CannotRebuild(
            f"the online store stands at offset {offset} of {place.topic}/{place.partition}, the tables at "
            f"{reached.get(place, 0)}; start the collector and stop it, so that both have everything"
        )
    written = 0
    for records, _ in _passes(lake, reached, report=report):
        mine = {key: record for key, record in records.items() if key.entity is entity and state_name in record.state}
        keys = list(mine)
        for start in range(0, len(keys), SAVED_AT_ONCE):
            some = keys[start : start + SAVED_AT_ONCE]
            held = store.load(some)
            merged = {
                key: OnlineRecord(mine[key].offset, (old.state if old else {}) | {state_name: mine[key].state[state_name]},
                                  mine[key].keep_s)
                for key, old in zip(some, held, strict=True)
            }  # fmt: skip
            written += _save(store, merged)
        ids = sorted({key.entity_id for key in keys})
        store.announce(items=ids if entity is Entity.ITEM else (), creators=ids if entity is Entity.CREATOR else ())
        report(f"backfill: {written:,} records")
    return written


def feature_state(name: str) -> tuple[Entity, str]:
    """The entity and the state of a feature given as `<entity>.<feature>`; CannotRebuild names what there is."""
    found = {f"{one.entity.value}.{one.name}": (one.entity, one.state) for one in FEATURES}
    if name not in found:
        raise CannotRebuild(f"there is no feature {name!r}; allowed are {', '.join(sorted(found))}")
    return found[name]


def _reached(lake: Path) -> dict[Place, int]:
    """Where the tables stand, by place."""
    tables = DeltaTables(lake)
    return {Place(name, number): offset for name in COLLECTED for number, offset in tables.progress(name).items()}


def _save(store: OnlineStore, records: dict[RecordKey, OnlineRecord]) -> int:
    if store.save(records):
        raise CannotRebuild("the online store was written meanwhile; stop every collector first")
    return len(records)


Shared = tuple[float | None, dict[str, float]]


def _passes(
    lake: Path, reached: dict[Place, int], *, report: Report
) -> Iterator[tuple[dict[RecordKey, OnlineRecord], Shared]]:
    """The records of a share of the entities at a time, and the largest event time and last times of items so far."""
    rows = sum(sum(table.rows.values()) for name in APPLIED if (table := open_table(lake, topic(name).table)))
    passes = rows // ROWS_A_PASS + 1
    watermark, seen = float("-inf"), dict[str, float]()
    for number in range(passes):
        records: dict[RecordKey, OnlineRecord] = {}
        for past in replayed(lake, topics=APPLIED, report=report):
            _fold(records, past, reached, share=(number, passes))
            watermark = max(watermark, past.at)
            if (item := item_of(past.event)) is not None:
                seen[item] = max(past.at, seen.get(item, past.at))
        yield records, (watermark if rows else None, seen)


def _fold(
    records: dict[RecordKey, OnlineRecord], past: Past, reached: dict[Place, int], *, share: tuple[int, int]
) -> None:
    """Add one event to those of its entities that belong to this share."""
    number, passes = share
    changed: list[RecordKey] = []

    def state_of(entity: Entity, entity_id: str) -> EntityState | None:
        if passes > 1 and zlib.crc32(entity_id.encode()) % passes != number:
            return None
        key = RecordKey(entity, entity_id, past.place)
        if key not in records:
            records[key] = OnlineRecord(reached[past.place] - 1, {})
        changed.append(key)
        return records[key].state

    fold(past.event, past.at, state_of)
    for key in changed:
        keep = keep_s(key, past.event, records[key].state)
        records[key].keep_s = keep if keep is not None else records[key].keep_s
