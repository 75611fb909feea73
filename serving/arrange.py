"""From ranked candidates to a page: kinds and categories mixed, caps kept, a few places explored with known odds.

    page = arrange(ranked, limit=20, diversity=0.2, preferred=-1, config=ArrangeConfig(), dice=random.Random(7))
    page.places       # rows of the candidates, best first; page.propensity says how likely each was at its place

Rows are best first from `_lay_out` on: sorted by merit and preference once, so that the first of equals is the better one.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
VIDEO, AUDIO, LIVE = 0, 1, 2  # codes of `Ranked.kind`
NO_PREFERENCE = -1
UNKNOWN = -1  # a category that is neither capped nor counted
FEW_EQUALS = 20  # pairs of equals that are put in order one by one
CLOSED = -math.inf  # worth of a candidate that is on the page or capped
NO_ROWS: Rows = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class ArrangeConfig:
    """How a page is laid out."""

    creator_cap: int = 3  # items of one creator on a page; exceeded only when nothing else is left
    category_cap: int = 10  # items of one category on a page; likewise
    window: int = 20  # shorter pages share their caps: over the pages of a session, a cap speaks of this many places
    preference: float = 0.1  # merit added to the viewer's preferred kind
    language: float = 0.1  # merit added to what is in the language of her locale, where her profile names none
    explored_share: float = 0.1  # the last share of a page's places may be explored, at least one
    epsilon: float = 0.2  # 0..1, probability that such a place shows a uniformly drawn candidate
    pool: int = 200  # most candidates to draw from at a page's explored places together: bounds the odds from below


@dataclass(frozen=True)
class Ranked:
    """Candidates as columns of n rows; `order` (lower first) decides between equals and makes a page repeatable."""

    merit: Floats  # 0..1, finite
    kind: npt.NDArray[np.int8]  # VIDEO, AUDIO or LIVE
    creator: Codes
    category: Codes  # UNKNOWN where there is none
    order: Rows
    spoken: Flags | None = None  # whether it is in the language of the viewer's locale; None: that does not count

    def wish(self, preferred: int, config: ArrangeConfig, rows: Rows | None = None) -> Floats:
        """Merit and preferences of those rows, or of all."""
        at: Rows | slice = slice(None) if rows is None else rows
        wish = self.merit[at]
        if preferred != NO_PREFERENCE:
            wish = wish + config.preference * (self.kind[at] == preferred)
        if self.spoken is not None:
            wish = wish + config.language * self.spoken[at]
        return wish


@dataclass(frozen=True)
class Shown:
    """How often the session's last places, `count` of them, showed each creator, category and kind (by code)."""

    creators: Mapping[int, int] = field(default_factory=Counter)
    categories: Mapping[int, int] = field(default_factory=Counter)
    kinds: Mapping[int, int] = field(default_factory=Counter)
    count: int = 0

    @classmethod
    def of(cls, ranked: Ranked, rows: Rows) -> "Shown":
        """Counts of those rows."""
        creators, categories, kinds = (
            Counter(column[rows].tolist()) for column in (ranked.creator, ranked.category, ranked.kind)
        )
        return cls(creators, categories, kinds, len(rows))


NOTHING = Shown()


@dataclass(frozen=True)
class Page:
    """A page of k places, best first, and what off-policy evaluation needs to know of it.

    `propensity` is the probability that the item stood at its place, over the dice; places are drawn for independently of
    each other and from disjoint pools, so it is also the probability given everything else on the page.
    """

    places: Rows  # [k] rows of the candidates
    propensity: Floats  # [k]
    explored: Flags  # [k] places where something might have been drawn, whether or not it was
    by_merit: Rows  # [k] what the place shows when nothing is drawn
    pool: Rows  # [m] what might have been drawn at any explored place, best first; empty when there is none

    def pool_at(self, place: int) -> Rows:
        """Rows that might have been drawn at a place (from 0), each with the same odds; empty where it is not explored."""
        if not self.explored[place]:
            return NO_ROWS
        return self.pool[int(self.explored[:place].sum()) :: int(self.explored.sum())]


def arrange(
    ranked: Ranked,
    *,
    limit: int,
    diversity: float,
    preferred: int,
    config: ArrangeConfig,
    dice: random.Random,
    before: Shown = NOTHING,
) -> Page:
    """At most `limit` places; `before` counts what the session's last pages showed.

    Each place takes the candidate with the most
    (1 - diversity) (merit + preference [kind is preferred] + language [spoken])
    - diversity (share of its kind + share of its category),
    shares of the page so far and of `before`: by merit alone at diversity 0, evenly mixed whatever the merit at 1. Caps
    hold for a page, and in proportion for `before` and the page together.
    """
    wish = ranked.wish(preferred, config)
    best_first = _best_first(wish, ranked.order)
    window = max(limit, config.window)
    reach = max(before.count + limit, window)
    caps = (
        _Cap(ranked.creator[best_first], config.creator_cap, before.creators, reach=reach, window=window),
        _Cap(ranked.category[best_first], config.category_cap, before.categories, reach=reach, window=window),
    )
    crowd = _Crowd(ranked.kind[best_first], ranked.category[best_first], diversity=diversity, before=before)
    page = _lay_out((1.0 - diversity) * wish[best_first], crowd, caps, limit=limit)
    return _explore(page, best_first, caps, limit=limit, config=config, dice=dice)


def choice_at(
    ranked: Ranked, page: Page, place: int, *, diversity: float, preferred: int, config: ArrangeConfig
) -> int:
    """The row that merits `ranked` would put at an explored place of a page that other merits laid out.

    One of the row by merit and the place's pool, by what `arrange` compares, with the places above as they are by merit: so
    merits that are those of the page choose the page's row by merit.
    """
    choices = np.append(page.pool_at(place), page.by_merit[place])
    wish = ranked.wish(preferred, config, choices)
    best_first = _best_first(wish, ranked.order[choices])
    rows = np.concatenate([choices[best_first], page.by_merit[:place]])
    crowd = _Crowd(ranked.kind[rows], ranked.category[rows], diversity=diversity, before=NOTHING)
    for above in range(len(choices), len(rows)):
        crowd.add(above)
    worth: Floats = np.append((1.0 - diversity) * wish[best_first], np.zeros(place)) - crowd.penalty()
    return int(rows[worth[: len(choices)].argmax()])


def _best_first(wish: Floats, order: Rows) -> Rows:
    """Rows by falling wish, then rising order; to sort by both takes several times as long and is needed for equals only."""
    rows = np.argsort(-wish)
    ordered = wish[rows]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1]).tolist()  # places that are equal to the next one
    if len(equal) > FEW_EQUALS:
        return np.lexsort((order, -wish))
    while equal:
        begin = end = equal.pop()
        while equal and equal[-1] == begin - 1:
            begin = equal.pop()
        run = rows[begin : end + 2]
        rows[begin : end + 2] = run[np.argsort(order[run])]
    return rows


class _Cap:
    """How often each code may still stand on the page: `cap` times in a `window` of places, in proportion over `reach`."""

    def __init__(self, codes: Codes, cap: int, before: Mapping[int, int], *, reach: int, window: int) -> None:
        self.codes, self.cap = codes, cap
        spare = cap * reach // window - cap  # what the places before may have had at no cost to this page
        self._taken = {code: had - spare for code, had in before.items() if had > spare}

    def take(self, row: int) -> bool:
        """Count the row's code once more; True when it now has all its places."""
        code = int(self.codes[row])
        taken = self._taken[code] = self._taken.get(code, 0) + 1
        return taken >= self.cap and code != UNKNOWN

    def without(self, room: int) -> Flags:
        """Rows whose code has fewer places left than that, [n]."""
        out = np.zeros(len(self.codes), dtype=np.bool_)
        for code, taken in self._taken.items():
            if taken + room > self.cap and code != UNKNOWN:
                out |= self.codes == code
        return out


class _Crowd:
    """What each row loses to those of its kind and category that are shown already."""

    def __init__(self, kind: npt.NDArray[np.int8], category: Codes, *, diversity: float, before: Shown) -> None:
        self._kind, self._category, self._diversity = kind, category, diversity
        self._shown = before.count
        self._alike: Floats = np.zeros(len(kind))  # how often its kind was shown, plus how often its category
        self._increments: dict[tuple[int, int], Floats] = {}  # of `_alike`, by kind and category
        if diversity > 0:
            for code, count in before.kinds.items():
                self._alike[kind == code] += count
            for code, count in before.categories.items():
                self._alike[category == code] += count if code != UNKNOWN else 0

    def penalty(self) -> Floats | float:
        """Of every row, [n]."""
        return self._alike * (self._diversity / max(self._shown, 1)) if self._diversity > 0 else 0.0

    def add(self, row: int) -> None:
        """Another row is shown."""
        self._shown += 1
        if self._diversity <= 0:
            return
        kind, category = key = int(self._kind[row]), int(self._category[row])
        more = self._increments.get(key)
        if more is None:
            more = (self._kind == kind).astype(np.float64)
            if category != UNKNOWN:
                more += self._category == category
            self._increments[key] = more
        self._alike += more


def _lay_out(worth: Floats, crowd: _Crowd, caps: tuple[_Cap, _Cap], *, limit: int) -> list[int]:
    """Rows of the page by merit; `worth` is used up."""
    page: list[int] = []
    for cap in caps:
        worth[cap.without(1)] = CLOSED
    while len(page) < min(limit, len(worth)):
        now = worth - crowd.penalty()
        best = int(now.argmax())
        if now[best] == CLOSED:
            break
        page.append(best)
        worth[best] = CLOSED
        crowd.add(best)
        for cap in caps:
            if cap.take(best):
                worth[cap.codes == cap.codes[best]] = CLOSED
    on_page = set(page)
    capped = (row for row in range(len(worth)) if row not in on_page)  # empty where the page is full
    return page + list(islice(capped, min(limit, len(worth)) - len(page)))


def _explore(
    page: list[int],
    best_first: Rows,
    caps: tuple[_Cap, _Cap],
    *,
    limit: int,
    config: ArrangeConfig,
    dice: random.Random,
) -> Page:
    """Draw for the last places of a full page, each from its own share of the pool, dealt like cards.

    With n in its share, each of them has the odds epsilon / n there, and the candidate by merit 1 - epsilon.
    """
    by_merit = best_first[np.array(page, dtype=np.int64)]
    places, explored, propensity = by_merit.copy(), np.zeros(len(page), dtype=np.bool_), np.ones(len(page))
    drawn_for = max(1, round(limit * config.explored_share))
    pool = NO_ROWS
    if len(page) == limit < len(best_first) and config.epsilon > 0:  # a shorter page shows all there is
        pool = best_first[_pool(page, caps, places=drawn_for)[: config.pool]]
    if len(pool) < drawn_for:
        return Page(places, propensity, explored, by_merit, NO_ROWS)
    explored[limit - drawn_for :] = True
    for share, place in enumerate(range(limit - drawn_for, limit)):
        own = pool[share::drawn_for]
        drawn, luck = dice.random() < config.epsilon, dice.random()
        if drawn:
            places[place] = own[int(luck * len(own))]
        propensity[place] = config.epsilon / len(own) if drawn else 1.0 - config.epsilon
    return Page(places, propensity, explored, by_merit, pool)


def _pool(page: list[int], caps: tuple[_Cap, _Cap], *, places: int) -> Rows:
    """Rows that may be drawn, best first: whatever is drawn at all those places together, no cap is passed.

    So there is one row a creator, none of a full creator, and none of a category that `places` more could overfill.
    """
    creators, categories = caps
    barred = creators.without(1) | categories.without(places)
    barred[page] = True
    rest = np.flatnonzero(~barred)
    first = np.unique(creators.codes[rest], return_index=True)[1]
    first.sort()
    return rest[first]
