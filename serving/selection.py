"""The best of scored rows: a heap of as many as are asked for, compiled."""

import numpy as np
import numpy.typing as npt

from serving.native import helper, native

Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@helper
def worse(rows: Rows, scores: Scores, one: int, other: int) -> bool:
    """Whether the row at one place comes after the row at another: a lower score, or an equal one and a higher row."""
    return bool(scores[one] < scores[other] or (scores[one] == scores[other] and rows[one] > rows[other]))


@helper
def sink(rows: Rows, scores: Scores, heap: Places, size: int, place: int) -> None:
    """Let a place fall into the heap from its top, where the worst stands."""
    at = 0
    while True:
        under = 2 * at + 1
        if under >= size:
            break
        if under + 1 < size and worse(rows, scores, heap[under + 1], heap[under]):
            under += 1
        if not worse(rows, scores, heap[under], place):
            break
        heap[at] = heap[under]
        at = under
    heap[at] = place


@native("int64[::1](int32[::1], float32[::1], int64)")
def best_places(rows: Rows, scores: Scores, k: int) -> Places:
    """Places of at most `k` rows, highest score first, equal scores by row; none that is scored -inf or not a number."""
    heap, size = np.empty(max(min(k, len(scores)), 0), np.int64), 0
    for place in range(len(scores)):
        if not scores[place] > -np.inf:
            continue
        if size < len(heap):
            at = size
            size += 1
            while at > 0 and worse(rows, scores, place, heap[(at - 1) // 2]):
                heap[at] = heap[(at - 1) // 2]
                at = (at - 1) // 2
            heap[at] = place
        elif size > 0 and worse(rows, scores, heap[0], place):
            sink(rows, scores, heap, size, place)
    for left in range(size - 1, 0, -1):
        worst, last = heap[0], heap[left]
        sink(rows, scores, heap, left, last)
        heap[left] = worst
    return heap[:size].copy()
