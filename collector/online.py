"""The online side: events folded into records in memory, and the flush that makes them the store's.

A record carries the offset it has applied; an event at or below it changes nothing. The flush writes records, then rooms and
the watermark, then the progress: a crash between any two of these only makes the next start apply nothing twice.
"""

from collections.abc import Iterable, Mapping, Sequence

from collector.catalogue import ItemCatalogue
from collector.config import CATALOGUE_TOPICS
from collector.lane import Taken
from events.log import Place
from events.topics import LIFECYCLE
from features.definitions import Entity
from features.state import EntityState, Update, apply, item_of, updates
from features.store import OnlineRecord, OnlineStore, RecordKey, lease_end


def lease_until(state: EntityState) -> float | None:
    """When a room's lease ends, from its record: 90 s after its last sign of life, or at its close if that was later."""
    beat, shown = state.get("heartbeat_at"), state.get("shown")
    closed_at = shown[0] if shown is not None and not shown[1] else None
    if beat is None:
        return closed_at
    return closed_at if closed_at is not None and closed_at >= beat[0] else lease_end(beat[0])


class OnlineSide:
    """Records in memory, and which of them the store does not have yet."""

    def __init__(self, store: OnlineStore, catalogue: ItemCatalogue, *, cached: int) -> None:
        self._store = store
        self._catalogue = catalogue
        self._cached = cached
        self._records: dict[RecordKey, OnlineRecord] = {}
        self._dirty: dict[RecordKey, OnlineRecord] = {}
        self._rooms: dict[str, tuple[Place, float]] = {}
        self.watermark: float | None = None
        self.touched: dict[str, float] = {}  # item id -> event time, since trending last asked

    def apply(self, batch: Sequence[Taken]) -> int:
        """Fold events in, the catalogue's first; returns how many changed something.

        After a StoreUnavailable the same batch may be applied again: what it did is not done twice.
        """
        first = [taken for taken in batch if taken.record.topic in CATALOGUE_TOPICS]
        rest = [taken for taken in batch if taken.record.topic not in CATALOGUE_TOPICS]
        return sum(self._apply_all(part) for part in (first, rest) if part)

    def _apply_all(self, batch: Sequence[Taken]) -> int:
        self._catalogue.fetch(item for taken in batch if (item := item_of(taken.event)))
        work = [(taken, list(updates(taken.event, self._catalogue))) for taken in batch]
        self._load(RecordKey(u.entity, u.entity_id, taken.record.place) for taken, changes in work for u in changes)
        return sum(self._apply_one(taken, changes) for taken, changes in work)

    def _load(self, keys: Iterable[RecordKey]) -> None:
        missing = [key for key in dict.fromkeys(keys) if key not in self._records]
        for key, record in zip(missing, self._store.load(missing) if missing else (), strict=True):
            self._records[key] = OnlineRecord(-1, {}) if record is None else record

    def _apply_one(self, taken: Taken, changes: Sequence[Update]) -> bool:
        offset, place = taken.record.offset, taken.record.place
        held: dict[Entity, OnlineRecord | None] = {}
        for update in changes:
            if update.entity not in held:
                held[update.entity] = self._claim(RecordKey(update.entity, update.entity_id, place), offset)
            record = held[update.entity]
            if record is not None:
                apply(record.state, update)
        for record in held.values():
            if record is not None:
                record.offset = offset
        if self.watermark is None or taken.at > self.watermark:
            self.watermark = taken.at
        if Entity.ITEM in held:
            self._note_item(taken, place)
        return any(record is not None for record in held.values())

    def _claim(self, key: RecordKey, offset: int) -> OnlineRecord | None:
        """The record to change, None when it has this offset already."""
        record = self._records[key]
        if record.offset >= offset:
            return None
        self._dirty[key] = record
        self._records[key] = self._records.pop(key)  # last used, last to be evicted
        return record

    def _note_item(self, taken: Taken, place: Place) -> None:
        item = item_of(taken.event)
        if item is None:
            return
        self.touched[item] = max(taken.at, self.touched.get(item, taken.at))
        if place.topic in CATALOGUE_TOPICS:
            state = self._records[RecordKey(Entity.ITEM, item, place)].state
            self._catalogue.publish(item, state)
            if place.topic == LIFECYCLE and (until := lease_until(state)) is not None:
                self._rooms[item] = (place, until)

    def flush(self, progress: Mapping[Place, int]) -> None:
        """Make the store agree with memory; what it could not take stays for the next flush."""
        if self._dirty:
            self._store.save(self._dirty)
        for room, (_, until) in self._rooms.items():
            self._store.set_room(room, lease_until=until)
        if self.watermark is not None and (self._dirty or progress):
            self._store.set_watermark(self.watermark)
        self._store.advance(progress)
        self._dirty.clear()
        self._rooms.clear()
        self._evict()

    def drop(self, places: Iterable[Place]) -> None:
        """Forget everything of these partitions: another collector goes on with them, or the store was set back."""
        gone = frozenset(places)
        self._records = {key: record for key, record in self._records.items() if key.place not in gone}
        self._dirty = {key: record for key, record in self._dirty.items() if key.place not in gone}
        self._rooms = {room: held for room, held in self._rooms.items() if held[0] not in gone}
        self._catalogue.clear()

    def _evict(self) -> None:
        while len(self._records) > self._cached:
            del self._records[next(iter(self._records))]
