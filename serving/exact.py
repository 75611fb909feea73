"""Exact search: every row's inner product, for small catalogues and for the rooms that are live now.

5,000 rows take 0.06 ms, 100,000 take 1.4 (one thread). BLAS must not use more: spinning threads made 20,000 rows 20 times as
expensive. `serving.processes.limit_threads` sees to it in the proxy, before the first search.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serving.errors import ReleaseRefused
from serving.index import Found, Keep, Matrix, best, checked, checked_keep

VECTORS = "vectors.npy"


class Exact:
    """All embeddings f32[n, D] in one matrix."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = np.ascontiguousarray(matrix, np.float32).view(np.ndarray)
        self._every = np.arange(len(matrix), dtype=np.int32)

    @property
    def rows(self) -> int:
        """How many rows are held."""
        return len(self._matrix)

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return int(self._matrix.shape[1])

    def search(self, query: Matrix, k: int, *, keep: Keep | None = None) -> Found:
        """At most `k` rows best first, of those kept; equal scores by row."""
        scores = self._matrix @ checked(query, self)
        if checked_keep(keep, self) is None:
            return best(self._every, scores, k)
        kept = keep.kept if keep is not None else self._every
        return best(kept, scores[kept], k)

    def vector(self, row: int) -> Matrix:
        """The embedding of a row."""
        return np.array(self._matrix[row])

    def save(self, folder: Path) -> Sequence[Path]:
        """Write the matrix into a folder; returns the files."""
        np.save(folder / VECTORS, self._matrix)
        return (folder / VECTORS,)

    @classmethod
    def open(cls, folder: Path) -> "Exact":
        """Map a saved matrix; processes on one machine share its pages."""
        try:
            return cls(np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise ReleaseRefused(f"item index {folder / VECTORS} cannot be read: {error}") from None
