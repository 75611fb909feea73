"""Approximate search over millions of items: inverted lists of float16 embeddings, mapped from the release's folder.

A query is held against the lists' centroids and then against every row of the `nprobe` nearest lists. Float16 rows of one
list lie one after the other, which at 500 results beats smaller codes: those need thousands of exact look-ups at random
places. A search that keeps a share of the rows looks into more lists, so that recall stays: a fifth of 3 million takes
0.5 ms. An index of AUDIO alone would take 0.1 and cost every mixed feed a second search and every row a second number. For
fewer than 100,000 of millions an exact matrix of just these is cheaper.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import faiss
import numpy as np
import numpy.typing as npt

from serving.errors import BadQuery, ReleaseRefused
from serving.index import Found, Keep, Matrix, checked, checked_keep

LISTS = "lists.faiss"
PLACES = "places.npy"
TRAINING_PER_LIST = 64  # rows k-means sees for each list; recall stays the same with more
ROUNDS = 10  # of k-means
CHUNK = 1 << 18  # rows assigned and encoded at once
Lists = npt.NDArray[np.int64]


class IvfIndex:
    """Inverted lists over embeddings f32[n, D]; never changed once built, searched by any number of threads."""

    def __init__(self, native: Any, places: Lists, *, folder: Path | None = None) -> None:
        self._native = native
        self._places = places  # row -> list number << 32 | offset in the list
        self._folder = folder
        self._parameters: WeakKeyDictionary[Keep, Any] = WeakKeyDictionary()
        self._widening = 1.0
        self._width = int(native.d)

    @property
    def rows(self) -> int:
        """How many rows are held."""
        return int(self._native.ntotal)

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return self._width

    @property
    def nlist(self) -> int:
        """How many lists the rows are in."""
        return int(self._native.nlist)

    @property
    def nprobe(self) -> int:
        """How many lists a search that keeps all rows looks into; set before the index is shared."""
        return int(self._native.nprobe)

    @nprobe.setter
    def nprobe(self, lists: int) -> None:
        self._native.nprobe = lists
        self._parameters.clear()

    @property
    def widening(self) -> float:
        """How much further a search looks that keeps a share of the rows: nprobe / share^widening lists; set as nprobe is."""
        return self._widening

    @widening.setter
    def widening(self, power: float) -> None:
        self._widening = power
        self._parameters.clear()

    @property
    def lists(self) -> Lists:
        """The list i64[n] each row is in, for `rebuilt_with`."""
        return self._places >> 32

    def search(self, query: Matrix, k: int, *, keep: Keep | None = None) -> Found:
        """At most `k` rows best first, of those kept; equal scores in no stated order."""
        asked = checked(query, self)[np.newaxis]
        parameters = self._kept(keep) if checked_keep(keep, self) is not None else None
        if min(k, self.rows) <= 0:
            return Found(np.zeros(0, np.int32), np.zeros(0, np.float32))
        scores, rows = self._native.search(asked, min(k, self.rows), params=parameters)
        found = int(np.count_nonzero(rows[0] >= 0))  # what is missing stands at the end, as -1
        return Found(rows[0, :found].astype(np.int32), scores[0, :found])

    def vector(self, row: int) -> Matrix:
        """The embedding of a row, rounded to float16."""
        place = int(self._places[row])
        out = np.empty(self.width, np.float32)
        self._native.reconstruct_from_offset(place >> 32, place & 0xFFFFFFFF, faiss.swig_ptr(out))
        return out

    def _kept(self, keep: Keep | None) -> Any:
        """Search parameters for a set of rows, made once a set."""
        if keep is None or (found := self._parameters.get(keep)) is not None:
            return None if keep is None else found
        probes = min(self.nlist, ceil(self.nprobe * (self.rows / max(keep.count, 1)) ** self._widening))
        made = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(keep.bits), nprobe=probes)
        return self._parameters.setdefault(keep, made)

    @classmethod
    def build(cls, matrix: Matrix, *, nlist: int, nprobe: int, seed: int, threads: int) -> "IvfIndex":
        """Cluster rows f32[n, D] into `nlist` lists by k-means on a sample, and put every row into its nearest."""
        checked_rows(matrix)
        if not 1 <= nprobe <= nlist <= len(matrix):
            raise BadQuery(f"nprobe {nprobe}, nlist {nlist}, {len(matrix)} rows: each may be at most the next, from 1")
        native = _empty(matrix.shape[1], nlist, seed)
        native.nprobe = nprobe
        sample = np.random.default_rng(seed).permutation(len(matrix))[: nlist * TRAINING_PER_LIST]
        with _threads(threads):
            native.train(matrix[np.sort(sample)])
            return cls._filled(native, matrix, _nearest_lists(native, matrix))

    def rebuilt_with(self, matrix: Matrix, lists: Lists, *, threads: int) -> "IvfIndex":
        """New embeddings f32[n, D] of rows whose `lists` i64[n] are known from before; -1 for a new row.

        Lists are kept, centroids become the means of what their rows are now: a model that went on learning moves neighbours
        together. Only new rows are held against the centroids. Measure recall again; build anew when it has gone down.
        """
        checked_rows(matrix)
        if lists.shape != (len(matrix),) or lists.min() < -1 or lists.max() >= self.nlist:
            raise BadQuery(
                f"lists of shape {lists.shape} do not fit {len(matrix)} rows and lists -1 … {self.nlist - 1}"
            )
        native = _empty(self.width, self.nlist, 0)
        native.nprobe = self.nprobe
        with _threads(threads):
            native.quantizer.add(_means(matrix, lists, self._centroids()))
            native.is_trained = True
            fresh = np.flatnonzero(lists < 0)
            if fresh.size:
                lists = lists.copy()
                lists[fresh] = _nearest_lists(native, matrix[fresh])
            return self._filled(native, matrix, lists)

    @classmethod
    def _filled(cls, native: Any, matrix: Matrix, lists: Lists) -> "IvfIndex":
        for start in range(0, len(matrix), CHUNK):
            rows, into = (np.ascontiguousarray(one[start : start + CHUNK]) for one in (matrix, lists))
            native.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(into))
        native.make_direct_map(True)
        places = faiss.vector_to_array(native.direct_map.array)
        native.make_direct_map(False)
        return cls(native, places)

    def _centroids(self) -> Matrix:
        quantizer = faiss.downcast_index(self._native.quantizer)
        found: Matrix = quantizer.reconstruct_n(0, self.nlist)
        return found

    def save(self, folder: Path) -> Sequence[Path]:
        """Write lists and places into a folder; returns the files."""
        files = (folder / LISTS, folder / PLACES)
        if self._folder is not None:  # what is mapped cannot be written out again, only copied
            for path in files:
                shutil.copyfile(self._folder / path.name, path)
            return files
        faiss.write_index(self._native, str(files[0]))
        np.save(files[1], self._places)
        return files

    @classmethod
    def open(cls, folder: Path) -> "IvfIndex":
        """Map saved lists; processes on one machine share their pages. Whether files are whole is checked before."""
        try:
            native = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP)
            places = np.load(folder / PLACES, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            raise ReleaseRefused(f"item index in {folder} cannot be read: {str(error).splitlines()[0]}") from None
        if not isinstance(native, faiss.IndexIVFScalarQuantizer) or places.shape != (native.ntotal,):
            raise ReleaseRefused(f"item index in {folder}: lists and places are not of one index")
        # Read-ahead would start a dozen threads for every search.
        faiss.downcast_InvertedLists(native.invlists).prefetch_nthread = 0
        return cls(native, places, folder=folder)


def checked_rows(matrix: Matrix) -> None:
    """BadQuery unless the matrix is f32[n, D], contiguous, n and D at least 1, all finite."""
    if matrix.ndim != 2 or not matrix.size or matrix.dtype != np.float32 or not matrix.flags.c_contiguous:
        raise BadQuery(f"embeddings are {matrix.dtype} of shape {matrix.shape}; an index takes contiguous f32[n, D]")
    for start in range(0, len(matrix), CHUNK):
        if not np.isfinite(matrix[start : start + CHUNK]).all():
            raise BadQuery(f"an embedding from row {start} on is not finite; an index takes finite numbers")


def _empty(width: int, nlist: int, seed: int) -> Any:
    native = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, nlist, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    native.cp.seed, native.cp.niter, native.cp.spherical = seed, ROUNDS, True
    native.cp.min_points_per_centroid, native.cp.max_points_per_centroid = 1, TRAINING_PER_LIST
    return native


def _nearest_lists(native: Any, matrix: Matrix) -> Lists:
    out = np.empty(len(matrix), np.int64)
    for start in range(0, len(matrix), CHUNK):
        out[start : start + CHUNK] = native.quantizer.assign(matrix[start : start + CHUNK], 1)[:, 0]
    return out


def _means(matrix: Matrix, lists: Lists, before: Matrix) -> Matrix:
    """Unit means [nlist, D] of the rows of each list; the centroid from before where a list has no row or no direction."""
    known = np.flatnonzero(lists >= 0)
    order = known[np.argsort(lists[known], kind="stable")]
    numbers, starts = np.unique(lists[order], return_index=True)
    out = before.copy()
    for number, start, end in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
        mean = matrix[order[start:end]].mean(axis=0)
        length = float(np.linalg.norm(mean))
        if length > 0:
            out[number] = mean / length
    return out


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let faiss use so many threads, in the whole process, for as long as this lasts."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
