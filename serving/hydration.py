"""What is known for one request: the viewer read from the store, items and creators from the catalogue kept in process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from features.definitions import Entity
from features.snapshot import Known, preferred_content_type
from features.state import EntityState, pair_id, values
from features.store import OnlineStore
from serving.catalogue import CatalogueView, Item
from serving.feed import Age
from serving.words import Words

REMEMBERED = 10_000  # viewers whose last state is kept for when the store is gone
REMEMBERED_PAIRS = 500  # creators a viewer
NO_ITEM = values(Entity.ITEM, {}, 0.0)
NO_CREATOR = values(Entity.CREATOR, {}, 0.0)
NO_PAIR = values(Entity.PAIR, {}, 0.0)


@dataclass(frozen=True)
class Viewer:
    """The viewer's feature values as of the request."""

    user_id: str
    values: Mapping[str, Any]

    @property
    def cold(self) -> bool:
        """Never played anything, as far as is known."""
        return not self.values["plays"] and not self.values["recent_positive"]

    @property
    def preferred(self) -> str:
        """VIDEO, AUDIO or MIXED."""
        return preferred_content_type(self.values["content_types_7d"])

    def alone(self) -> Known:
        """The viewer beside an item of which nothing is known: the user's side of a snapshot."""
        return Known(self.values, NO_ITEM, NO_CREATOR, NO_PAIR)


@dataclass
class Remembered:
    """What was last read of one viewer."""

    state: EntityState
    as_of: float  # event time of the reading
    read_at: float  # monotonic seconds of it
    pairs: dict[str, EntityState] = field(default_factory=dict)  # by creator, where there was something


class Hydration:
    """Reads viewers and what they have with creators; remembers the last viewers. Safe among threads."""

    def __init__(self, store: OnlineStore, words: Words) -> None:
        self._store = store
        self._words = words
        self._lock = threading.Lock()
        self._last: OrderedDict[str, Remembered] = OrderedDict()

    def viewer(self, user_id: str, now: float) -> Viewer:
        """The viewer as the store has her now; StoreUnavailable when it does not answer."""
        state = self._store.read(Entity.USER, [user_id])[0]
        look = self._words.look_for(state)
        with self._lock:
            before = self._last.get(user_id)
            pairs = {} if before is None else before.pairs
            self._last[user_id] = Remembered(state, now, time.monotonic(), pairs)
            self._last.move_to_end(user_id)
            if len(self._last) > REMEMBERED:
                self._last.popitem(last=False)
        return Viewer(user_id, values(Entity.USER, state, now, look))

    def last_known(self, user_id: str, now: float) -> Viewer:
        """The viewer as last read, or one of whom nothing is known."""
        last = self._remembered(user_id)
        state = {} if last is None else last.state
        return Viewer(user_id, values(Entity.USER, state, now, self._words.look_for(state, ask=False)))

    def age(self, user_id: str, now: float) -> Age | None:
        """How old what is remembered of a viewer is; None where that is nothing."""
        last = self._remembered(user_id)
        return None if last is None else age_of(last.as_of, last.read_at, now)

    def live_rooms(self, now: float) -> list[str]:
        """Rooms whose lease holds."""
        return self._store.live_rooms(now)

    def pairs(self, user_id: str, creators: Sequence[str], now: float) -> dict[str, Mapping[str, Any]]:
        """Pair values by creator, for those the viewer has watched."""
        states = self._store.read(Entity.PAIR, [pair_id(user_id, one) for one in creators]) if creators else []
        found = {one: state for one, state in zip(creators, states, strict=True) if state}
        last = self._remembered(user_id)
        if last is not None:
            with self._lock:
                last.pairs |= found
                while len(last.pairs) > REMEMBERED_PAIRS:
                    del last.pairs[next(iter(last.pairs))]
        return _pair_values(found, now)

    def last_known_pairs(self, user_id: str, creators: Sequence[str], now: float) -> dict[str, Mapping[str, Any]]:
        """Pair values by creator as last read."""
        last = self._remembered(user_id)
        with self._lock:
            found = {} if last is None else {one: last.pairs[one] for one in creators if one in last.pairs}
        return _pair_values(found, now)

    def _remembered(self, user_id: str) -> Remembered | None:
        with self._lock:
            return self._last.get(user_id)


def _pair_values(states: Mapping[str, EntityState], now: float) -> dict[str, Mapping[str, Any]]:
    return {one: values(Entity.PAIR, state, now) for one, state in states.items()}


def age_of(as_of: float, read_at: float, now: float) -> Age:
    """The age of what was read as of an event time, at a monotonic time."""
    return Age(event_s=max(now - as_of, 0.0), wall_s=time.monotonic() - read_at)


def known_of(
    viewer: Viewer, items: Sequence[Item], view: CatalogueView, pairs: Mapping[str, Mapping[str, Any]], now: float
) -> list[Known]:
    """What `features.snapshot.read_known` gives for these items, without reading them again."""
    creators = {item.creator_id: view.creator(item.creator_id).values(now) for item in items}
    return [
        Known(viewer.values, item.held.values(now), creators[item.creator_id], pairs.get(item.creator_id, NO_PAIR))
        for item in items
    ]
