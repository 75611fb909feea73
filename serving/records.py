"""Reads records out of the store one by one where one of them cannot be read: it is left out, and keeps no other out."""

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from features.definitions import Entity
from features.errors import StoreUnavailable
from features.state import EntityState
from features.store import Changed, OnlineStore

MOST = 1_000  # left out at once: more than that is no matter of single records, and what is held is better than nothing
P = ParamSpec("P")
T = TypeVar("T")


class Records:
    """The records of one store; `forget` is told of each item that cannot be read. For one thread."""

    def __init__(self, store: OnlineStore, forget: Callable[[str], None]) -> None:
        self._store, self._forget = store, forget
        self.unreadable: dict[str, str] = {}  # why, by id, until it is read

    def states(self, entity: Entity, ids: Sequence[str]) -> list[tuple[str, EntityState]]:
        """What the store has of each that can be read; StoreUnavailable when it does not answer."""
        try:
            found = list(zip(ids, self._store.read(entity, ids), strict=True))
        except StoreUnavailable:
            raise
        except Exception as failure:  # noqa: BLE001  bytes that are no record: whose, only each by itself tells
            if len(ids) > 1:
                return [pair for one in ids for pair in self.states(entity, [one])]
            self._leave_out(entity, ids[0], failure)
            return []
        for one in set(ids) & self.unreadable.keys() if self.unreadable else ():
            del self.unreadable[one]
        return found

    def changed(self, since: str) -> Changed | None:
        """What was announced after `since`; None, too, where that cannot be read: then everything is read again."""
        try:
            return self._store.changed(since)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001  bytes that are no announcement: each look would find them again
            return None

    def attempt(self, entity: Entity, one: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What is made of one record; None where it holds something else than it should."""
        try:
            return make(*args, **kwargs)
        except StoreUnavailable:
            raise
        except Exception as failure:  # noqa: BLE001  whatever is wrong with one record is its own matter
            self._leave_out(entity, one, failure)
            return None

    def _leave_out(self, entity: Entity, one: str, failure: Exception) -> None:
        if len(self.unreadable) >= MOST and one not in self.unreadable:
            raise failure
        self.unreadable[one] = repr(failure)[:200]
        if entity is Entity.ITEM:
            self._forget(one)

    @property
    def trouble(self) -> str:
        """What is left out and why, the last few by name; empty when nothing is."""
        if not self.unreadable:
            return ""
        few = "; ".join(f"{one[:64]!r}: {why}" for one, why in list(self.unreadable.items())[-3:])
        return f"{len(self.unreadable)} cannot be read and are left out, the last of them {few}"
