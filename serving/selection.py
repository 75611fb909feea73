"""The best of scored rows, best first: what passes the threshold is picked and put in order by compiled loops."""

import numpy as np
import numpy.typing as npt

from serving.native import helper, native

Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def best_places(rows: Rows, scores: Scores, k: int) -> Places:
    """Places of at most `k` rows, highest score first, equal scores by row; none that is scored -inf or not a number."""
    k = min(k, len(scores))
    if k <= 0:
        return np.empty(0, np.int64)
    return picked(rows, scores, np.partition(scores, len(scores) - k)[len(scores) - k], k)


@helper
def after(rows: Rows, scores: Scores, one: int, other: int) -> bool:
    """Whether the row at one place comes after the row at another: a lower score, or an equal one and a higher row."""
    return bool(scores[one] < scores[other] or (scores[one] == scores[other] and rows[one] > rows[other]))


@helper
def sink(rows: Rows, scores: Scores, heap: Places, at: int, size: int) -> None:
    """Let a place fall to where nothing under it comes after it."""
    place = heap[at]
    while 2 * at + 1 < size:
        under = 2 * at + 1
        if under + 1 < size and after(rows, scores, heap[under + 1], heap[under]):
            under += 1
        if not after(rows, scores, heap[under], place):
            break
        heap[at] = heap[under]
        at = under
    heap[at] = place


@helper
def put_in_order(rows: Rows, scores: Scores, places: Places) -> None:
    """Sort places, best first (heapsort)."""
    for at in range(len(places) // 2 - 1, -1, -1):
        sink(rows, scores, places, at, len(places))
    for last in range(len(places) - 1, 0, -1):
        places[0], places[last] = places[last], places[0]
        sink(rows, scores, places, 0, last)


@native("int64[::1](int32[::1], float32[::1], float32, int64)")
def picked(rows: Rows, scores: Scores, threshold: float, k: int) -> Places:
    """Places of the `k` best in order, the k-th best score being the threshold; of its equals, those with the lowest rows."""
    above, equal, high, same = np.empty(k, np.int64), np.empty(len(scores), np.int64), 0, 0
    for place in range(len(scores)):
        if scores[place] > threshold and high < k:
            above[high] = place
            high += 1
        elif scores[place] == threshold and threshold > -np.inf:
            equal[same] = place
            same += 1
    put_in_order(rows, scores, above[:high])
    put_in_order(rows, scores, equal[:same])
    few = min(same, k - high)
    above[high : high + few] = equal[:few]
    return above[: high + few].copy()
