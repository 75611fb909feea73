"""Rows by id in one array, to look many ids up at once.

A dict of millions has to wait for memory four times for each id, one id after the other: for its index, its entry, the
entry's key, the number. Here an id is one slot, and the processor waits for many slots together: sixty ids cost a fifth.

A slot holds an id's hash, not the id: 64 bits of Python's own hash, keyed by chance anew in each process. Of three million
ids two share one with odds of 1 in 4 million; then both are looked up as one of them.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from serving.native import helper, native

Slots = npt.NDArray[np.int64]  # [n, 2] hash and row under the hash's low bits (open addressing), at most half in use
Rows = npt.NDArray[np.int64]
NONE, LEFT = 0, -1  # in place of a row: never used, and no longer used
FEW = 1024  # slots at the start


@helper
def slot_of(slots: Slots, key: int) -> int:
    """The key's slot, or the unused one where it belongs."""
    last = len(slots) - 1
    slot = key & last
    while slots[slot, 1] != NONE and slots[slot, 0] != key:
        slot = (slot + 1) & last
    return slot


@native("int64[::1](int64[:, ::1], int64[::1])")
def found(slots: Slots, keys: Rows) -> Rows:
    """The rows of keys; 0 for none."""
    out = np.empty(len(keys), np.int64)
    for at in range(len(keys)):
        out[at] = max(slots[slot_of(slots, keys[at]), 1], 0)
    return out


@native("boolean(int64[:, ::1], int64, int64)")
def put(slots: Slots, key: int, row: int) -> bool:
    """Give a key a row; whether that took an unused slot."""
    slot = slot_of(slots, key)
    unused: bool = slots[slot, 1] == NONE
    slots[slot, 0], slots[slot, 1] = key, row
    return unused


@native("void(int64[:, ::1], int64, int64)")
def take(slots: Slots, key: int, row: int) -> None:
    """The key has that row no longer; nothing where it has another."""
    slot = slot_of(slots, key)
    if slots[slot, 1] == row:
        slots[slot, 1] = LEFT


@native("int64(int64[:, ::1], int64[:, ::1])", gil=False)
def copied(slots: Slots, into: Slots) -> int:
    """Put every key that has a row into empty slots; how many those are."""
    count = 0
    for at in range(len(slots)):
        if slots[at, 1] > NONE:
            slot = slot_of(into, slots[at, 0])
            into[slot, 0], into[slot, 1] = slots[at, 0], slots[at, 1]
            count += 1
    return count


class IdRows:
    """Rows, from 1, by id. One thread writes; readers need no lock."""

    def __init__(self) -> None:
        self._slots = np.zeros((FEW, 2), np.int64)
        self._used = 0

    def put(self, one: str, row: int) -> None:
        """The id has that row."""
        if 2 * (self._used + 1) > len(self._slots):
            self._grow()
        self._used += put(self._slots, hash(one), row)

    def drop(self, one: str, row: int) -> None:
        """The id has that row no longer."""
        take(self._slots, hash(one), row)

    def rows(self, ids: Collection[str]) -> Rows:
        """The rows of ids, 0 for one that has none."""
        return found(self._slots, np.fromiter(map(hash, ids), np.int64, len(ids)))

    def _grow(self) -> None:
        """Twice the slots, or as many where enough of them are no longer used; requests go on meanwhile."""
        held = int(np.count_nonzero(self._slots[:, 1] > NONE))
        size = len(self._slots) if 4 * held < len(self._slots) else 2 * len(self._slots)
        slots = np.zeros((size, 2), np.int64)
        self._used = copied(self._slots, slots)
        self._slots = slots
