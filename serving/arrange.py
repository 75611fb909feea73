"""From ranked candidates to a page: kinds and categories mixed, caps kept, a few places explored with known odds.

    page = arrange(ranked, limit=20, diversity=0.2, preferred=-1, config=ArrangeConfig(), dice=random.Random(7))
    page.places       # rows of the candidates, best first; page.propensity says how likely each was at its place

Rows are best first from `_lay_out` on: sorted by merit and preference once, so that the first of equals is the better one.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serving.layout import UNKNOWN, Codes, Floats, Rows, in_order, lay_out

__all__ = ["UNKNOWN", "ArrangeConfig", "Page", "Ranked", "Rows", "Shown", "arrange", "choice_at"]
Flags = npt.NDArray[np.bool_]
VIDEO, AUDIO, LIVE = 0, 1, 2  # codes of `Ranked.kind`
NO_PREFERENCE = -1
FEW_EQUALS = 20  # pairs of equals that are put in order one by one
NO_ROWS: Rows = np.zeros(0, dtype=np.int64)
_NONE_BEFORE: Rows = np.zeros((0, 2), dtype=np.int64)


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
    drawn_for = max(1, round(limit * config.explored_share)) if config.epsilon > 0 else 0
    page, pool = lay_out(
        wish, best_first, ranked.kind, ranked.creator, ranked.category, diversity,
        _counts(before.creators), _counts(before.categories), _counts(before.kinds), before.count,
        config.creator_cap, config.creator_cap * reach // window - config.creator_cap,
        config.category_cap, config.category_cap * reach // window - config.category_cap,
        limit, drawn_for, config.pool,
    )  # fmt: skip
    return _explore(page, pool, drawn_for=drawn_for, epsilon=config.epsilon, dice=dice)


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
    rows, above = choices[best_first], page.by_merit[:place]
    kind, category = ranked.kind[above], ranked.category[above]
    alike = (ranked.kind[rows, None] == kind).sum(axis=1)
    alike += ((ranked.category[rows, None] == category) & (category != UNKNOWN)).sum(axis=1)
    worth: Floats = (1.0 - diversity) * wish[best_first] - alike * (diversity / max(place, 1))
    return int(rows[worth.argmax()])


def _best_first(wish: Floats, order: Rows) -> Rows:
    """Rows by falling wish, then rising order; to sort by both takes several times as long and is needed for equals only."""
    rows = np.argsort(-wish)
    return rows if in_order(wish, order, rows, FEW_EQUALS) else np.lexsort((order, -wish))


def _counts(of: Mapping[int, int]) -> Rows:
    return np.array(list(of.items()), np.int64).reshape(-1, 2) if of else _NONE_BEFORE


def _explore(page: Rows, pool: Rows, *, drawn_for: int, epsilon: float, dice: random.Random) -> Page:
    """Draw for the last places of a full page, each from its own share of the pool, dealt like cards.

    With n in its share, each of them has the odds epsilon / n there, and the candidate by merit 1 - epsilon.
    """
    places, explored, propensity = page.copy(), np.zeros(len(page), dtype=np.bool_), np.ones(len(page))
    if not drawn_for or len(pool) < drawn_for:
        return Page(places, propensity, explored, page, NO_ROWS)
    first = len(page) - drawn_for
    explored[first:] = True
    for share, place in enumerate(range(first, len(page))):
        own = pool[share::drawn_for]
        drawn, luck = dice.random() < epsilon, dice.random()
        if drawn:
            places[place] = own[int(luck * len(own))]
        propensity[place] = epsilon / len(own) if drawn else 1.0 - epsilon
    return Page(places, propensity, explored, page, pool)
