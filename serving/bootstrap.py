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

    Draws are without replacement among what the page does not show, uniform within rooms and within media, so an item has the
    same odds at every drawn place: the kind's probability over the number of its kind.
    """
    rows = np.setdiff1d(eligible, [draw.row for draw in page])
    live = columns.kind(rows) == LIVE
    pools = {True: _Deck(rows[live], dice), False: _Deck(rows[~live], dice)}
    odds = {True: config.live / max(pools[True].size, 1), False: (1.0 - config.live) / max(pools[False].size, 1)}
    out: list[Draw] = []
    for place in range(limit):
        kept = page[place] if place < len(page) else None
        if kept is not None and dice.random() >= config.share:
            out.append(kept._replace(propensity=(kept.propensity or 1.0) * (1.0 - config.share)))
            continue
        kind = dice.random() < config.live
        drawn = pools[kind].draw()
        if drawn is not None:
            share = config.share if kept is not None else 1.0
            out.append(Draw(drawn, EXPLORE, None, share * odds[kind]))
        elif kept is not None:
            out.append(kept._replace(propensity=None))
    return out


class _Deck:
    """Rows drawn without replacement: a shuffle of which only what is drawn is done (Fisher and Yates)."""

    def __init__(self, rows: Rows, dice: random.Random) -> None:
        self._rows, self._dice, self._moved = rows, dice, dict[int, int]()
        self.size, self._left = len(rows), len(rows)

    def draw(self) -> int | None:
        """The next row; None when there are no more."""
        if not self._left:
            return None
        at, last = self._dice.randrange(self._left), self._left - 1
        found = self._moved.get(at, at)
        self._moved[at] = self._moved.get(last, last)
        self._left = last
        return int(self._rows[found])
