"""The online store's protocol and its memory version; features/redis.py is the real one and passes the same contract suite.

A record belongs to one entity and one source partition and carries the log offset it has applied, so that re-reading the
log changes nothing and two collectors never write the same record. Readers merge an entity's records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from events.log import Place
from features.definitions import LEASE_S, Entity
from features.state import EntityState, Update, apply, merge, values


class RecordKey(NamedTuple):
    """Names one online record."""

    entity: Entity
    entity_id: str
    place: Place


@dataclass
class OnlineRecord:
    """What one source partition has said of one entity, up to and including log offset `offset`."""

    offset: int
    state: EntityState


class OnlineStore(Protocol):
    """Keeps online records, live rooms, trending lists and how far each partition has been applied."""

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys, None where there is none; for the writer."""
        ...

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> None:
        """Write records whole; later `save`s of a key replace it."""
        ...

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`, empty where nothing is known; for readers."""
        ...

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place, as last set by `advance`."""
        ...

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets; call after the records up to there were saved."""
        ...

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until `lease_until` (epoch seconds); an earlier time than now ends it."""
        ...

    def live_rooms(self, now: float) -> list[str]:
        """Ids of the rooms whose lease holds as of `now`, sorted."""
        ...

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list (`name` is `<surface>:<content_type>`)."""
        ...

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Item ids and scores, best first."""
        ...

    def ids(self, entity: Entity) -> list[str]:
        """Every id of an entity that has a record (item ids: the catalogue), sorted."""
        ...

    def watermark(self) -> float | None:
        """Largest event time applied (epoch seconds), None before any event."""
        ...

    def set_watermark(self, at: float) -> None:
        """Raise the watermark; never lowers it."""
        ...


@dataclass
class MemoryStore:
    """OnlineStore in memory."""

    records: dict[tuple[Entity, str], dict[Place, OnlineRecord]] = field(default_factory=dict)
    offsets: dict[Place, int] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    lists: dict[str, dict[str, float]] = field(default_factory=dict)
    mark: float | None = None

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys."""
        return [self.records.get((key.entity, key.entity_id), {}).get(key.place) for key in keys]

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> None:
        """Write records whole."""
        for key, record in records.items():
            self.records.setdefault((key.entity, key.entity_id), {})[key.place] = record

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`."""
        return [merge(entity, (r.state for r in self.records.get((entity, one), {}).values())) for one in ids]

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place."""
        return dict(self.offsets)

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets."""
        self.offsets.update(progress)

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until then."""
        self.leases[room_id] = lease_until

    def live_rooms(self, now: float) -> list[str]:
        """Rooms whose lease holds."""
        return sorted(room for room, until in self.leases.items() if until > now)

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list."""
        self.lists[name] = dict(scores)

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Best first, ties by id."""
        return sorted(self.lists.get(name, {}).items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def ids(self, entity: Entity) -> list[str]:
        """Every id with a record."""
        return sorted(one for kind, one in self.records if kind is entity)

    def watermark(self) -> float | None:
        """Largest event time applied."""
        return self.mark

    def set_watermark(self, at: float) -> None:
        """Raise the watermark."""
        self.mark = at if self.mark is None else max(at, self.mark)

    def apply(self, update: Update, *, place: Place = Place("memory", 0)) -> None:
        """Fold one contribution straight in (replay and tests; no offsets)."""
        lane = self.records.setdefault((update.entity, update.entity_id), {})
        apply(lane.setdefault(place, OnlineRecord(0, {})).state, update)

    def attributes(self, item_id: str) -> Mapping[str, Any]:
        """Catalogue over this store's items, for `features.state.updates`."""
        lanes = self.records.get((Entity.ITEM, item_id))
        if not lanes:
            return {}
        state = merge(Entity.ITEM, ({n: p for n, p in r.state.items() if n in _ATTRIBUTES} for r in lanes.values()))
        return {name: held[1] for name, held in state.items() if held is not None}


_ATTRIBUTES = frozenset({"category", "tags", "content_type", "creator_id", "language", "duration_s", "published_at"})


def lease_end(heartbeat_at: float) -> float:
    """When the lease of a room ends that last showed life at `heartbeat_at`."""
    return heartbeat_at + LEASE_S


__all__ = ["MemoryStore", "OnlineRecord", "OnlineStore", "RecordKey", "lease_end", "values"]
