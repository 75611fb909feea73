"""Before the first release: most places show something drawn at random, so that the first model learns from taste.

A feed that only trends logs clicks on what was already popular, and every model trained on that log loses to popularity. So
while no release was ever in traffic, each place is drawn with known odds; the log then also measures retrieval without the
feed's own bias. A release whose model server is gone falls back to trending alone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from events.schema import Explored
from serving.item_columns import LIVE, ItemColumns, Rows

EXPLORE = "explore"


class Draw(NamedTuple):
    """One place of a page: item row, source, place among the candidates (None: drawn from outside), odds and dice there."""

    row: int
    source: str
    place: int | None
    propensity: float | None
    explored: Explored | None = None


@dataclass(frozen=True)
class BootstrapConfig:
    """How much is drawn, and from where."""

    share: float = 0.8  # probability that a place is drawn rather than filled by what trends
    live: float = 0.25  # probability that a drawn place shows a room that is live now; else media


def explore(
    page: Sequence[Draw], eligible: Rows, columns: ItemColumns, *, limit: int, config: BootstrapConfig, dice: random.Random
) -> list[Draw]:  # fmt: skip
    """The page with each place, drawn for or left as it was; a page that is short is filled by draws up to `limit`.

    Draws are without replacement among what the page does not show, uniform within rooms and within media. So an item's odds
    are the same at every drawn place while neither kind can have run out: the kind's probability over the number of its kind.
    Where one can, they are less by how probable that is; None where the page may then have become shorter before that place.
    """
    rows = np.setdiff1d(eligible, [draw.row for draw in page])
    live = columns.kind(rows) == LIVE
    shares = {True: config.live, False: 1.0 - config.live}
    decks = {kind: _Deck(rows[live == kind], share, dice) for kind, share in shares.items()}
    small = {kind: deck for kind, deck in decks.items() if deck.size < limit}  # may run out
    out: list[Draw] = []
    shifted = False  # whether a place before may have stayed empty
    for place in range(limit):
        kept = page[place] if place < len(page) else None
        share = 1.0 if kept is None else config.share
        empty = {kind: deck.may_be_empty for kind, deck in small.items()}
        dry = sum(shares[kind] * chance for kind, chance in empty.items())
        shifted |= kept is None and dry > 0.0
        for deck in small.values():
            deck.may_have_been_drawn(share)
        stays = None
        if kept is not None and kept.propensity is not None:
            stays = min(kept.propensity * (1.0 - share + share * dry), 1.0)  # rounding must not pass it
        if kept is not None and dice.random() >= share:
            out.append(kept._replace(propensity=stays))
            continue
        kind = dice.random() < config.live
        drawn = decks[kind].draw()
        if drawn is not None:
            odds = share * shares[kind] * (1.0 - empty.get(kind, 0.0)) / decks[kind].size
            out.append(Draw(drawn, EXPLORE, None, None if shifted else odds))
        elif kept is not None:
            out.append(kept._replace(propensity=stays))
    return out


class _Deck:
    """Rows drawn without replacement: a shuffle of which only what is drawn is done (Fisher and Yates)."""

    def __init__(self, rows: Rows, share: float, dice: random.Random) -> None:
        self._rows, self._dice, self._moved = rows, dice, dict[int, int]()
        self.size, self._left = len(rows), len(rows)
        self.share = share  # probability that a drawn place is of this kind
        self._asked = 0  # places so far, each of which may have drawn
        self._drawn = np.eye(1, self.size)[0]  # how probable it is that so many were drawn, while some are left

    @property
    def may_be_empty(self) -> float:
        """How probable it is that none is left; exactly 0 where no dice could have drawn them all."""
        return 1.0 - float(self._drawn.sum()) if self.share and self._asked >= self.size else 0.0

    def may_have_been_drawn(self, share: float) -> None:
        """One more place is drawn with that probability, from this deck or the other."""
        self._asked += 1
        more = self._drawn * (share * self.share)
        self._drawn -= more
        self._drawn[1:] += more[:-1]

    def draw(self) -> int | None:
        """The next row; None when there are no more."""
        if not self._left:
            return None
        at, last = self._dice.randrange(self._left), self._left - 1
        found = self._moved.get(at, at)
        self._moved[at] = self._moved.get(last, last)
        self._left = last
        return int(self._rows[found])
