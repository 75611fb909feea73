"""The online store's protocols and their memory version; features/redis.py is the real one, under the same contract suite.

A record belongs to one entity and one source partition and carries the log offset it has applied, so that re-reading the
log changes nothing and two collectors never write the same record. Readers merge an entity's records, in the order of their
partitions. Whoever holds values in process reads them once and then asks which entities changed.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from events.log import Place
from events.schema import Event, MediaPublished, RoomOpened
from features.definitions import LEASE_S, WORDS, Entity
from features.state import EntityState, fold, item_key_of, merge, pair_id, words_of


class RecordKey(NamedTuple):
    """Names one online record."""

    entity: Entity
    entity_id: str
    place: Place


@dataclass(slots=True)
class OnlineRecord:
    """What one source partition has said of one entity, up to and including log offset `offset`.

    `keep_s` are the wall seconds after its last write that the store must keep it; None: until it is taken back.
    """

    offset: int
    state: EntityState
    keep_s: float | None = None


class Changed(NamedTuple):
    """Ids announced since a cursor, and the cursor to go on from; `items` are items and rooms."""

    cursor: str
    items: frozenset[str]
    creators: frozenset[str]


class OfViewer(NamedTuple):
    """A viewer's merged state, and the states of her pairs by creator (merged when asked for).

    `packed` is all of it in a few kilobytes, for whoever keeps what was read: `EntityReader.viewer_in` reads it back.
    """

    state: EntityState
    pairs: Mapping[str, EntityState]
    packed: bytes = b""


class RecordStore(Protocol):
    """What the collector writes: records, and how far each partition has been applied."""

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys, None where there is none; `keep_s` is not read back."""
        ...

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        """Write records whole; returns the keys of those refused: the store holds one with a greater offset (a rival's)."""
        ...

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place, as last set by `advance`; where there are shards, the smallest of them."""
        ...

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets, on every shard; call after the records up to there were saved."""
        ...

    def announce(self, *, items: Sequence[str] = (), creators: Sequence[str] = ()) -> None:
        """Tell readers that these changed; call after their records were saved."""
        ...

    def erase_user(self, user_id: str) -> int:
        """Remove everything kept under a person's id, as viewer and as creator; how many records that were."""
        ...


class EntityReader(Protocol):
    """What readers ask for."""

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`, empty where nothing is known."""
        ...

    def of_viewer(self, user_id: str) -> "OfViewer":
        """A viewer's state and those of her pairs, in one round trip."""
        ...

    def viewer_in(self, packed: bytes) -> "OfViewer":
        """What `of_viewer` of a store of this kind gave with those bytes; asks nobody."""
        ...

    def ids(self, entity: Entity) -> list[str]:
        """Every id of an entity that has a record (item ids: the catalogue), sorted."""
        ...

    def cursor(self) -> str:
        """Where the announcements stand now: take it, read what you keep, then follow from it."""
        ...

    def changed(self, since: str) -> Changed | None:
        """What was announced after `since`; None when that is no longer known: read everything again."""
        ...

    def set_vectors(self, vectors: Mapping[str, bytes]) -> None:
        """Keep packed numbers by item id (features/vectors.py)."""
        ...

    def vectors(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Packed numbers in the order of `item_ids`, None where there are none: one round trip."""
        ...

    def of_request(self, user_id: str, item_ids: Sequence[str]) -> tuple[EntityState, list[bytes | None]]:
        """What a request needs where nothing is held in process: the viewer's state and the candidates' packed numbers."""
        ...


class Listings(Protocol):
    """Live rooms, trending lists and the event time reached."""

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until `lease_until` (epoch seconds); an earlier time than now ends it."""
        ...

    def live_rooms(self, now: float) -> list[str]:
        """Ids of the rooms whose lease holds as of `now`, sorted."""
        ...

    def leases(self, room_ids: Sequence[str]) -> list[float | None]:
        """Until when each room is live (epoch seconds); None for one that is not listed, live or ended lately."""
        ...

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list (`name` is `<surface>:<content_type>`)."""
        ...

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Item ids and scores, best first."""
        ...

    def watermark(self) -> float | None:
        """Largest event time applied (epoch seconds), None before any event."""
        ...

    def set_watermark(self, at: float) -> None:
        """Raise the watermark, never lower it; rooms that ended long before it are forgotten."""
        ...


class OnlineStore(RecordStore, EntityReader, Listings, Protocol):
    """All of it."""


_OF_VIEWER = msgspec.msgpack.Decoder(tuple[EntityState, dict[str, EntityState]])
ANNOUNCEMENTS = 10_000  # how many announcements a store remembers
FORGOTTEN_ROOM_S = 86_400.0  # a room whose lease ended that long before the watermark is listed nowhere


@dataclass
class MemoryStore:
    """OnlineStore in memory."""

    records: dict[tuple[Entity, str], dict[Place, OnlineRecord]] = field(default_factory=dict)
    offsets: dict[Place, int] = field(default_factory=dict)
    leases_of: dict[str, float] = field(default_factory=dict)
    lists: dict[str, dict[str, float]] = field(default_factory=dict)
    mark: float | None = None
    packed: dict[str, bytes] = field(default_factory=dict)
    announced: deque[tuple[int, frozenset[str], frozenset[str]]] = field(
        default_factory=lambda: deque(maxlen=ANNOUNCEMENTS)
    )
    announcements: int = 0
    _ended: set[str] = field(default_factory=set)  # rooms that are listed nowhere any more
    _looked: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys."""
        return [self.records.get((key.entity, key.entity_id), {}).get(key.place) for key in keys]

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        """Write records whole but for those of which it holds a later one."""
        refused = []
        for key, record in records.items():
            lane = self.records.setdefault((key.entity, key.entity_id), {})
            held = lane.get(key.place)
            if held is not None and held.offset > record.offset:
                refused.append(key)
            else:
                lane[key.place] = record
        return refused

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`."""
        lanes = (self.records.get((entity, one), {}) for one in ids)
        return [merge(entity, (lane[place].state for place in sorted(lane))) for lane in lanes]

    def of_viewer(self, user_id: str) -> OfViewer:
        """A viewer's state and those of her pairs."""
        head = pair_id(user_id, "")
        pairs = [one for kind, one in self.records if kind is Entity.PAIR and one.startswith(head)]
        states = dict(zip((one[len(head) :] for one in pairs), self.read(Entity.PAIR, pairs), strict=True))
        state, known = self.read(Entity.USER, [user_id])[0], {one: held for one, held in states.items() if held}
        return OfViewer(state, known, msgspec.msgpack.encode((state, known)))

    def viewer_in(self, packed: bytes) -> OfViewer:
        """What `of_viewer` gave with those bytes."""
        return OfViewer(*_OF_VIEWER.decode(packed), packed)

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place."""
        return dict(self.offsets)

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets."""
        self.offsets.update(progress)

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until then."""
        self.leases_of[room_id] = lease_until
        self._ended.discard(room_id)

    def live_rooms(self, now: float) -> list[str]:
        """Rooms whose lease holds."""
        return sorted(room for room, until in self.leases_of.items() if until > now)

    def leases(self, room_ids: Sequence[str]) -> list[float | None]:
        """Until when each room is live."""
        return [self.leases_of.get(one) for one in room_ids]

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list."""
        self.lists[name] = dict(scores)

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Best first, ties by id."""
        return sorted(self.lists.get(name, {}).items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def ids(self, entity: Entity) -> list[str]:
        """Every id with a record."""
        return sorted(one for kind, one in self.records if kind is entity and one not in self._ended)

    def watermark(self) -> float | None:
        """Largest event time applied."""
        return self.mark

    def set_watermark(self, at: float) -> None:
        """Raise the watermark."""
        self.mark = at if self.mark is None else max(at, self.mark)
        for room in [room for room, until in self.leases_of.items() if until < at - FORGOTTEN_ROOM_S]:
            del self.leases_of[room]
            self._ended.add(room)  # its record stays: history is read from this store too

    def announce(self, *, items: Sequence[str] = (), creators: Sequence[str] = ()) -> None:
        """Tell readers that these changed."""
        if items or creators:
            self.announcements += 1
            self.announced.append((self.announcements, frozenset(items), frozenset(creators)))

    def cursor(self) -> str:
        """How many announcements there were."""
        return str(self.announcements)

    def changed(self, since: str) -> Changed | None:
        """What was announced after `since`."""
        first = self.announcements - len(self.announced)
        if not first <= int(since) <= self.announcements:
            return None
        after = [one for one in self.announced if one[0] > int(since)]
        items = frozenset[str]().union(*(one[1] for one in after))
        return Changed(self.cursor(), items, frozenset[str]().union(*(one[2] for one in after)))

    def set_vectors(self, vectors: Mapping[str, bytes]) -> None:
        """Keep packed numbers by item id."""
        self.packed.update(vectors)

    def vectors(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Packed numbers in the order of `item_ids`."""
        return [self.packed.get(one) for one in item_ids]

    def of_request(self, user_id: str, item_ids: Sequence[str]) -> tuple[EntityState, list[bytes | None]]:
        """The viewer's state and the candidates' packed numbers."""
        return self.read(Entity.USER, [user_id])[0], self.vectors(item_ids)

    def erase_user(self, user_id: str) -> int:
        """Remove a person's records, and her pairs from either side."""
        gone = [key for key in self.records if _is_about(key, user_id)]
        return sum(len(self.records.pop(key)) for key in gone)

    def apply(self, event: Event, at: float, *, place: Place = Place("memory", 0)) -> None:
        """Fold an event at epoch second `at` straight in (replay and tests; no offsets)."""

        def state_of(entity: Entity, entity_id: str) -> EntityState:
            lane = self.records.setdefault((entity, entity_id), {})
            return lane.setdefault(place, OnlineRecord(0, {})).state

        fold(event, at, state_of)
        if isinstance(event, (MediaPublished, RoomOpened)):
            self._looked.pop(item_key_of(event) or "", None)

    def look(self, key: str) -> Mapping[str, Any]:
        """Words about an item key; for stores filled by `apply`."""
        found = self._looked.get(key)
        if found is None:
            item, creator = (self._words(entity, key) for entity in (Entity.ITEM, Entity.CREATOR))
            found = self._looked[key] = words_of(item, creator)
        return found

    def _words(self, entity: Entity, key: str) -> EntityState:
        lanes = self.records.get((entity, key), {}).values()
        return merge(entity, ({n: r.state[n] for n in WORDS if n in r.state} for r in lanes))


def _is_about(key: tuple[Entity, str], user_id: str) -> bool:
    entity, one = key
    if entity is Entity.PAIR:
        return one.startswith(pair_id(user_id, "")) or one.endswith(pair_id("", user_id))
    return entity in (Entity.USER, Entity.CREATOR) and one == user_id


def lease_end(heartbeat_at: float) -> float:
    """When the lease of a room ends that last showed life at `heartbeat_at`."""
    return heartbeat_at + LEASE_S
