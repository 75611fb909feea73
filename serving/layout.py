"""Which candidate stands at which place of a page, by merit, shares and caps: the loop of serving/arrange.py, compiled.

Candidates are n rows; `best_first` names them in order of what they are worth without regard to the others.
"""

import math

import numpy as np
import numpy.typing as npt

from serving.native import helper, native

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int32]
Kinds = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
UNKNOWN = -1  # a category that is neither capped nor counted
_SPREAD = 2654435769  # Knuth's multiplicative hashing: 2**32 over the golden ratio
CLOSED = -math.inf  # worth of a candidate that is on the page or capped


@native("boolean(float64[::1], int64[::1], int64[::1], int64)")
def in_order(wish: Floats, order: Rows, best_first: Rows, few: int) -> bool:
    """Put equals of `best_first`, which falls by `wish`, in rising `order`; False, and nothing done, for more than `few`."""
    equal = 0
    for at in range(1, len(best_first)):
        if wish[best_first[at]] == wish[best_first[at - 1]]:
            equal += 1
    if equal > few:
        return False
    for begin in range(1, len(best_first) if equal else 0):
        at = begin
        while (
            at > 0
            and wish[best_first[at]] == wish[best_first[at - 1]]
            and order[best_first[at]] < order[best_first[at - 1]]
        ):
            best_first[at], best_first[at - 1] = best_first[at - 1], best_first[at]
            at -= 1
    return True


@helper
def taken_before(codes: Codes, before: Rows, spare: int) -> Rows:
    """How many places of this page's cap earlier pages have taken of each row's code."""
    taken = np.zeros(len(codes), np.int64)
    for one in range(len(before)):
        for at in range(len(codes)):
            if codes[at] == before[one, 0]:
                taken[at] = max(before[one, 1] - spare, 0)
    return taken


@helper
def is_full(code: int, taken: int, cap: int, room: int) -> bool:
    """Whether a code that is on the page has fewer places left than `room`."""
    return bool(code != UNKNOWN and taken > 0 and taken + room > cap)


@helper
def shown_too(codes: Codes, code: int, taken: Rows, cap: int, worth: Floats) -> None:
    """Another row of that code is on the page: count it, and close the code's rows once its cap is reached."""
    for at in range(len(codes)):
        if codes[at] == code:
            taken[at] += 1
            if is_full(code, taken[at], cap, 1):
                worth[at] = CLOSED


@helper
def alike_before(kinds: Kinds, categories: Codes, kinds_before: Rows, categories_before: Rows) -> Floats:
    """How often earlier pages showed each row's kind, plus how often its category."""
    alike = np.zeros(len(kinds))
    for one in range(len(kinds_before)):
        for at in range(len(kinds)):
            if kinds[at] == kinds_before[one, 0]:
                alike[at] += kinds_before[one, 1]
    for one in range(len(categories_before)):
        for at in range(len(kinds)):
            if categories[at] == categories_before[one, 0] and categories[at] != UNKNOWN:
                alike[at] += categories_before[one, 1]
    return alike


@helper
def the_most(worth: Floats, alike: Floats, weight: float) -> int:
    """The first of the rows that are worth most less what they share; -1 where all are closed."""
    best, most = -1, CLOSED
    for at in range(len(worth)):
        now = worth[at] - alike[at] * weight
        if now > most:
            best, most = at, now
    return best


@helper
def one_a_creator(creators: Codes, barred: Flags, most: int) -> Rows:
    """The best rows that are not barred, one a creator: whatever is drawn of them, a creator with room keeps its cap."""
    out, count, size = np.empty(min(most, len(creators)), np.int64), 0, 64
    while size < 2 * len(out):
        size *= 2
    met = np.full(size, -1, np.int64)  # rows of `out` under a hash of their creators, at most half full
    for at in range(len(creators)):
        if count == len(out):
            break
        if barred[at]:
            continue
        slot = (np.int64(creators[at]) * _SPREAD >> 7) & (size - 1)
        while met[slot] >= 0 and creators[met[slot]] != creators[at]:
            slot = (slot + 1) & (size - 1)
        if met[slot] < 0:
            met[slot] = out[count] = at
            count += 1
    return out[:count]


@native(
    "Tuple((int64[::1], int64[::1]))(float64[::1], int64[::1], int8[::1], int32[::1], int32[::1], float64,"
    " int64[:, ::1], int64[:, ::1], int64[:, ::1], int64, int64, int64, int64, int64, int64, int64, int64)"
)
def lay_out(
    wish: Floats,
    best_first: Rows,
    kind: Kinds,
    creator: Codes,
    category: Codes,
    diversity: float,
    creators_before: Rows,  # [m, 2] codes that earlier pages showed, and how often
    categories_before: Rows,
    kinds_before: Rows,
    shown: int,  # places of earlier pages
    creator_cap: int,
    creator_spare: int,  # how often they may have shown one creator at no cost to this page
    category_cap: int,
    category_spare: int,
    limit: int,
    drawn_for: int,  # places to fill by drawing; 0 for none
    most: int,  # rows in the pool they are drawn from
) -> tuple[Rows, Rows]:
    """The page's rows by merit, and the rows that may be drawn instead at its last places, both best first.

    A capped row stands on the page only when there is nothing else. Nothing is drawn unless the page is full and something
    left; whatever is drawn at all of `drawn_for` places together, no cap is passed.
    """
    kinds, creators, categories = kind[best_first], creator[best_first], category[best_first]
    of_creator = taken_before(creators, creators_before, creator_spare)
    of_category = taken_before(categories, categories_before, category_spare)
    alike = alike_before(kinds, categories, kinds_before, categories_before)
    worth: Floats = (1.0 - diversity) * wish[best_first]
    for at in range(len(worth)):
        if is_full(creators[at], of_creator[at], creator_cap, 1) or is_full(
            categories[at], of_category[at], category_cap, 1
        ):
            worth[at] = CLOSED
    page, placed, on_page = np.empty(min(limit, len(worth)), np.int64), 0, np.zeros(len(worth), np.bool_)
    while placed < len(page):
        best = the_most(worth, alike, diversity / max(shown + placed, 1))
        if best < 0:
            break
        page[placed], on_page[best], worth[best] = best, True, CLOSED
        placed += 1
        alike += kinds == kinds[best]
        if categories[best] != UNKNOWN:
            alike += categories == categories[best]
        shown_too(creators, creators[best], of_creator, creator_cap, worth)
        shown_too(categories, categories[best], of_category, category_cap, worth)
    for at in range(len(worth)):
        if placed < len(page) and not on_page[at]:
            page[placed], on_page[at] = at, True
            placed += 1
    pool = np.empty(0, np.int64)
    if drawn_for > 0 and limit == len(page) < len(worth):
        for at in range(len(worth)):
            on_page[at] |= is_full(creators[at], of_creator[at], creator_cap, 1)
            on_page[at] |= is_full(categories[at], of_category[at], category_cap, drawn_for)
        pool = best_first[one_a_creator(creators, on_page, most)]
    return best_first[page], pool
