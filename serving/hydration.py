"""What is known of a viewer for one request: read from the store in one round trip, or as last read when it is gone."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from features.definitions import Entity
from features.state import values
from features.store import OfViewer, OnlineStore
from serving.feed import Age
from serving.sides import Viewer
from serving.words import Words

REMEMBERED = 10_000  # viewers whose last state is kept for when the store is gone
NOTHING = OfViewer({}, {})


@dataclass(slots=True)
class Remembered:
    """What was last read of one viewer: to let go of a thousand objects that are in no cache any more takes 0.1 ms."""

    packed: bytes
    as_of: float  # event time of the reading
    read_at: float  # monotonic seconds of it


class Hydration:
    """Reads viewers and what they have with creators; remembers the last viewers. Safe among threads."""

    def __init__(self, store: OnlineStore, words: Words) -> None:
        self._store = store
        self._words = words
        self._lock = threading.Lock()
        self._last: OrderedDict[str, Remembered] = OrderedDict()

    def viewer(self, user_id: str, now: float) -> Viewer:
        """The viewer as the store has her now; StoreUnavailable when it does not answer."""
        read = self._store.of_viewer(user_id)
        look = self._words.look_for(read.state)
        with self._lock:
            self._last[user_id] = Remembered(read.packed, now, time.monotonic())
            self._last.move_to_end(user_id)
            if len(self._last) > REMEMBERED:
                self._last.popitem(last=False)
        return Viewer(user_id, values(Entity.USER, read.state, now, look), read.pairs)

    def last_known(self, user_id: str, now: float) -> Viewer:
        """The viewer as last read, or one of whom nothing is known."""
        last = self._remembered(user_id)
        read = NOTHING if last is None else self._store.viewer_in(last.packed)
        look = self._words.look_for(read.state, ask=False)
        return Viewer(user_id, values(Entity.USER, read.state, now, look), read.pairs)

    def age(self, user_id: str, now: float) -> Age | None:
        """How old what is remembered of a viewer is; None where that is nothing."""
        last = self._remembered(user_id)
        return None if last is None else age_of(last.as_of, last.read_at, now)

    def _remembered(self, user_id: str) -> Remembered | None:
        with self._lock:
            return self._last.get(user_id)


def age_of(as_of: float, read_at: float, now: float) -> Age:
    """The age of what was read as of an event time, at a monotonic time."""
    return Age(event_s=max(now - as_of, 0.0), wall_s=time.monotonic() - read_at)
