"""A release's item index on disk: made when the release is published, opened by every proxy, its pages shared.

A folder holds index.json and the index's files. Up to 100,000 rows are searched exactly (1.4 ms); above, inverted lists are
made, and how many of them a search looks into is measured: the fewest that reach the wanted recall on the given queries,
which should be viewers' embeddings that trained nothing.
"""

import zlib
from dataclasses import dataclass
from math import log2, sqrt
from pathlib import Path
from typing import Literal

import faiss
import msgspec
import numpy as np
from msgspec import Struct

from serving.ann import CHUNK, IvfIndex, Lists, checked_rows
from serving.errors import BadQuery, ReleaseRefused
from serving.exact import Exact
from serving.index import Index, Keep, Matrix, Rows

CARD = "index.json"
FIFTH = 5  # one row in so many is kept where widening is measured
WIDENINGS = (0.25, 0.5, 0.75, 1.0)  # embeddings alike in all directions need little, tight clusters all
_BLOCK = 1 << 22  # bytes summed at once


@dataclass(frozen=True)
class IndexDials:
    """How an index is made."""

    exact_up_to: int = 100_000  # rows
    k: int = 500  # results at which recall is measured
    recall: float = 0.965  # wanted; 0.95 is the bar, and other queries than those measured may do worse
    most_probed: int = 512  # lists; a third of the design's 10 ms at 3 million rows
    seed: int = 7
    threads: int = 1


class IndexFile(Struct, frozen=True):
    """One file beside index.json."""

    name: str
    bytes: int
    crc32: int


class IndexCard(Struct, frozen=True, kw_only=True):
    """What index.json says of the files beside it."""

    kind: Literal["exact", "ivf"]
    rows: int
    width: int
    files: tuple[IndexFile, ...]
    nlist: int = 0
    nprobe: int = 0
    widening: float = 1.0  # of searches that keep a share of the rows
    k: int = 0
    recall: float = 1.0  # at k, measured when it was built; below `wanted` when most_probed lists did not reach it
    wanted: float = 1.0
    kept_recall: float = 1.0  # the same where a fifth of the rows is kept
    queries: int = 0  # that recall was measured with
    seed: int = 0


def lists_for(rows: int) -> int:
    """How many lists: a power of two near 2.4 square roots of the rows; 4,096 for 3 million."""
    return int(2 ** round(log2(2.4 * sqrt(rows))))


def make_index(matrix: Matrix, queries: Matrix, dials: IndexDials) -> tuple[Exact | IvfIndex, IndexCard]:
    """An index over embeddings f32[n, D], tuned on queries f32[q, D], and its card (without files)."""
    checked_rows(matrix)
    if len(matrix) <= dials.exact_up_to:
        return Exact(matrix), IndexCard(kind="exact", rows=len(matrix), width=matrix.shape[1], files=())
    nlist = lists_for(len(matrix))
    index = IvfIndex.build(matrix, nlist=nlist, nprobe=1, seed=dials.seed, threads=dials.threads)
    return index, tuned(index, matrix, queries, dials=dials)


def remake_index(
    before: IvfIndex, matrix: Matrix, lists: Lists, *, queries: Matrix, dials: IndexDials
) -> tuple[Exact | IvfIndex, IndexCard]:
    """As `make_index` for new embeddings of mostly the same rows; `lists` as in `IvfIndex.rebuilt_with`.

    Clustering anew is saved as long as recall is reached within twice the lists a search looked into before.
    """
    index = before.rebuilt_with(matrix, lists, threads=dials.threads)
    card = tuned(index, matrix, queries, dials=dials)
    if card.recall >= dials.recall and card.nprobe <= 2 * before.nprobe:
        return index, card
    return make_index(matrix, queries, dials)


def tuned(index: IvfIndex, matrix: Matrix, queries: Matrix, *, dials: IndexDials) -> IndexCard:
    """Set the fewest lists that reach the wanted recall, at most `most_probed`; returns the card (without files)."""
    checked_rows(queries)
    if queries.shape[1] != index.width:
        raise BadQuery(f"queries have shape {queries.shape}; the index holds embeddings of width {index.width}")
    k = min(dials.k, len(matrix))
    truth = nearest(matrix, queries, k)
    low, high = 1, min(dials.most_probed, index.nlist)
    while low < high:
        index.nprobe = (low + high) // 2
        if recall_of(index, queries, truth) >= dials.recall:
            high = index.nprobe
        else:
            low = index.nprobe + 1
    index.nprobe = low
    kept_recall = _widened(index, matrix, queries, dials=dials)
    return IndexCard(
        kind="ivf",
        rows=index.rows,
        width=index.width,
        files=(),
        nlist=index.nlist,
        nprobe=low,
        widening=index.widening,
        k=k,
        recall=recall_of(index, queries, truth),
        wanted=dials.recall,
        kept_recall=kept_recall,
        queries=len(queries),
        seed=dials.seed,
    )


def _widened(index: IvfIndex, matrix: Matrix, queries: Matrix, *, dials: IndexDials) -> float:
    """Set the least widening that reaches the wanted recall among a random fifth of the rows; returns the recall."""
    kept = np.random.default_rng(dials.seed).random(len(matrix)) < 1 / FIFTH
    rows, keep, found = np.flatnonzero(kept).astype(np.int32), Keep.of(kept), 0.0
    truth = rows[nearest(matrix[kept], queries, min(dials.k, len(rows)))]
    for index.widening in WIDENINGS:
        found = recall_of(index, queries, truth, keep=keep)
        if found >= dials.recall:
            break
    return found


def nearest(matrix: Matrix, queries: Matrix, k: int) -> Rows:
    """The true k best rows i32[q, k] of each query, in any order: by blocks, for many queries at once."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int32)
    for start in range(0, len(matrix), CHUNK):
        block = matrix[start : start + CHUNK]
        near, at = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.hstack([scores, near]), np.hstack([rows, (at + start).astype(np.int32)])
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k] if scores.shape[1] > k else np.argsort(-scores, axis=1)
        scores, rows = np.take_along_axis(scores, top, 1), np.take_along_axis(rows, top, 1)
    return rows


def recall_of(index: Index, queries: Matrix, truth: Rows, *, keep: Keep | None = None) -> float:
    """Mean share of each query's true best rows i32[q, k] that the index finds among its k best of those kept."""
    k = truth.shape[1]
    found = (index.search(query, k, keep=keep).rows for query in queries)
    return sum(float(np.isin(rows, true).sum()) for rows, true in zip(found, truth, strict=True)) / truth.size


def write_index(folder: Path, index: Exact | IvfIndex, card: IndexCard) -> IndexCard:
    """Write the index's files and, last, index.json; returns the card with the files named."""
    files = tuple(IndexFile(path.name, path.stat().st_size, _crc32(path)) for path in index.save(folder))
    whole = msgspec.structs.replace(card, files=files)
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(whole)))
    return whole


def read_card(folder: Path) -> IndexCard:
    """Read index.json; ReleaseRefused names the file."""
    try:
        return msgspec.json.decode((folder / CARD).read_bytes(), type=IndexCard)
    except (OSError, msgspec.MsgspecError) as error:
        raise ReleaseRefused(f"item index card {folder / CARD} cannot be read: {error}") from None


def open_index(folder: Path, *, check: bool = True) -> Exact | IvfIndex:
    """Map the index a folder holds; ReleaseRefused when a file is not what the card says.

    A mapped file that is too short kills the process that reads behind its end, so sizes are always looked at; `check` sums
    every byte too, which also leaves the file in memory.
    """
    card = read_card(folder)
    for file in card.files:
        path = folder / file.name
        size = path.stat().st_size if path.is_file() else 0
        if size != file.bytes or (check and _crc32(path) != file.crc32):
            raise ReleaseRefused(
                f"item index file {path} has {size} bytes and is not the {file.bytes} that were written"
            )
    index = Exact.open(folder) if card.kind == "exact" else IvfIndex.open(folder)
    if (index.rows, index.width) != (card.rows, card.width):
        raise ReleaseRefused(
            f"item index in {folder} holds {index.rows} x {index.width}; its card says {card.rows} x {card.width}"
        )
    if isinstance(index, IvfIndex):
        index.nprobe, index.widening = card.nprobe, card.widening
    return index


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as body:
        while block := body.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found
