"""The online side: events folded into records in memory, and the flush that makes them the store's.

A record carries the offset it has applied; an event at or below it changes nothing. The flush writes records, then rooms and
the watermark, then tells the readers what changed, then writes the progress: a crash between any two of these only makes the
next start apply nothing twice and announce again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from collector.lane import Taken
from events.log import Place
from events.schema import Event
from events.topics import LIFECYCLE
from features.definitions import KEEP_PUBLISHED_S, KEEP_REMOVED_S, KEEP_ROOM_S, KEEP_S, Entity
from features.state import EntityState, fold, ids_of_pair, item_of, touched
from features.store import OnlineRecord, OnlineStore, RecordKey, lease_end


class Rival(Exception):
    """Another collector has applied more of these partitions than this one: it lost them and did not know yet."""

    def __init__(self, places: frozenset[Place]) -> None:
        super().__init__("the online store holds later records than this collector's")
        self.places = places


def lease_until(state: EntityState) -> float | None:
    """When a room's lease ends, from its record: 90 s after its last sign of life, or at its close if that was later."""
    beat, shown = state.get("heartbeat_at"), state.get("shown")
    closed_at = shown[0] if shown is not None and not shown[1] else None
    if beat is None:
        return closed_at
    return closed_at if closed_at is not None and closed_at >= beat[0] else lease_end(beat[0])


def keep_s(key: RecordKey, event: Event, state: EntityState) -> float | None:
    """Wall seconds that the store must keep a record after this event."""
    if key.entity is not Entity.ITEM:
        return KEEP_S[key.entity]
    if hasattr(event, "room_id"):
        return KEEP_ROOM_S
    shown = state.get("shown")
    if shown is None:  # engagement: says nothing of how long the item stays
        return KEEP_S[Entity.ITEM]
    return KEEP_PUBLISHED_S if shown[1] else KEEP_REMOVED_S


def is_about_any(key: RecordKey, people: Callable[[str], bool]) -> bool:
    """Whether a record is about one of these people, as viewer or as creator."""
    ids = ids_of_pair(key.entity_id) if key.entity is Entity.PAIR else (key.entity_id,)
    return key.entity is not Entity.ITEM and any(map(people, ids))


class OnlineSide:
    """Records in memory, and which of them the store does not have yet."""

    def __init__(self, store: OnlineStore, *, cached: int) -> None:
        self._store = store
        self._cached = cached
        self._records: dict[RecordKey, OnlineRecord] = {}
        self._dirty: dict[RecordKey, OnlineRecord] = {}
        self._rooms: dict[str, tuple[Place, float]] = {}
        self._changed: dict[Entity, set[str]] = {Entity.ITEM: set(), Entity.CREATOR: set()}
        self.watermark: float | None = None
        self.touched: dict[str, float] = {}  # item id -> event time, since the listings last asked

    def apply(self, batch: Sequence[Taken]) -> int:
        """Fold events in; returns how many changed something.

        After a StoreUnavailable the same batch may be applied again: what it did is not done twice.
        """
        self._load(
            RecordKey(entity, one, taken.record.place) for taken in batch for entity, one in touched(taken.event)
        )
        return sum(map(self._apply_one, batch))

    def _load(self, keys: Iterable[RecordKey]) -> None:
        missing = [key for key in dict.fromkeys(keys) if key not in self._records]
        for key, record in zip(missing, self._store.load(missing) if missing else (), strict=True):
            self._records[key] = OnlineRecord(-1, {}) if record is None else record

    def _apply_one(self, taken: Taken) -> bool:
        offset, place, event = taken.record.offset, taken.record.place, taken.event
        claimed: list[tuple[RecordKey, OnlineRecord]] = []

        def state_of(entity: Entity, entity_id: str) -> EntityState | None:
            key = RecordKey(entity, entity_id, place)
            if entity in self._changed:
                self._changed[entity].add(entity_id)  # also when it was applied: its announcement may have been lost
            record = self._records[key]
            if record.offset >= offset:
                return None
            claimed.append((key, record))
            return record.state

        fold(event, taken.at, state_of)
        for key, record in claimed:
            record.offset = offset
            record.keep_s = keep_s(key, event, record.state)
            self._dirty[key] = record
        if self.watermark is None or taken.at > self.watermark:
            self.watermark = taken.at
        self._note_item(taken, place)
        return bool(claimed)

    def _note_item(self, taken: Taken, place: Place) -> None:
        item = item_of(taken.event)
        if item is None:
            return
        self.touched[item] = max(taken.at, self.touched.get(item, taken.at))
        if place.topic == LIFECYCLE:
            state = self._records[RecordKey(Entity.ITEM, item, place)].state
            if (until := lease_until(state)) is not None:
                self._rooms[item] = (place, until)

    def flush(self, progress: Mapping[Place, int]) -> None:
        """Make the store agree with memory; what it could not take stays for the next flush. Rival when it was too late."""
        if self._dirty:
            refused = self._store.save(self._dirty)
            if refused:
                raise Rival(frozenset(key.place for key in refused))
        for room, (_, until) in self._rooms.items():
            self._store.set_room(room, lease_until=until)
        if self.watermark is not None and (self._dirty or progress):
            self._store.set_watermark(self.watermark)
        items, creators = (sorted(self._changed[entity]) for entity in (Entity.ITEM, Entity.CREATOR))
        if items or creators:
            self._store.announce(items=items, creators=creators)
        self._store.advance(progress)
        self._dirty.clear()
        self._rooms.clear()
        for changed in self._changed.values():
            changed.clear()
        self._evict()

    def drop(self, places: Iterable[Place]) -> None:
        """Forget everything of these partitions: another collector goes on with them, or the store was set back."""
        gone = frozenset(places)
        self._records = {key: record for key, record in self._records.items() if key.place not in gone}
        self._dirty = {key: record for key, record in self._dirty.items() if key.place not in gone}
        self._rooms = {room: held for room, held in self._rooms.items() if held[0] not in gone}

    def forget(self, is_erased: Callable[[str], bool]) -> None:
        """Drop the records of people who were erased, so that nothing of them is written any more."""
        for key in [key for key in self._records if is_about_any(key, is_erased)]:
            del self._records[key]
            self._dirty.pop(key, None)

    def _evict(self) -> None:
        """Least lately loaded first: what is in use is loaded again at little cost."""
        while len(self._records) > self._cached:
            del self._records[next(iter(self._records))]
