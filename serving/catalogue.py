"""Items, creators, live rooms and trending lists kept in process, so that 500 candidates cost no round trip to the store.

A background thread calls `refresh`. It reads everything once, in slices, and from then on only what the store announces as
changed; when it has missed announcements it reads everything again, slice by slice, beside following them. Rooms that a
request is about to show are looked at once more: here (`ended`), or in the store where the last look at it is not fresh
(`still_live`).

The items are changed in place, by that one thread: a catalogue of millions cannot be copied several times a second. Readers
therefore look items up with `get`, once, and never iterate.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from events.schema import ContentType, Surface
from features.definitions import LEASE_S, MINUTE, Entity
from features.state import EntityState, words_of
from features.store import OnlineStore
from serving.catalogue_view import ALL, CatalogueView, Item
from serving.held import HeldState, Warm
from serving.item_columns import ItemColumns
from serving.item_rows import ItemRows
from serving.item_table import ItemTable
from serving.learner import Learner
from serving.newest import Newest
from serving.records import Records
from serving.trend import Trend
from serving.whole import Whole
from serving.words import Words

BATCH = 500  # entities a store read
SLICE = 5_000  # items of a whole read that are read in one refresh
# Until everything was read once; of millions that takes minutes, in which feeds use what there is.
SLICES_AT_FIRST = 4
MOVED = 2_000  # items whose numbers are computed again in one refresh because time has passed
ENDED_S = 600.0  # event time: a room whose lease ended that long before the store's watermark leaves memory
TRENDING_DEPTH = 200
SELDOM_S = 1.0  # between two looks at what trends, which the collector writes no more often, and at the watermark
TRENDING = tuple(f"{surface}:{kind}" for surface in Surface for kind in (ALL, *ContentType))  # the lists there may be
_NO_ITEM = HeldState(Entity.ITEM, {})


class Catalogue:
    """Holds the view; one thread refreshes, requests read `view`, look through `words` and call `recheck`."""

    def __init__(self, store: OnlineStore, *, patient: OnlineStore | None = None) -> None:
        self._store = patient or store  # what `refresh` reads from
        self.records = Records(self._store, self._forget)
        self._quick = store  # what a request reads from
        self._items: dict[str, Item] = {}
        self._creators: dict[str, Mapping[str, Any]] = {}
        self._at: list[Item | None] = []
        rows = ItemRows()
        self._table, self._columns = ItemTable(rows), ItemColumns(rows)
        self._newest, self._warm = Newest(), Warm()
        self._rooms: set[str] = set()  # the rooms among the items
        self._cursor: str | None = None
        self._whole = Whole([])
        self._shape = 0
        self._swept = 0  # the minute of the watermark in which rooms were last let go
        self.view = CatalogueView(self._items, self._creators, self._at, self._table, self._columns)
        self._learners: list[Learner] = []
        self._table.new_creator = self._tell_of_creator
        self._listed: frozenset[str] = frozenset()
        self._looked: tuple[tuple[str, ...], int] = ((), -1)  # live rooms and shape as of the last look for absent ones
        self._absent: list[str] = []  # rooms that were listed as live and not held; their records may still come
        self._trends_of: tuple[dict[str, list[tuple[str, float]]], int] = {}, -1  # the lists and shape of the view's
        self._seldom_read = (-math.inf, -math.inf)  # monotonic seconds, event time
        self.words = Words(lambda keys: self.view.words(keys), store)

    def refresh(self, now: float) -> None:
        """Bring the view up to date; StoreUnavailable leaves the last one, which may already hold newer items."""
        begun = time.monotonic()
        self._follow(now)
        self._read_on(now)
        rooms = tuple(self._store.live_rooms(now))
        rooms = self.view.rooms if rooms == self.view.rooms else rooms
        looked = (rooms, self._shape)
        same = self._looked[0] is rooms and self._looked[1] == self._shape  # then no other than those can be missing
        self._absent = [one for one in (self._absent if same else rooms) if one not in self._items]
        self._looked = looked
        self._read_items(self._absent, now)
        seldom = self._is_time(now)
        if seldom:
            self._let_go(self._store.watermark())
        for item in self.view.known(self._table.due(now, limit=MOVED)):
            self._table.put(item.item_id, item.held.state, creator_id=item.creator_id, now=now)
        if self._newest.is_short:
            self._newest.refill((i.item_id, i.published_at) for i in self._items.values() if not i.is_room)
        newest, before = self._newest.ids(), self.view
        live = before.live
        if rooms is not before.rooms or self._shape != before.shape:  # else the same rooms stand in the same rows
            self._list(frozenset(rooms))
            live = self._table.rows(rooms)
        # Ids that are the same tuple have the same rows: a new one is made whenever one comes or goes.
        newest_rows = before.newest_rows if newest is before.newest else self._table.rows(newest)
        view = CatalogueView(
            self._items, self._creators, self._at, self._table, self._columns, live=live,
            newest_rows=newest_rows, rooms=rooms, newest=newest,
            trending=self._read_trending() if seldom else before.trending, shape=self._shape,
            loaded=before.loaded or not self._whole.left, as_of=now, refreshed=begun,
        )  # fmt: skip
        if live is before.live and "_by_host" in before.__dict__:
            view.__dict__["_by_host"] = before._by_host  # as cached_property keeps it: rooms have the hosts they had
        self.view, self._seldom_read = view, (begun, now) if seldom else self._seldom_read

    def _list(self, rooms: frozenset[str]) -> None:
        """Mark the rooms that the store lists as live, and unmark those it no longer does."""
        row_of = self._table.row_of
        self._columns.list_rooms([row_of[one] for one in self._listed - rooms if one in row_of], False)
        self._columns.list_rooms([row_of[one] for one in rooms if one in row_of], True)
        self._listed = rooms

    def _follow(self, now: float) -> None:
        """Read what was announced since the last time, or begin to read everything where that is not known."""
        changed = None if self._cursor is None else self.records.changed(self._cursor)
        if changed is None:
            cursor = self._store.cursor()  # before the listing: what comes in between is announced after it
            self._whole = Whole(self._store.ids(Entity.ITEM))
            self._cursor = cursor
            return
        if changed.items or changed.creators:
            self._read_creators([one for one in changed.creators if one in self._creators], now)
            self._read_items(list(changed.items), now)
            self._whole.followed(changed.items)
            self.words.forget(chain(changed.items, changed.creators))
        self._cursor = changed.cursor

    def _read_on(self, now: float) -> None:
        """The next slices of a whole read; at its end what is listed no more goes.

        A store that lists nothing has lost its data: then what is held stays until it is announced anew.
        """
        for _ in range(1 if self.view.loaded else SLICES_AT_FIRST):
            if not self._whole.left:
                return
            ids = self._whole.left[-SLICE:]
            self._read_items(ids, now, whole=True)
            del self._whole.left[-SLICE:]
            if not self._whole.left:
                for gone in [one for one in self._items if not self._whole.has(one)]:
                    self._drop(gone)
                self._read_creators([one for one in self._creators if one not in self._whole.creators], now)
                self._whole = Whole([])

    def _read_items(self, ids: Sequence[str], now: float, *, whole: bool = False) -> None:
        """Read items into the catalogue, first their creators: those not held, in a whole read those it has not read yet."""
        read, attempt = self.records.states, self.records.attempt
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            states = dict(read(Entity.ITEM, batch))
            made = [attempt(Entity.ITEM, one, Item.of, one, state, self._warm) for one, state in states.items()]
            items = [item for item in made if item is not None]
            had = self._whole.creators if whole else self._creators
            makers = dict.fromkeys(item.creator_id for item in items if item.shown and item.creator_id not in had)
            self._read_creators(list(makers), now)
            for item in items:
                attempt(Entity.ITEM, item.item_id, self._put, item, states[item.item_id], now)

    def _read_creators(self, ids: Sequence[str], now: float) -> None:
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            for one, state in self.records.states(Entity.CREATOR, batch):
                self.records.attempt(Entity.CREATOR, one, self._put_creator, one, state, now)

    def _put_creator(self, one: str, state: EntityState, now: float) -> None:
        self._table.put_creator(one, state, now)
        self._creators[one] = words_of({}, state)
        if self._whole.left:
            self._whole.creators.add(one)

    def _put(self, item: Item, state: EntityState, now: float) -> None:
        """Hold an item that may be shown; anything else is not kept."""
        one = item.item_id
        if not item.shown:
            self._drop(one)
            return
        old = self._items.get(one)
        row = self._table.put(one, state, creator_id=item.creator_id, now=now)
        if old is None or old.fingerprint != item.fingerprint or item.is_room:
            self._columns.put(row, item)
        if old is None:
            for learner in self._learners:
                learner.item(one, row)
        while row >= len(self._at):
            self._at.append(None)
        self._items[one] = self._at[row] = item  # together, and last: what fails before is let go of by `_forget`
        if item.is_room:
            self._rooms.add(one)
        else:
            self._newest.put(one, item.published_at)
        self._shape += old is None or old.fingerprint != item.fingerprint

    def _drop(self, item_id: str) -> None:
        if self._items.pop(item_id, None) is not None:
            self._rooms.discard(item_id)
            self._newest.drop(item_id)
            row = self._table.row_of[item_id]
            self._columns.drop(row)
            self._at[row] = None
            for learner in self._learners:
                learner.gone(item_id, row)
            self._table.drop(item_id)
            self._shape += 1

    def _forget(self, one: str) -> None:
        """Hold nothing of what cannot be read, though half of it was put: it may have been taken back."""
        self._drop(one)
        if (row := self._table.row_of.get(one)) is not None:
            self._columns.drop(row)
            self._table.drop(one)

    def _let_go(self, watermark: float | None) -> None:
        """Forget rooms whose heartbeats stopped long ago; looked at once a minute of event time."""
        if watermark is not None and int(watermark // MINUTE) != self._swept:
            self._swept = int(watermark // MINUTE)
            for room in [one for one in self._rooms if not self._items[one].live_at(watermark - ENDED_S)]:
                self._drop(room)

    def _is_time(self, now: float) -> bool:
        """Whether to read what trends and the watermark anew: once a second of wall or of event time."""
        wall, at = self._seldom_read
        return time.monotonic() - wall >= SELDOM_S or not 0.0 <= now - at < SELDOM_S

    def _read_trending(self) -> Mapping[str, Trend]:
        """What trends; the last answer where the lists and the rows of all items are as they were."""
        lists = {name: self._store.trending(name, TRENDING_DEPTH) for name in TRENDING}
        if (lists, self._shape) == self._trends_of:
            return self.view.trending
        trends = {name: self._trend(pairs) for name, pairs in lists.items()}
        self._trends_of = lists, self._shape
        return trends

    def _trend(self, pairs: Sequence[tuple[str, float]]) -> Trend:
        return Trend(self._table.rows([one for one, _ in pairs]), np.array([score for _, score in pairs], np.float64))

    def _tell_of_creator(self, creator_id: str, row: int) -> None:
        for learner in self._learners:
            learner.creator(creator_id, row)

    def attach(self, learner: Learner) -> None:
        """Tell the learner of every item that comes and goes from now on."""
        self._learners = [*self._learners, learner]

    def detach(self, learner: Learner) -> None:
        """Tell it no more."""
        self._learners = [one for one in self._learners if one is not learner]

    def still_live(self, rooms: Mapping[int, Item]) -> dict[int, Item]:
        """Those rooms, by row, with the leases they have now: a room that ended has none that holds."""
        leases = self._quick.leases([room.item_id for room in rooms.values()])
        return {
            row: replace(room, heartbeat_at=(lease or 0.0) - LEASE_S)
            for (row, room), lease in zip(rooms.items(), leases, strict=True)
        }

    def recheck(self, ids: Sequence[str]) -> dict[str, Item]:
        """Those items as the store has them now; what it has nothing of is left out."""
        states = self._quick.read(Entity.ITEM, ids)
        return {one: Item.of(one, state, held=_NO_ITEM) for one, state in zip(ids, states, strict=True) if state}
