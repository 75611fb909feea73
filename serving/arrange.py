"""From ranked candidates to a page: creators capped, content types mixed, and a few places explored with known odds."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from serving.feed import Pick, Scored


@dataclass(frozen=True)
class ArrangeConfig:
    """How a page is laid out."""

    creator_cap: int = 3  # items of one creator on a page; exceeded only when nothing else is left
    preference: float = 0.1  # merit added to the viewer's preferred content type
    explored_share: float = 0.1  # the last share of a page's places may be explored, at least one
    epsilon: float = 0.2  # probability that such a place shows a uniformly drawn candidate


def arrange(
    ranked: Sequence[Scored],
    *,
    limit: int,
    diversity: float,
    preferred: str,
    config: ArrangeConfig,
    dice: random.Random,
) -> list[Pick]:
    """At most `limit` picks, best first.

    Each place takes the candidate with the highest merit less `diversity` (0..1) times the share its content type has of the
    page so far.
    """
    page, rest = _page(ranked, limit=limit, diversity=diversity, preferred=preferred, config=config)
    return _explore(page, rest, limit=limit, config=config, dice=dice)


def _page(
    ranked: Sequence[Scored], *, limit: int, diversity: float, preferred: str, config: ArrangeConfig
) -> tuple[list[Scored], list[Scored]]:
    """The page by merit, and the candidates that are left. Within a type order is by merit, so only the heads compete."""
    queues: dict[str, list[Scored]] = defaultdict(list)
    for one in sorted(ranked, key=lambda one: (one.merit, one.item_id)):
        queues[one.content_type].append(one)
    page: list[Scored] = []
    capped: list[Scored] = []
    types: Counter[str] = Counter()
    creators: Counter[str] = Counter()
    while len(page) < limit and queues:
        worth = {
            kind: queue[-1].merit
            + config.preference * (kind == preferred)
            - diversity * types[kind] / max(len(page), 1)
            for kind, queue in queues.items()
        }
        kind = max(worth, key=lambda kind: (worth[kind], kind))
        best = queues[kind].pop()
        if not queues[kind]:
            del queues[kind]
        if creators[best.creator_id] >= config.creator_cap:
            capped.append(best)
            continue
        page.append(best)
        types[kind] += 1
        creators[best.creator_id] += 1
    room = limit - len(page)
    left = [one for queue in queues.values() for one in queue]
    return page + capped[:room], capped[room:] + left


def _explore(
    page: Sequence[Scored], rest: Sequence[Scored], *, limit: int, config: ArrangeConfig, dice: random.Random
) -> list[Pick]:
    """Draw for the last places. With n to draw from, each has the odds epsilon / n there, the candidate by merit 1 - epsilon.

    The draw is without replacement, and which places are drawn for is decided place by place, so by symmetry the odds are the
    same at every explored place. At most one candidate a creator, and none of a creator with a full share, can be drawn.
    """
    pool = _pool(page, rest, config.creator_cap)
    places = max(1, round(limit * config.explored_share))
    first = len(page) - places if len(page) == limit else len(page)  # a page that is not full shows all there is
    if len(pool) < places or config.epsilon <= 0:
        first = len(page)
    drawn = iter(dice.sample(pool, places) if first < len(page) else ())
    picks = []
    for place, scored in enumerate(page):
        if place < first:
            picks.append(Pick(scored=scored, propensity=1.0))
            continue
        candidate = next(drawn)
        if dice.random() < config.epsilon:
            picks.append(Pick(scored=candidate, propensity=config.epsilon / len(pool)))
        else:
            picks.append(Pick(scored=scored, propensity=1.0 - config.epsilon))
    return picks


def _pool(page: Sequence[Scored], rest: Sequence[Scored], cap: int) -> list[Scored]:
    shown = Counter(one.creator_id for one in page)
    best: dict[str, Scored] = {}
    for one in sorted(rest, key=lambda one: (-one.merit, one.item_id)):
        if shown[one.creator_id] < cap:
            best.setdefault(one.creator_id, one)
    return list(best.values())
