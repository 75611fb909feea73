"""Items, creators, live rooms and trending lists kept in process, so that 500 candidates cost no round trip to the store.

A background thread calls `refresh`. It reads everything once, in slices, and from then on only what the store announces as
changed; when it has missed announcements it reads everything again, slice by slice, beside following them. What a request is
about to show is read again (`recheck`), so a removed item is never shown for being remembered.

The items are changed in place, by that one thread: a catalogue of millions cannot be copied several times a second. Readers
therefore look items up with `get`, once, and never iterate.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from sys import intern
from typing import Any

from events.schema import ContentType, Surface
from features.definitions import LEASE_S, MINUTE, Entity
from features.state import EntityState, words_of
from features.store import OnlineStore
from serving.held import HeldState, Warm
from serving.item_table import ItemTable
from serving.newest import Newest
from serving.words import Words

BATCH = 500  # entities a store read
SLICE = 5_000  # items of a whole read that are read in one refresh
MOVED = 2_000  # items whose numbers are computed again in one refresh because time has passed
ENDED_S = 600.0  # event time: a room whose lease ended that long before the store's watermark leaves memory
TRENDING_DEPTH = 200
ALL = "ALL"
_TOWER = ("content_type", "creator_id", "category", "tags", "language", "duration_s")
_ATTRIBUTES = (*_TOWER, "title", "status", "shown", "published_at", "heartbeat_at")


@dataclass(frozen=True, slots=True)
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
    tags: tuple[str, ...] = ()

    @property
    def is_room(self) -> bool:
        """A live room, as against published media."""
        return self.content_type == ContentType.LIVE

    @property
    def words(self) -> dict[str, Any]:
        """What viewers' features are read through (features.state.words_of)."""
        return {"category": self.category, "content_type": self.content_type, "tags": self.tags}

    def live_at(self, now: float) -> bool:
        """Whether the room's lease holds, as far as its own last heartbeat says."""
        return self.is_room and self.shown and self.heartbeat_at + LEASE_S > now

    @staticmethod
    def of(item_id: str, state: EntityState, warm: Warm | None = None) -> "Item":
        """Read the attributes out of a merged state."""
        got = {name: state[name][1] if state.get(name) else None for name in _ATTRIBUTES}
        return Item(
            item_id=item_id,
            held=HeldState(Entity.ITEM, state, warm),
            content_type=intern(str(got["content_type"] or ContentType.VIDEO)),
            creator_id=intern(str(got["creator_id"] or "unknown")),
            category=intern(str(got["category"] or "unknown")),
            title=str(got["title"] or ""),
            status=intern(str(got["status"] or "none")),
            shown=bool(got["shown"]),
            published_at=float(got["published_at"] or 0.0),
            heartbeat_at=float(got["heartbeat_at"] or 0.0),
            fingerprint=hash(str([got[name] for name in _TOWER])),
            tags=tuple(map(intern, got["tags"] or ())),
        )


@dataclass(frozen=True, slots=True)
class Creator:
    """A creator's state, and the words of the last room; none where there was none."""

    held: HeldState
    words: Mapping[str, Any]


_NO_CREATOR = HeldState(Entity.CREATOR, {})


@dataclass(frozen=True)
class CatalogueView:
    """What is known as of one refresh; `items`, `creators` and `table` go on changing."""

    items: dict[str, Item] = field(default_factory=dict)
    creators: dict[str, Creator] = field(default_factory=dict)
    table: ItemTable = field(default_factory=ItemTable)
    rooms: tuple[str, ...] = ()  # live as of the refresh
    newest: tuple[str, ...] = ()  # shown media, newest first, at most serving.newest.NEWEST
    trending: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    shape: int = 0  # grows when an item comes, goes or changes its attributes
    loaded: bool = False
    as_of: float | None = None  # event time of the refresh
    refreshed: float = 0.0  # monotonic seconds of it

    def creator(self, creator_id: str) -> HeldState:
        """A creator's state; an empty one where nothing is known."""
        found = self.creators.get(creator_id)
        return _NO_CREATOR if found is None else found.held

    def known(self, ids: Iterable[str]) -> Iterator[Item]:
        """The items there are among `ids`, in order."""
        return (item for one in ids if (item := self.items.get(one)) is not None)

    def words(self, key: str) -> Mapping[str, Any] | None:
        """Words of an item key: the item's own, or of the host's last room; None where neither is held."""
        item = self.items.get(key)
        if item is not None:
            return item.words
        creator = self.creators.get(key)
        return None if creator is None else creator.words

    def trending_for(self, surface: Surface, content_type: ContentType | None) -> Sequence[tuple[str, float]]:
        """The list of that surface and type, the home page's where the surface has none."""
        kind = content_type or ALL
        return self.trending.get(f"{surface}:{kind}") or self.trending.get(f"{Surface.HOME}:{kind}") or ()


class Catalogue:
    """Holds the view; one thread refreshes, requests read `view`, look through `words` and call `recheck`."""

    def __init__(self, store: OnlineStore, *, patient: OnlineStore | None = None) -> None:
        self._store = patient or store  # what `refresh` reads from
        self._quick = store  # what a request reads from
        self._items: dict[str, Item] = {}
        self._creators: dict[str, Creator] = {}
        self._table, self._newest, self._warm = ItemTable(), Newest(), Warm()
        self._rooms: set[str] = set()  # the rooms among the items
        self._cursor: str | None = None
        self._whole = Whole([])
        self._shape = 0
        self._swept = 0  # the minute of the watermark in which rooms were last let go
        self.view = CatalogueView(self._items, self._creators, self._table)
        self.words = Words(lambda key: self.view.words(key), store)

    def refresh(self, now: float) -> None:
        """Bring the view up to date; StoreUnavailable leaves the last one, which may already hold newer items."""
        self._follow(now)
        self._read_on(now)
        rooms = tuple(self._store.live_rooms(now))
        self._read_items([one for one in rooms if one not in self._items], now)
        self._let_go(self._store.watermark())
        for item in self.view.known(self._table.due(now, limit=MOVED)):
            self._table.put(item.item_id, item.held.state, creator_id=item.creator_id, now=now)
        if self._newest.is_short:
            self._newest.refill((i.item_id, i.published_at) for i in self._items.values() if not i.is_room)
        self.view = CatalogueView(
            self._items, self._creators, self._table, rooms=rooms, newest=self._newest.ids(),
            trending=self._read_trending(), shape=self._shape, loaded=True, as_of=now, refreshed=time.monotonic(),
        )  # fmt: skip

    def _follow(self, now: float) -> None:
        """Read what was announced since the last time, or begin to read everything where that is not known."""
        changed = None if self._cursor is None else self._store.changed(self._cursor)
        if changed is None:
            cursor = self._store.cursor()  # before the listing: what comes in between is announced after it
            self._whole = Whole(self._store.ids(Entity.ITEM))
            self._cursor = cursor
            return
        self._read_creators([one for one in changed.creators if one in self._creators], now)
        self._read_items(list(changed.items), now)
        self._whole.followed(changed.items)
        self._cursor = changed.cursor
        self.words.forget(chain(changed.items, changed.creators))

    def _read_on(self, now: float) -> None:
        """The next slice of a whole read, all of them before the first view; at its end what is listed no more goes.

        A store that lists nothing has lost its data: then what is held stays until it is announced anew.
        """
        while self._whole.left:
            ids = self._whole.left[-SLICE:]
            self._read_items(ids, now, whole=True)
            del self._whole.left[-SLICE:]
            if not self._whole.left:
                for gone in [one for one in self._items if not self._whole.has(one)]:
                    self._drop(gone)
                self._read_creators([one for one in self._creators if one not in self._whole.creators], now)
                self._whole = Whole([])
            if self.view.loaded:
                return

    def _read_items(self, ids: Sequence[str], now: float, *, whole: bool = False) -> None:
        """Read items into the catalogue, first their creators: those not held, in a whole read those it has not read yet."""
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            states = self._store.read(Entity.ITEM, batch)
            items = [Item.of(one, state, self._warm) for one, state in zip(batch, states, strict=True)]
            had = self._whole.creators if whole else self._creators
            makers = dict.fromkeys(item.creator_id for item in items if item.shown and item.creator_id not in had)
            self._read_creators(list(makers), now)
            for item, state in zip(items, states, strict=True):
                self._put(item, state, now)

    def _read_creators(self, ids: Sequence[str], now: float) -> None:
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            for one, state in zip(batch, self._store.read(Entity.CREATOR, batch), strict=True):
                held = HeldState(Entity.CREATOR, state, self._warm)
                self._table.put_creator(one, state, now)
                self._creators[one] = Creator(held, words_of({}, state))
                if self._whole.left:
                    self._whole.creators.add(one)

    def _put(self, item: Item, state: EntityState, now: float) -> None:
        """Hold an item that may be shown; anything else is not kept."""
        one = item.item_id
        if not item.shown:
            self._drop(one)
            return
        old = self._items.get(one)
        self._table.put(one, state, creator_id=item.creator_id, now=now)
        self._items[one] = item
        if item.is_room:
            self._rooms.add(one)
        else:
            self._newest.put(one, item.published_at)
        self._shape += old is None or old.fingerprint != item.fingerprint

    def _drop(self, item_id: str) -> None:
        if self._items.pop(item_id, None) is not None:
            self._rooms.discard(item_id)
            self._newest.drop(item_id)
            self._table.drop(item_id)
            self._shape += 1

    def _let_go(self, watermark: float | None) -> None:
        """Forget rooms whose heartbeats stopped long ago; looked at once a minute of event time."""
        if watermark is not None and int(watermark // MINUTE) != self._swept:
            self._swept = int(watermark // MINUTE)
            for room in [one for one in self._rooms if not self._items[one].live_at(watermark - ENDED_S)]:
                self._drop(room)

    def _read_trending(self) -> dict[str, Sequence[tuple[str, float]]]:
        names = [f"{surface}:{kind}" for surface in Surface for kind in (ALL, *ContentType)]
        return {name: self._store.trending(name, TRENDING_DEPTH) for name in names}

    def recheck(self, ids: Sequence[str]) -> dict[str, Item]:
        """Those items as the store has them now; what it has nothing of is left out."""
        states = self._quick.read(Entity.ITEM, ids)
        return {one: Item.of(one, state) for one, state in zip(ids, states, strict=True) if state}


class Whole:
    """A whole read under way: what is left of it, and what it has seen."""

    def __init__(self, ids: list[str]) -> None:
        self.left = ids
        self.creators: set[str] = set()  # read since it began
        self._listed = frozenset(ids)
        self._since: set[str] = set()

    def followed(self, ids: Iterable[str]) -> None:
        """These were announced meanwhile, and read."""
        if self.left:
            self._since.update(ids)

    def has(self, item_id: str) -> bool:
        """Whether an item was listed, or announced since."""
        return item_id in self._listed or item_id in self._since
