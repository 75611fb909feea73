"""The numbers of every item in process: one row an item, so that the features of 500 candidates cost no round trip.

A creator's numbers stand once, in a row of their own: an event to a creator of a thousand items changes one row. One thread
writes. Readers need no lock: arrays are replaced only by longer copies, and a row is filled before its number is known. A row
that is being written may be read half old and half new; each number by itself is one that was true.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.aggregates import Present, Sum
from features.definitions import BY_ENTITY, MINUTE, Entity, Feature
from features.state import EntityState, value
from features.vectors import CREATOR, ITEM, NAMES, Vectors

Rows = npt.NDArray[np.intp]
UNKNOWN = 0  # the row of what is not held: every number nan
REUSED_AFTER_S = 60.0  # wall seconds: no request still holds the row of an item that went so long ago


def _features(entity: Entity, names: Sequence[str]) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in BY_ENTITY[entity]}
    return tuple(by_name[name] for name in names)


_ITEM, _CREATOR = _features(Entity.ITEM, ITEM), _features(Entity.CREATOR, CREATOR)
_WINDOWED = tuple(feature for feature in _ITEM if isinstance(feature.aggregate, Sum | Present))
_PUBLISHED = ITEM.index("published_at")


def _numbers(features: Sequence[Feature], state: EntityState, now: float) -> list[float]:
    found = (value(feature, state, now) for feature in features)
    return [math.nan if one is None else one for one in found]


class _Rows:
    """An array of rows that grows by doubling; row 0 is all nan (0 for whole numbers)."""

    def __init__(self, dtype: npt.DTypeLike, *shape: int) -> None:
        self.array: npt.NDArray[Any] = np.zeros((1024, *shape), dtype)
        if self.array.dtype.kind == "f":
            self.array[UNKNOWN] = np.nan

    def put(self, row: int, what: Any) -> None:
        while row >= len(self.array):
            self.array = np.concatenate([self.array, np.zeros_like(self.array)])
        self.array[row] = what


class ItemTable:
    """Rows by item id; the columns are `features.vectors.NAMES`."""

    def __init__(self) -> None:
        self.row_of: dict[str, int] = {}
        self._items, self._creators = _Rows(np.float32, len(_ITEM)), _Rows(np.float32, len(_CREATOR))
        self._published_at = _Rows(np.float64)
        self._maker = _Rows(np.int32)  # item row -> creator row
        self._creator_row: dict[str, int] = {}
        self._free: deque[tuple[float, int]] = deque()  # rows of items that went, with the monotonic time of it
        self._size = 1
        self._schedule = Schedule()

    def put(self, item_id: str, state: EntityState, *, creator_id: str, now: float) -> None:
        """An item's numbers as of `now`."""
        held = self.row_of.get(item_id)
        row = self._row() if held is None else held
        numbers = _numbers(_ITEM, state, now)
        self._items.put(row, numbers)
        self._published_at.put(row, numbers[_PUBLISHED])
        self._maker.put(row, self._row_of_creator(creator_id))
        self._schedule.put(item_id, next_change(state, now))
        if held is None:
            self.row_of[item_id] = row

    def put_creator(self, creator_id: str, state: EntityState, now: float) -> None:
        """A creator's numbers as of `now`, for all of its items."""
        self._creators.put(self._row_of_creator(creator_id), _numbers(_CREATOR, state, now))

    def drop(self, item_id: str) -> None:
        """The item is gone; its row is used again when no request can hold it any more."""
        row = self.row_of.pop(item_id, None)
        if row is not None:
            self._free.append((time.monotonic(), row))
            self._schedule.put(item_id, None)

    def due(self, now: float, *, limit: int) -> list[str]:
        """At most `limit` items whose numbers may differ as of `now` though nothing happened; put them again."""
        return [one for one in self._schedule.due(now, self.row_of, limit=limit) if one in self.row_of]

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """The rows of items, UNKNOWN for one that is not held; keep them through a request, not longer."""
        row_of = self.row_of
        return np.fromiter((row_of.get(one, UNKNOWN) for one in item_ids), np.intp, len(item_ids))

    def take(self, rows: Rows) -> Vectors:
        """The numbers [k, F] of rows and their publish times, as `features.vectors.unpack` gives them."""
        out = np.empty((len(rows), len(NAMES)), np.float32)
        out[:, : len(_ITEM)] = self._items.array.take(rows, axis=0)
        out[:, len(_ITEM) :] = self._creators.array.take(self._maker.array.take(rows), axis=0)
        return Vectors(out, self._published_at.array.take(rows))

    def _row(self) -> int:
        if self._free and self._free[0][0] < time.monotonic() - REUSED_AFTER_S:
            return self._free.popleft()[1]
        self._size += 1
        return self._size - 1

    def _row_of_creator(self, creator_id: str) -> int:
        row = self._creator_row.get(creator_id)
        if row is None:
            row = len(self._creator_row) + 1
            self._creators.put(row, _numbers(_CREATOR, {}, 0.0))
            self._creator_row[creator_id] = row
        return row


def next_change(state: EntityState, now: float) -> int | None:
    """The minute (of the epoch) in which a window next moves over something; None when all have passed everything."""
    minute, found = int(now // MINUTE), None
    for feature in _WINDOWED:
        held, aggregate = state.get(feature.state), feature.aggregate
        if not held:
            continue
        if isinstance(aggregate, Present):
            if max(at for at, _ in held.values()) > now - aggregate.lease_s:
                return minute + 1
        elif isinstance(aggregate, Sum) and aggregate.window_s is not None:
            bucket = int(now // aggregate.bucket_s)
            if max(held) > bucket - int(aggregate.window_s / aggregate.bucket_s):
                moves = int((bucket + 1) * aggregate.bucket_s // MINUTE)
                found = moves if found is None else min(found, moves)
    return found


class Schedule:
    """When the numbers of items are to be computed again, by minute of the epoch."""

    def __init__(self) -> None:
        self._minute_of: dict[str, int] = {}
        self._due: dict[int, set[str]] = {}
        self._again: list[str] = []  # everything, after the clock was set back
        self._now = -math.inf

    def put(self, item_id: str, minute: int | None) -> None:
        """Compute the item in that minute, not at any other time; None: not at all."""
        before = self._minute_of.pop(item_id, None)
        if before is not None:
            self._due[before].discard(item_id)
            if not self._due[before]:
                del self._due[before]
        if minute is not None:
            self._minute_of[item_id] = minute
            self._due.setdefault(minute, set()).add(item_id)

    def due(self, now: float, every: Iterable[str], *, limit: int) -> list[str]:
        """Ids whose minute has come, earliest first; all of `every` once after the clock was set back by a minute or more."""
        if now < self._now - MINUTE:
            self._again = list(every)
        self._now = now
        out = self._again[-limit:]
        del self._again[-limit:]
        for minute in sorted(minute for minute in self._due if minute <= now // MINUTE):
            out.extend(list(self._due[minute])[: limit - len(out)])
            if len(out) >= limit:
                break
        return out
