"""The truth: how much a viewer wants a thing at a moment, and what follows from it as probabilities."""

import math
from dataclasses import dataclass, field

import numpy as np

from simulator.catalogue import Thing
from simulator.population import Viewer

MATCH, QUALITY, STYLE, FRESH, LIVE_NOW = 1.6, 0.4, 0.3, 0.2, 0.8
FRESH_S = 86_400.0  # freshness fades by e a day
OTHER_LANGUAGE = {"VIDEO": -1.2, "AUDIO": -0.6, "LIVE": -2.0}
REPEAT = {"VIDEO": 0.25, "AUDIO": 0.25, "LIVE": 0.9}  # times log(1 + watches of the creator, decayed)
REPEAT_MOST = 2.0
FOLLOWED, SEEN = 0.6, -2.5
HALF_LIFE_S = 5 * 86_400.0


@dataclass
class Memory:
    """What a viewer has done so far: whom she follows, what she has played, how often she watched whom."""

    follows: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    watches: dict[str, tuple[float, float]] = field(default_factory=dict)  # creator -> (decayed count, as of epoch s)

    def watched(self, creator_id: str, at: float) -> float:
        """Watches of a creator, each counting half after five days."""
        count, since = self.watches.get(creator_id, (0.0, at))
        return float(count * 0.5 ** (max(at - since, 0.0) / HALF_LIFE_S))

    def watch(self, thing: Thing, at: float) -> None:
        """Remember a play or an entry."""
        self.watches[thing.creator_id] = (self.watched(thing.creator_id, at) + 1.0, at)
        if thing.content_type != "LIVE":
            self.seen.add(thing.item_id)


def utility(viewer: Viewer, memory: Memory, thing: Thing, at: float) -> float:
    """How much the viewer wants the thing at epoch second `at`; about -2 (does not) to 4 (very much)."""
    kind = thing.content_type
    out = MATCH * sum(weight * float(viewer.interest[category]) for category, weight in thing.topics)
    out += QUALITY * thing.quality + STYLE * float(np.dot(viewer.style, thing.style)) * math.sqrt(len(viewer.style))
    out += viewer.type_taste[kind]
    out += 0.0 if thing.language == viewer.language else OTHER_LANGUAGE[kind]
    out += min(REPEAT[kind] * math.log1p(memory.watched(thing.creator_id, at)), REPEAT_MOST)
    out += FOLLOWED if thing.creator_id in memory.follows else 0.0
    if kind == "LIVE":
        out += LIVE_NOW
    else:
        out += FRESH * math.exp(-max(at - thing.from_at, 0.0) / FRESH_S)
        out += SEEN if thing.item_id in memory.seen else 0.0
    return out


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), safe for large |x|."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def seen_probability(position: int, bias: float) -> float:
    """Probability that position (from 0) of a feed is looked at."""
    return float((position + 1) ** -bias)


def click_probability(wanted: float, thing: Thing, offset: float) -> float:
    """Probability of a click on a thing that was looked at: utility plus its appeal, less the offset, as log-odds."""
    return sigmoid(wanted + thing.appeal - offset)


def delight(wanted: float) -> float:
    """How pleased the viewer is once she is in, 0 to 1: appeal no longer counts."""
    return sigmoid(1.2 * (wanted - 0.4))
