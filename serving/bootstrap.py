"""Before the first release: most places show something drawn at random, so that the first model learns from taste.

A feed that only trends logs clicks on what was already popular, and every model trained on that log loses to popularity. So
while no release was ever in traffic, each place is drawn with known odds; the log then also measures retrieval without the
feed's own bias. A release whose model server is gone falls back to trending alone.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.catalogue import Item
from serving.feed import Pick, Scored

EXPLORE = "explore"


@dataclass(frozen=True)
class BootstrapConfig:
    """How much is drawn, and from where."""

    share: float = 0.8  # probability that a place is drawn rather than filled by what trends
    live: float = 0.25  # probability that a drawn place shows a room that is live now; else media


def explore(
    page: Sequence[Pick], eligible: Iterable[Item], *, limit: int, config: BootstrapConfig, dice: random.Random
) -> list[Pick]:
    """The page with each place, drawn for or left as it was; a page that is short is filled by draws up to `limit`.

    Draws are without replacement among what the page does not show, uniform within rooms and within media, so an item has the
    same odds at every drawn place: the kind's probability over the number of its kind.
    """
    shown = {pick.scored.item_id for pick in page}
    rooms: list[Item] = []
    media: list[Item] = []
    for item in sorted(eligible, key=lambda item: item.item_id):
        if item.item_id not in shown:
            (rooms if item.is_room else media).append(item)
    odds = {True: config.live / max(len(rooms), 1), False: (1.0 - config.live) / max(len(media), 1)}
    dice.shuffle(rooms)
    dice.shuffle(media)
    out: list[Pick] = []
    for place in range(limit):
        kept = page[place] if place < len(page) else None
        if kept is not None and dice.random() >= config.share:
            out.append(Pick(scored=kept.scored, propensity=(kept.propensity or 1.0) * (1.0 - config.share)))
            continue
        live = dice.random() < config.live
        pool = rooms if live else media
        if pool:
            share = config.share if kept is not None else 1.0
            out.append(Pick(scored=_drawn(pool.pop()), propensity=share * odds[live]))
        elif kept is not None:
            out.append(Pick(scored=kept.scored, propensity=None))
    return out


def _drawn(item: Item) -> Scored:
    return Scored(
        item_id=item.item_id, content_type=item.content_type, creator_id=item.creator_id, source=EXPLORE, score=0.0,
        merit=0.0, scores={},
    )  # fmt: skip
