"""The numbers of every item in process: one row an item, so that the features of 500 candidates cost no round trip.

A creator's numbers stand once, in a row of their own: an event to a creator of a thousand items changes one row. One thread
writes. Readers need no lock: arrays are replaced only by longer copies, and a row is filled before its number is known. A row
that is being written may be read half old and half new; each number by itself is one that was true.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from features.aggregates import Present, Sum
from features.definitions import BY_ENTITY, MINUTE, Entity, Feature
from features.state import EntityState, value
from features.vectors import CREATOR, ITEM, NAMES, Vectors
from serving.id_rows import IdRows
from serving.item_columns import Growing, Rows
from serving.item_rows import UNKNOWN, ItemRows
from serving.loops import gathered

TICK_S = 1.0  # how finely it is known when a number changes by itself
Numbers = npt.NDArray[np.float64]
REUSED_AFTER_S = 60.0  # wall seconds: no request still holds the row of an item that went so long ago


def _features(entity: Entity, names: Sequence[str]) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in BY_ENTITY[entity]}
    return tuple(by_name[name] for name in names)


_ITEM, _CREATOR = _features(Entity.ITEM, ITEM), _features(Entity.CREATOR, CREATOR)
_WINDOWED = tuple(feature for feature in _ITEM if isinstance(feature.aggregate, Sum | Present))
_PUBLISHED = ITEM.index("published_at")


class _Reader:
    """Reads numbers out of a state; most states of most items are not there, and are not asked for."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._nothing = [math.nan if (one := value(feature, {}, 0.0)) is None else one for feature in features]
        self._places: dict[str, list[tuple[int, Feature]]] = {}
        for place, feature in enumerate(features):
            self._places.setdefault(feature.state, []).append((place, feature))

    def numbers(self, state: EntityState, now: float) -> list[float]:
        """One number a feature, NaN for none."""
        out = self._nothing.copy()
        for name in state:
            for place, feature in self._places.get(name, ()):
                found = value(feature, state, now)
                out[place] = math.nan if found is None else found
        return out


_ITEMS, _CREATORS = _Reader(_ITEM), _Reader(_CREATOR)


class ItemTable:
    """Rows by item id; the columns are `features.vectors.NAMES`. `rows`: where the records are held, with other columns."""

    def __init__(self, rows: ItemRows | None = None) -> None:
        self._rows = rows or ItemRows()
        self.row_of: dict[str, int] = {}
        self._item_slots, self._creator_slots = IdRows(), IdRows()  # the same as in the dicts, for many ids at once
        self._creators = Growing(np.float64, len(_CREATOR))
        self._creators.array[UNKNOWN] = np.nan
        self.id_of: list[str] = [""]  # item id by row, kept after the item went
        self.creator_row: dict[str, int] = {}
        self.new_creator: Callable[[str, int], None] | None = None  # told of every creator that gets a row
        self._free: deque[tuple[float, int]] = deque()  # rows of items that went, with the monotonic time of it
        self._size = 1
        self._schedule = Schedule()

    def put(self, item_id: str, state: EntityState, *, creator_id: str, now: float) -> int:
        """An item's numbers as of `now`; its row."""
        held = self.row_of.get(item_id)
        row = self._row() if held is None else held
        columns, due = self._rows.reach(row), next_change(state, now)
        columns.numbers[row] = _ITEMS.numbers(state, now)
        columns.maker[row] = self._row_of_creator(creator_id)
        columns.due_at[row] = due
        self._schedule.put(item_id, None if math.isinf(due) else math.ceil(due / TICK_S))
        if held is None:
            self._name(row, item_id)
        return row

    def put_creator(self, creator_id: str, state: EntityState, now: float) -> None:
        """A creator's numbers as of `now`, for all of its items."""
        self._creators.put(self._row_of_creator(creator_id), _CREATORS.numbers(state, now))

    def drop(self, item_id: str) -> None:
        """The item is gone; its row is used again when no request can hold it any more."""
        row = self.row_of.pop(item_id, None)
        if row is not None:
            self._item_slots.drop(item_id, row)
            self._free.append((time.monotonic(), row))
            self._schedule.put(item_id, None)

    def due(self, now: float, *, limit: int) -> list[str]:
        """At most `limit` items whose numbers may differ as of `now` though nothing happened; put them again."""
        return [one for one in self._schedule.due(now, self.row_of, limit=limit) if one in self.row_of]

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """The rows of items, UNKNOWN for one that is not held; keep them through a request, not longer."""
        return self._item_slots.rows(item_ids)

    def creators(self, creator_ids: Sequence[str]) -> Rows:
        """The rows of creators, UNKNOWN for one that is not known."""
        return self._creator_slots.rows(creator_ids)

    def makers(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The creators' rows."""
        return self._rows.columns.maker[rows]

    def as_of(
        self, rows: Rows, now: float, state_of: Callable[[str], EntityState | None], out: Numbers
    ) -> npt.NDArray[np.float64]:
        """Write the numbers of rows at a request's own `now` into the first columns of `out` [k, F or more].

        Those that time has changed since are computed again. Returns the publish times [k].
        """
        columns = self._rows.columns
        due = gathered(rows, columns.numbers, self._creators.array, columns.maker, columns.due_at, now, out)
        published: npt.NDArray[np.float64] = out[:, _PUBLISHED].copy()
        for place in due.tolist():
            state = state_of(self.id_of[rows[place]])
            if state is not None:
                out[place, : len(_ITEM)] = _ITEMS.numbers(state, now)
        return published

    def take(self, rows: Rows) -> Vectors:
        """The numbers [k, F] of rows and their publish times, as `features.vectors.unpack` gives them, unrounded."""
        found = np.empty((len(rows), len(NAMES)))
        return Vectors(found, self.as_of(rows, -math.inf, lambda _: None, found))

    def _name(self, row: int, item_id: str) -> None:
        while row >= len(self.id_of):
            self.id_of.append("")
        self.id_of[row] = item_id
        self._item_slots.put(item_id, row)
        self.row_of[item_id] = row

    def _row(self) -> int:
        if self._free and self._free[0][0] < time.monotonic() - REUSED_AFTER_S:
            return self._free.popleft()[1]
        self._size += 1
        return self._size - 1

    def _row_of_creator(self, creator_id: str) -> int:
        row = self.creator_row.get(creator_id)
        if row is None:
            row = len(self.creator_row) + 1
            self._creators.put(row, _CREATORS.numbers({}, 0.0))
            self._creator_slots.put(creator_id, row)
            self.creator_row[creator_id] = row
            if self.new_creator is not None:
                self.new_creator(creator_id, row)
        return row


def next_change(state: EntityState, now: float) -> float:
    """The epoch second at which a number next changes by itself; infinite when none will."""
    found = math.inf
    for feature in _WINDOWED:
        held, aggregate = state.get(feature.state), feature.aggregate
        if not held:
            continue
        if isinstance(aggregate, Present):
            ends = [at + aggregate.lease_s for at, _ in held.values() if at + aggregate.lease_s > now]
            found = min(found, *ends) if ends else found
        elif isinstance(aggregate, Sum) and aggregate.window_s is not None:
            bucket = int(now // aggregate.bucket_s)
            if max(held) > bucket - int(aggregate.window_s / aggregate.bucket_s):
                found = min(found, (bucket + 1) * aggregate.bucket_s)
    return found


class Schedule:
    """When the numbers of items are to be computed again, by tick of the epoch."""

    def __init__(self) -> None:
        self._tick_of: dict[str, int] = {}
        self._due: dict[int, set[str]] = {}
        self._again: list[str] = []  # everything, after the clock was set back
        self._now = -math.inf

    def put(self, item_id: str, tick: int | None) -> None:
        """Compute the item in that tick, not at any other time; None: not at all."""
        before = self._tick_of.pop(item_id, None)
        if before is not None:
            self._due[before].discard(item_id)
            if not self._due[before]:
                del self._due[before]
        if tick is not None:
            self._tick_of[item_id] = tick
            self._due.setdefault(tick, set()).add(item_id)

    def due(self, now: float, every: Iterable[str], *, limit: int) -> list[str]:
        """Ids whose tick has come, earliest first; all of `every` once after the clock was set back by a minute or more."""
        if now < self._now - MINUTE:
            self._again = list(every)
        self._now = now
        out = self._again[-limit:]
        del self._again[-limit:]
        for tick in sorted(tick for tick in self._due if tick <= now // TICK_S):
            out.extend(list(self._due[tick])[: limit - len(out)])
            if len(out) >= limit:
                break
        return out
