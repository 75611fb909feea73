"""What an item is, by row of the item table: kind, words, lease and creator as whole numbers, so that rules are array work.

Words (categories, tags, languages) have a number each, for as long as the process lives; a release translates those numbers
to its own vocabulary once (serving/codes.py). One thread writes; a row is filled before its number is known to any reader.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from events.schema import ContentType
from serving.item_rows import GONE, TAGS, Columns, ItemRows

KINDS: tuple[str, ...] = tuple(ContentType)
KIND_OF: Mapping[str, int] = {kind: number for number, kind in enumerate(KINDS)}
LIVE = KIND_OF[ContentType.LIVE]
MOST_TAGS = 1_024  # of an item: contracts set no bound, and each tag costs every request that meets the item
Rows = npt.NDArray[np.intp]


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
    """Columns by row; row 0 is GONE for ever. `rows`: where the records are held, with an item's numbers."""

    def __init__(self, rows: ItemRows | None = None) -> None:
        self._rows = rows or ItemRows()
        self.words = Words()
        self.many_tags: dict[int, tuple[int, ...]] = {}  # all tags of the items that have more than TAGS

    def put(self, row: int, item: Described) -> None:
        """Describe a row."""
        number, columns = self.words.number, self._rows.reach(row)
        tags = [number(tag) for tag in item.tags[:MOST_TAGS]]
        if len(tags) > TAGS:
            self.many_tags[row] = tuple(tags)
        else:
            self.many_tags.pop(row, None)
        category = number(item.category)
        met = (tags or [category])[:TAGS]  # an item without tags meets viewers by its category
        columns.category[row] = category
        columns.language[row] = number(item.language)
        columns.tags[row] = met + [0] * (TAGS - len(met))
        columns.own_tags[row] = len(tags)
        columns.lease_until[row] = item.lease_until
        columns.kind[row] = KIND_OF[item.content_type]  # last: it tells that the rest is there

    def drop(self, row: int) -> None:
        """The row holds nothing any more."""
        columns = self._rows.reach(row)
        columns.kind[row] = GONE
        columns.listed[row] = False

    def list_rooms(self, rows: Sequence[int], listed: bool) -> None:
        """Say of rooms whether the store lists them as live."""
        if rows:
            self._rows.reach(max(rows)).listed[list(rows)] = listed

    @property
    def held(self) -> Columns:
        """All records by field, for compiled loops: they are not copied."""
        return self._rows.columns

    def kind(self, rows: Rows) -> npt.NDArray[np.int8]:
        """Indices into KINDS, GONE for rows that hold nothing."""
        return self._rows.columns.kind[rows]

    def category(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Word numbers."""
        return self._rows.columns.category[rows]

    def language(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Word numbers."""
        return self._rows.columns.language[rows]

    def live(self, rows: Rows, now: float) -> npt.NDArray[np.bool_]:
        """Whether rooms are live: listed at the last look, and their own lease holds."""
        held = self._rows.columns
        return held.listed[rows] & (held.lease_until[rows] > now)
