"""What an item is, by row of the item table: kind, words, lease and creator as whole numbers, so that rules are array work.

Words (categories, tags, languages) have a number each, for as long as the process lives; a release translates those numbers
to its own vocabulary once (serving/codes.py). One thread writes; a row is filled before its number is known to any reader.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from events.schema import ContentType

KINDS: tuple[str, ...] = tuple(ContentType)
KIND_OF: Mapping[str, int] = {kind: number for number, kind in enumerate(KINDS)}
LIVE = KIND_OF[ContentType.LIVE]
GONE = -1  # the kind of a row that holds nothing
TAGS = 8  # tags held in the matrix; the few items that have more are looked up one by one
MOST_TAGS = 1_024  # of an item: contracts set no bound, and each tag costs every request that meets the item
Rows = npt.NDArray[np.intp]


def among(rows: npt.NDArray[np.integer], few: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Whether each of `rows` is one of a few hundred; a third of what np.isin takes at these sizes."""
    if not len(few):
        return np.zeros(len(rows), np.bool_)
    ordered = np.sort(few)
    at = np.searchsorted(ordered, rows)
    at[at == len(ordered)] = 0
    return np.asarray(ordered[at] == rows)


class Growing:
    """An array that grows by doubling; readers keep the one they took."""

    def __init__(self, dtype: npt.DTypeLike, *shape: int, fill: float = 0) -> None:
        self._fill = fill
        self.array: npt.NDArray[Any] = np.full((1024, *shape), fill, dtype)

    def put(self, row: int, what: Any) -> None:
        """Set a row, growing to reach it."""
        self.reach(row)
        self.array[row] = what

    def reach(self, row: int) -> None:
        """Grow until the row is there."""
        while row >= len(self.array):
            self.array = np.concatenate([self.array, np.full_like(self.array, self._fill)])


class Described(Protocol):
    """The attributes of an item that have a column."""

    @property
    def content_type(self) -> str:
        """VIDEO, AUDIO or LIVE."""
        ...

    @property
    def category(self) -> str:
        """The main category."""
        ...

    @property
    def language(self) -> str:
        """The language spoken."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags."""
        ...

    @property
    def lease_until(self) -> float:
        """Epoch seconds at which a room's lease ends."""
        ...


class Words:
    """Numbers of words, from 1; 0 is no word."""

    def __init__(self) -> None:
        self.number_of: dict[str, int] = {}
        self.words: list[str] = [""]  # by number

    def number(self, word: str) -> int:
        """The word's number, a new one at its first use."""
        found = self.number_of.get(word)
        if found is None:
            found = len(self.words)
            self.words.append(word)
            self.number_of[word] = found
        return found


class ItemColumns:
    """Columns by row; row 0 is GONE for ever."""

    def __init__(self) -> None:
        self.words = Words()
        self._kind = Growing(np.int8, fill=GONE)
        self._category, self._language = Growing(np.int32), Growing(np.int32)
        self._tags, self._own_tags = Growing(np.int32, TAGS), Growing(np.int16)
        self._lease_until = Growing(np.float64)
        self._listed = Growing(np.bool_)
        self.many_tags: dict[int, tuple[int, ...]] = {}  # all tags of the items that have more than TAGS

    def put(self, row: int, item: Described) -> None:
        """Describe a row."""
        number = self.words.number
        tags = [number(tag) for tag in item.tags[:MOST_TAGS]]
        if len(tags) > TAGS:
            self.many_tags[row] = tuple(tags)
        else:
            self.many_tags.pop(row, None)
        category = number(item.category)
        met = (tags or [category])[:TAGS]  # an item without tags meets viewers by its category
        self._category.put(row, category)
        self._language.put(row, number(item.language))
        self._tags.put(row, met + [0] * (TAGS - len(met)))
        self._own_tags.put(row, len(tags))
        self._lease_until.put(row, item.lease_until)
        self._listed.reach(row)
        self._kind.put(row, KIND_OF[item.content_type])

    def drop(self, row: int) -> None:
        """The row holds nothing any more."""
        self._kind.put(row, GONE)
        self._listed.put(row, False)

    def list_rooms(self, rows: Sequence[int], listed: bool) -> None:
        """Say of rooms whether the store lists them as live."""
        for row in rows:
            self._listed.put(row, listed)

    def kind(self, rows: Rows) -> npt.NDArray[np.int8]:
        """Indices into KINDS, GONE for rows that hold nothing."""
        return self._kind.array.take(rows, mode="clip")

    def category(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Word numbers."""
        return self._category.array.take(rows)

    def language(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Word numbers."""
        return self._language.array.take(rows)

    def tags(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Word numbers [n, TAGS], 0 where there are fewer; the category alone for an item without tags."""
        return self._tags.array.take(rows, axis=0)

    def own_tags(self, rows: Rows) -> npt.NDArray[np.int16]:
        """How many tags each item has of its own."""
        return self._own_tags.array.take(rows)

    def live(self, rows: Rows, now: float) -> npt.NDArray[np.bool_]:
        """Whether rooms are live: listed at the last look, and their own lease holds."""
        return self._listed.array.take(rows) & (self._lease_until.array.take(rows) > now)
