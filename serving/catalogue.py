"""Items, creators and trending lists kept in process, so that a request neither lists the store nor reads 500 items of it.

A background thread calls `refresh`: new items and live rooms are read every time, the rest in turns. What a request is about
to show is read again (`recheck`), so a removed item is never shown for being remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from events.schema import ContentType, Surface
from features.aggregates import Present, Recent, Sum
from features.definitions import BY_ENTITY, LEASE_S, MINUTE, Entity, Feature
from features.state import EntityState, values
from features.store import OnlineStore

TURN = 200  # items read again a refresh beside new ones and live rooms: 800 items take four turns
BATCH = 500  # items a store read
TRENDING_DEPTH = 200
ALL = "ALL"


def _moves(feature: Feature) -> bool:
    """Whether the feature's value can change within one minute without an event."""
    aggregate = feature.aggregate
    if isinstance(aggregate, Sum):
        return aggregate.window_s is not None and aggregate.bucket_s % MINUTE != 0
    return isinstance(aggregate, Present) or (isinstance(aggregate, Recent) and aggregate.window_s is not None)


_MOVING = {entity: tuple(f for f in features if _moves(f)) for entity, features in BY_ENTITY.items()}


class HeldState:
    """An entity's state whose values are computed once a minute of event time; equal to `features.state.values` at any time.

    Every window of the definitions ends on a bucket of whole minutes, save those in `_MOVING`, which are computed each time.
    """

    __slots__ = ("_entity", "_held", "state")

    def __init__(self, entity: Entity, state: EntityState) -> None:
        self._entity = entity
        self.state = state
        self._held: tuple[int, dict[str, Any]] = (-1, {})

    def values(self, now: float) -> Mapping[str, Any]:
        """Feature values as of `now`; not to be changed by the caller."""
        minute = int(now // MINUTE)
        held_minute, held = self._held
        if minute != held_minute:
            held = values(self._entity, self.state, now)
            self._held = (minute, held)
        moved = {
            f.name: f.aggregate.finish(self.state[f.name], now) for f in _MOVING[self._entity] if f.name in self.state
        }
        return held | moved if moved else held


@dataclass(frozen=True)
class Item:
    """A media item or a room with its attributes as last read."""

    item_id: str
    held: HeldState
    content_type: str
    creator_id: str
    category: str
    title: str
    status: str
    shown: bool
    published_at: float
    heartbeat_at: float
    fingerprint: int  # changes when an attribute that the item tower sees changes

    @property
    def is_room(self) -> bool:
        """A live room, as against published media."""
        return self.content_type == ContentType.LIVE

    def live_at(self, now: float) -> bool:
        """Whether the room's lease holds, as far as its own last heartbeat says."""
        return self.is_room and self.shown and self.heartbeat_at + LEASE_S > now

    @staticmethod
    def of(item_id: str, state: EntityState) -> "Item":
        """Read the attributes out of a merged state."""
        got = {name: state[name][1] if state.get(name) else None for name in _ATTRIBUTES}
        return Item(
            item_id=item_id,
            held=HeldState(Entity.ITEM, state),
            content_type=str(got["content_type"] or ContentType.VIDEO),
            creator_id=str(got["creator_id"] or "unknown"),
            category=str(got["category"] or "unknown"),
            title=str(got["title"] or ""),
            status=str(got["status"] or "none"),
            shown=bool(got["shown"]),
            published_at=float(got["published_at"] or 0.0),
            heartbeat_at=float(got["heartbeat_at"] or 0.0),
            fingerprint=hash(str([got[name] for name in _TOWER])),
        )


_TOWER = ("content_type", "creator_id", "category", "tags", "language", "duration_s")
_ATTRIBUTES = (*_TOWER, "title", "status", "shown", "published_at", "heartbeat_at")
_NO_CREATOR = HeldState(Entity.CREATOR, {})


@dataclass(frozen=True)
class CatalogueView:
    """What is known at one refresh."""

    items: dict[str, Item] = field(default_factory=dict)
    creators: dict[str, HeldState] = field(default_factory=dict)
    rooms: tuple[str, ...] = ()  # live as of the refresh
    trending: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    loaded: bool = False

    @cached_property
    def newest(self) -> tuple[str, ...]:
        """Shown media, newest first."""
        media = [item for item in self.items.values() if item.shown and not item.is_room]
        return tuple(item.item_id for item in sorted(media, key=lambda item: (-item.published_at, item.item_id)))

    def creator(self, creator_id: str) -> HeldState:
        """A creator's state; an empty one where nothing is known."""
        return self.creators.get(creator_id, _NO_CREATOR)

    def trending_for(self, surface: Surface, content_type: ContentType | None) -> Sequence[tuple[str, float]]:
        """The list of that surface and type, the home page's where the surface has none."""
        kind = content_type or ALL
        return self.trending.get(f"{surface}:{kind}") or self.trending.get(f"{Surface.HOME}:{kind}") or ()


class Catalogue:
    """Holds the view; one thread refreshes, requests read `view` and call `recheck`."""

    def __init__(self, store: OnlineStore, *, patient: OnlineStore | None = None) -> None:
        self._store = patient or store  # what `refresh` reads from
        self._quick = store  # what a request reads from
        self._turn = 0
        self.view = CatalogueView()

    def refresh(self, now: float) -> None:
        """Bring the view up to date; StoreUnavailable leaves the last one in place."""
        old = self.view
        rooms = tuple(self._store.live_rooms(now))
        listed = self._store.ids(Entity.ITEM)
        new = [one for one in listed if one not in old.items]
        wanted = dict.fromkeys((*new, *rooms, *self._next_turn(listed, old)))
        items, creators = dict(old.items), dict(old.creators)
        items.update(_read_items(self._store, list(wanted)))
        creators.update(
            self._read_creators(list(dict.fromkeys(items[one].creator_id for one in wanted if one in items)))
        )
        self.view = CatalogueView(items, creators, rooms, self._read_trending(), loaded=True)

    def _next_turn(self, listed: Sequence[str], old: CatalogueView) -> list[str]:
        """The next share of the known media and of rooms not yet seen closed."""
        known = [one for one in listed if (item := old.items.get(one)) is not None and (not item.is_room or item.shown)]
        if not known:
            return []
        start = self._turn % len(known)
        self._turn = start + TURN
        return known[start : start + TURN]

    def _read_creators(self, ids: Sequence[str]) -> dict[str, HeldState]:
        states = self._store.read(Entity.CREATOR, ids) if ids else []
        return {one: HeldState(Entity.CREATOR, state) for one, state in zip(ids, states, strict=True)}

    def _read_trending(self) -> dict[str, Sequence[tuple[str, float]]]:
        names = [f"{surface}:{kind}" for surface in Surface for kind in (ALL, *ContentType)]
        return {name: self._store.trending(name, TRENDING_DEPTH) for name in names}

    def recheck(self, ids: Sequence[str]) -> dict[str, Item]:
        """Those items as the store has them now, also put into the view."""
        fresh = _read_items(self._quick, ids)
        self.view.items.update(fresh)
        return fresh


def _read_items(store: OnlineStore, ids: Sequence[str]) -> dict[str, Item]:
    """The items there are among `ids`."""
    out: dict[str, Item] = {}
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        states = store.read(Entity.ITEM, batch)
        out.update((one, Item.of(one, state)) for one, state in zip(batch, states, strict=True) if state)
    return out
