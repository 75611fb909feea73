"""What recall searches: the protocol of an item index, and the set of rows that a search may return.

Rows are integers, numbers of a release's item table; ids are looked up once, for what is shown. A dict of ids in the middle
of a request costs 0.35 ms for 500 candidates, rows cost 0.015.
"""

from math import isfinite
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from serving.errors import BadQuery
from serving.selection import best_places

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int32]


class Found(NamedTuple):
    """What a search gives: rows i32[n] and their inner products with the query f32[n], best first."""

    rows: Rows
    scores: Matrix


class Keep:
    """Rows that a search may return, a bit each; never changed, so that readers need no lock."""

    def __init__(self, bits: npt.NDArray[np.uint8], rows: int) -> None:
        """`bits` u8[ceil(rows / 8)], the lowest bit first."""
        self.bits = bits
        self.rows = rows
        self.count = int(np.bitwise_count(bits).sum(dtype=np.int64))  # rows kept

    @classmethod
    def of(cls, mask: Mask) -> "Keep":
        """The rows where `mask` bool[rows] is true."""
        return cls(np.packbits(mask, bitorder="little"), len(mask))

    @property
    def kept(self) -> Rows:
        """The rows kept, ascending; read from the bits each time."""
        return np.flatnonzero(np.unpackbits(self.bits, count=self.rows, bitorder="little")).astype(np.int32)

    def without(self, rows: Rows) -> "Keep":
        """The same less some rows."""
        bits = self.bits.copy()  # 375 kB at 3 million rows: 15 us
        np.bitwise_and.at(bits, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
        return Keep(bits, self.rows)


class Index(Protocol):
    """Finds the rows whose embeddings have the largest inner product with a query."""

    @property
    def rows(self) -> int:
        """How many rows are held: 0 … rows - 1."""
        ...

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        ...

    def search(self, query: Matrix, k: int, *, keep: Keep | None = None) -> Found:
        """At most `k` rows best first, of those kept; BadQuery when the query is not f32[width] of finite numbers."""
        ...

    def vector(self, row: int) -> Matrix:
        """The embedding f32[width] of a row, as the index holds it."""
        ...


def checked(query: Matrix, index: Index) -> Matrix:
    """The query as contiguous f32[width]; BadQuery names what does not fit."""
    found = np.ascontiguousarray(query, np.float32)
    if found.shape != (index.width,):
        raise BadQuery(f"a query has shape {found.shape}; the index holds embeddings of shape ({index.width},)")
    # A finite square says so at once; of numbers that are finite and huge it is infinite, too.
    if not isfinite(np.dot(found, found)) and not np.isfinite(found).all():
        raise BadQuery("a query holds numbers that are not finite; an embedding must be finite")
    return found


def checked_keep(keep: Keep | None, index: Index) -> Keep | None:
    """The set of rows; BadQuery when it was made for an index of another size."""
    if keep is not None and keep.rows != index.rows:
        raise BadQuery(f"a search keeps some of {keep.rows} rows; the index has {index.rows}")
    return keep


def best(rows: Rows, scores: Matrix, k: int) -> Found:
    """The `k` best of scored rows, best first, equal scores by row; rows scored -inf are left out."""
    top = best_places(rows, scores, k)
    return Found(rows[top], scores[top])
