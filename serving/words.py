"""Words about the things a viewer met: from the catalogue in process, and from the store for those it does not hold.

Removed media, and hosts who were not live since the start, are still among what viewers met. Their words are read once and
remembered until something is announced about them.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from features.aggregates import NOTHING, Look
from features.definitions import Entity
from features.state import EntityState, item_keys, words_of
from features.store import EntityReader

REMEMBERED = 100_000  # things, some 0.5 kB each
Attributes = Mapping[str, Any]


class _Found(dict[str, Attributes]):
    """Words by key, none for a key that is not there: its `__getitem__` is a Look without a call of Python."""

    def __missing__(self, key: str) -> Attributes:
        return NOTHING


class Words:
    """Finds words by item key; safe among threads. `held` gives those of some keys that the catalogue knows now."""

    def __init__(self, held: Callable[[Sequence[str]], Mapping[str, Attributes]], store: EntityReader) -> None:
        self._held = held
        self._store = store
        self._found: dict[str, Attributes] = {}
        self._forgot = 0  # how often `forget` was called
        self._lock = threading.Lock()

    def look_for(self, state: EntityState, *, ask: bool = True) -> Look:
        """A Look over everything in a viewer's state; the store is asked for what is not held, unless it may not be."""
        keys = item_keys(state)
        words, missing = _Found(self._held(keys)), list[str]()
        for key in keys if len(words) < len(keys) else ():
            if key not in words:
                known = self._found.get(key)
                if known is None:
                    missing.append(key)
                else:
                    words[key] = known
        if missing and ask:
            words |= self._read(missing)
        return words.__getitem__

    def _read(self, keys: Sequence[str]) -> dict[str, Attributes]:
        before = self._forgot
        items, hosts = self._store.read(Entity.ITEM, keys), self._store.read(Entity.CREATOR, keys)
        found: dict[str, Attributes] = {
            key: words_of(item, host) for key, item, host in zip(keys, items, hosts, strict=True)
        }
        with self._lock:
            if self._forgot == before:  # else what was announced meanwhile may be newer than what was read
                if len(self._found) + len(found) > REMEMBERED:
                    self._found = {}
                self._found |= found
        return found

    def forget(self, keys: Iterable[str]) -> None:
        """Something was announced about these."""
        with self._lock:
            self._forgot += 1
            for key in keys:
                self._found.pop(key, None)
