"""What a request sees of the catalogue: items, and what was known as of one refresh (serving/catalogue.py keeps it)."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from sys import intern
from typing import Any

import numpy as np

from events.schema import ContentType, Surface
from features.definitions import LEASE_S, Entity
from features.state import EntityState
from serving.held import HeldState, Warm
from serving.item_columns import KINDS, ItemColumns, Rows
from serving.item_rows import GONE, TAGS
from serving.item_table import ItemTable
from serving.loops import rooms_of_hosts, worded
from serving.trend import NO_TREND, Trend

FRESH_S = 0.3  # of event and of wall time since a refresh began: leases that old are not read again for a page
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
    language: str = "unknown"
    tags: tuple[str, ...] = ()

    @property
    def is_room(self) -> bool:
        """A live room, as against published media."""
        return self.content_type == ContentType.LIVE

    @property
    def words(self) -> dict[str, Any]:
        """What viewers' features are read through (features.state.words_of)."""
        return {"category": self.category, "content_type": self.content_type, "tags": self.tags}

    @property
    def lease_until(self) -> float:
        """Epoch seconds at which the room's lease ends, by its own last heartbeat."""
        return self.heartbeat_at + LEASE_S

    def live_at(self, now: float) -> bool:
        """Whether the room's lease holds, as far as its own last heartbeat says."""
        return self.is_room and self.shown and self.lease_until > now

    @staticmethod
    def of(item_id: str, state: EntityState, warm: Warm | None = None, *, held: HeldState | None = None) -> "Item":
        """Read the attributes out of a merged state; `held` instead of holding it where its numbers are not asked for."""
        got = {name: state[name][1] if state.get(name) else None for name in _ATTRIBUTES}
        return Item(
            item_id=item_id,
            held=held or HeldState(Entity.ITEM, state, warm),
            content_type=intern(str(got["content_type"] or ContentType.VIDEO)),
            creator_id=intern(str(got["creator_id"] or "unknown")),
            category=intern(str(got["category"] or "unknown")),
            title=str(got["title"] or ""),
            status=intern(str(got["status"] or "none")),
            shown=bool(got["shown"]),
            published_at=float(got["published_at"] or 0.0),
            heartbeat_at=float(got["heartbeat_at"] or 0.0),
            fingerprint=hash(str([got[name] for name in _TOWER])),
            language=intern(str(got["language"] or "unknown")),
            tags=tuple(map(intern, got["tags"] or ())),
        )


@dataclass(frozen=True)
class CatalogueView:
    """What is known as of one refresh; `items`, `creators`, `at` and `table` go on changing."""

    items: dict[str, Item] = field(default_factory=dict)
    creators: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # words of their last rooms
    at: list[Item | None] = field(default_factory=list)  # the items by row, as far as it goes
    table: ItemTable = field(default_factory=ItemTable)
    columns: ItemColumns = field(default_factory=ItemColumns)
    live: Rows = field(default_factory=lambda: np.zeros(0, np.intp))  # rows of `rows`
    newest_rows: Rows = field(default_factory=lambda: np.zeros(0, np.intp))
    rooms: tuple[str, ...] = ()  # live as of the refresh
    newest: tuple[str, ...] = ()  # shown media, newest first, at most serving.newest.NEWEST
    trending: Mapping[str, Trend] = field(default_factory=dict)
    shape: int = 0  # grows when an item comes, goes or changes its attributes
    loaded: bool = False  # whether everything was read once
    as_of: float | None = None  # event time of the refresh
    refreshed: float = 0.0  # monotonic seconds when it began

    def known(self, ids: Iterable[str]) -> Iterator[Item]:
        """The items there are among `ids`, in order."""
        return (item for one in ids if (item := self.items.get(one)) is not None)

    def items_at(self, rows: Iterable[int]) -> dict[int, Item]:
        """The items there are at those rows, by row."""
        at, size = self.at, len(self.at)
        return {row: item for row in rows if row < size and (item := at[row]) is not None}

    def words(self, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Words of those item keys that are held: the item's own, or of the host's last room.

        They are read from the records: what the request looks at next is then near, which `items` is not.
        """
        held, words = self.columns.held, self.columns.words.words
        said = worded(self.table.rows(keys), held.kind, held.category, held.own_tags, held.tags)
        found: dict[str, Mapping[str, Any]] = {}
        for key, (kind, category, own, *tags) in zip(keys, said.tolist(), strict=True):
            if kind != GONE and own <= TAGS:
                known = [words[number] for number in tags[:own] if number]  # 0: being written just now
                found[key] = {"category": words[category], "content_type": KINDS[kind], "tags": known}
        for key in keys if len(found) < len(keys) else ():
            if key not in found:
                item = self.items.get(key)
                other = self.creators.get(key) if item is None else item.words
                if other is not None:
                    found[key] = other
        return found

    def rooms_of(self, hosts: Rows) -> Rows:
        """Rows of the live rooms of those creators, in the order of the hosts' rows."""
        if not len(hosts) or not len(self.live):
            return self.live[:0]
        ordered, rooms = self._by_host
        return rooms_of_hosts(hosts, ordered, rooms)

    @cached_property
    def _by_host(self) -> tuple[Rows, Rows]:
        hosts = self.table.makers(self.live)
        order = np.argsort(hosts, kind="stable")
        return hosts[order].astype(np.intp), self.live[order]

    def state_of(self, item_id: str) -> EntityState | None:
        """An item's merged state as last read; None where the item is not held."""
        item = self.items.get(item_id)
        return None if item is None else item.held.state

    def is_fresh(self, now: float, within_s: float = FRESH_S) -> bool:
        """Whether it is as good as another look at the store."""
        if self.as_of is None or not abs(now - self.as_of) <= within_s:
            return False
        return time.monotonic() - self.refreshed <= within_s

    def ended(self, rooms: Sequence[int], now: float) -> set[int]:
        """Those rows of rooms that are not live, as far as is known here."""
        live = self.columns.live(np.array(rooms, np.intp), now)
        return {row for row, lives in zip(rooms, live.tolist(), strict=True) if not lives}

    def trending_for(self, surface: Surface, content_type: ContentType | None) -> Trend:
        """The list of that surface and type, the home page's where the surface has none."""
        kind = content_type or ALL
        found = self.trending.get(f"{surface}:{kind}")
        return found if found is not None and len(found.rows) else self.trending.get(f"{Surface.HOME}:{kind}", NO_TREND)
