"""What changed since a release's index was built: rows added, rows gone. The index itself is never touched.

One thread writes; readers take `view`, which never changes. Rows added are searched exactly, in a matrix that is replaced
only by longer copies; rows gone are bits that the index skips. So an addition is found and a deletion gone with the
next search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from serving.errors import BadQuery
from serving.index import Found, Index, Keep, Mask, Matrix, Rows, best, checked

BOUND = 50_000  # rows added: 0.4 ms a search; the next release's index takes them in
FIRST = 1_024  # rows there is room for at the start
ALL = ""  # the label of every row
Labels = npt.NDArray[np.int16]
_GONE = np.int16(-1)


@dataclass(frozen=True)
class IndexView:
    """An index, the rows added to it and what is left of it by label, as of one moment."""

    index: Index
    added: Matrix  # [m, D]; row index.rows + i
    labels: Labels  # of the rows added; -1 where one is gone
    left: Mapping[str, Keep | None]  # by label, of the index's own rows; None: all
    codes: Mapping[str, int]
    bound: int = BOUND
    # Of the rows added, by label; found when first asked for.
    _rows: dict[str, Rows] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Row numbers in use, of those gone too."""
        return self.index.rows + len(self.added)

    @property
    def is_over_bound(self) -> bool:
        """Whether so many rows were added that a new index is due."""
        return len(self.added) > self.bound

    def search(self, query: Matrix, k: int, *, only: str = ALL) -> Found:
        """At most `k` rows best first, of one label or of all, none of them gone."""
        if only not in self.left:
            raise BadQuery(f"a search asks for {only!r}; allowed are {', '.join(map(repr, self.left))}")
        near = self.index.search(query, k, keep=self.left[only])
        if not len(self.added):
            return near
        new = self.search_added(query, k, only=only)
        return best(np.concatenate([near.rows, new.rows]), np.concatenate([near.scores, new.scores]), k)

    def search_added(self, query: Matrix, k: int, *, only: str = ALL) -> Found:
        """The same among the rows added alone."""
        scores, rows = self.added @ checked(query, self.index), self._rows_of(only)
        found = best(rows, scores if len(rows) == len(scores) else scores[rows], k)
        return Found(found.rows + np.int32(self.index.rows), found.scores)

    def _rows_of(self, only: str) -> Rows:
        """The rows added that carry a label and are not gone, counted from the first of them; found once."""
        rows = self._rows.get(only)
        if rows is None:
            wanted = self.labels != _GONE if only == ALL else self.labels == self.codes[only]
            rows = self._rows[only] = np.flatnonzero(wanted).astype(np.int32)
        return rows

    def vector(self, row: int) -> Matrix:
        """The embedding of a row, gone or not."""
        return self.index.vector(row) if row < self.index.rows else self.added[row - self.index.rows].copy()


class Delta:
    """Adds and removes rows beside an index; used by one thread, which publishes `view` after each call."""

    def __init__(self, index: Index, *, labels: Mapping[str, Mask] | None = None, bound: int = BOUND) -> None:
        """`labels`: by name the rows bool[n] of the index that carry it, such as its VIDEO and its AUDIO."""
        named = {name: Keep.of(mask) for name, mask in (labels or {}).items()}
        self._codes = MappingProxyType({ALL: 0} | {name: code for code, name in enumerate(named, start=1)})
        self._matrix = np.empty((FIRST, index.width), np.float32)
        self._labels = np.empty(FIRST, np.int16)
        self._every: Mapping[str, Keep | None] = {
            ALL: None,
            **named,
        }  # of the index's own rows, with all that are there
        self.view = IndexView(index, self._matrix[:0], self._labels[:0], {ALL: None, **named}, self._codes, bound)

    def add(self, vectors: Matrix, labels: Sequence[str] | None = None) -> Rows:
        """Add embeddings f32[m, D], a label each (none: of no label); returns their row numbers."""
        named = [ALL] * len(vectors) if labels is None else list(labels)
        self._check(vectors, named)
        start = len(self.view.added)
        end = start + len(vectors)
        self._make_room(end)
        self._matrix[start:end] = vectors  # behind what any view shows
        self._labels[start:end] = [self._codes[name] for name in named]
        self._publish(end, self.view.left)
        return np.arange(start, end, dtype=np.int32) + np.int32(self.view.index.rows)

    def remove(self, rows: Sequence[int] | Rows) -> None:
        """Rows are gone from the next search on; one that is gone already stays so."""
        view, gone = self.view, np.asarray(rows, np.int32)
        if gone.size and not (gone.min() >= 0 and gone.max() < view.rows):
            raise BadQuery(f"rows {gone.min()} … {gone.max()} cannot be removed; there are rows 0 … {view.rows - 1}")
        own = gone[gone < view.index.rows]
        added = gone[gone >= view.index.rows] - view.index.rows
        left = view.left
        if own.size:
            every = left[ALL] or Keep.of(np.ones(view.index.rows, bool))
            left = {name: (keep or every).without(own) for name, keep in left.items()}
        if added.size:
            self._labels = self._labels.copy()  # a view's own labels never change
            self._labels[added] = _GONE
        self._publish(len(view.added), left)

    def keep_only(self, there: Mask | None) -> None:
        """Of the index's own rows only those bool[n] are found from the next search on, None: all; rows may so come back."""
        if there is None:
            if self.view.left != self._every:
                self._publish(len(self.view.added), self._every)
            return
        bits = Keep.of(there)
        left = {n: bits if one is None else Keep(one.bits & bits.bits, one.rows) for n, one in self._every.items()}
        self._publish(len(self.view.added), left)

    def _publish(self, count: int, left: Mapping[str, Keep | None]) -> None:
        view = self.view
        self.view = IndexView(view.index, self._matrix[:count], self._labels[:count], left, self._codes, view.bound)

    def _make_room(self, rows: int) -> None:
        if rows > len(self._matrix):
            size = max(rows, 2 * len(self._matrix))
            for name, held in (("_matrix", self._matrix), ("_labels", self._labels)):
                longer = np.empty((size, *held.shape[1:]), held.dtype)
                longer[: len(held)] = held
                setattr(self, name, longer)

    def _check(self, vectors: Matrix, labels: Sequence[str]) -> None:
        width = self.view.index.width
        if vectors.ndim != 2 or vectors.shape[1] != width or not np.isfinite(vectors).all():
            raise BadQuery(f"embeddings of shape {vectors.shape} cannot be added; finite f32[m, {width}] can")
        if len(labels) != len(vectors) or not set(labels) <= set(self._codes):
            raise BadQuery(
                f"{len(vectors)} embeddings have labels {labels[:3]}; allowed is one each of {list(self._codes)}"
            )
