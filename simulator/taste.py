"""The truth: how much a viewer wants a thing at a moment, and what follows from it as probabilities."""

import math
from dataclasses import dataclass, field

import numpy as np

from simulator.catalogue import Room, Thing
from simulator.dials import Pulls
from simulator.population import Vector, Viewer

FRESH_S = 86_400.0  # freshness fades by e a day
OTHER_LANGUAGE = {"VIDEO": -1.2, "AUDIO": -0.6, "LIVE": -2.0}
HALF_LIFE_S = 5 * 86_400.0
TIRED_HALF_LIFE_S = 2 * 3_600.0
DEMO_PULLS = Pulls()


@dataclass
class Memory:
    """What a viewer has done so far: whom she follows, what she has played, how often she watched whom."""

    follows: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    watches: dict[str, tuple[float, float]] = field(default_factory=dict)  # creator -> (decayed count, as of epoch s)
    plays: dict[int, tuple[float, float]] = field(default_factory=dict)  # category -> (decayed count, as of epoch s)

    def watched(self, creator_id: str, at: float) -> float:
        """Watches of a creator, each counting half after five days."""
        count, since = self.watches.get(creator_id, (0.0, at))
        return float(count * 0.5 ** (max(at - since, 0.0) / HALF_LIFE_S))

    def tired(self, category: int, at: float) -> float:
        """Plays of a category, each counting half after two hours."""
        count, since = self.plays.get(category, (0.0, at))
        return float(count * 0.5 ** (max(at - since, 0.0) / TIRED_HALF_LIFE_S))

    def watch(self, thing: Thing, at: float) -> None:
        """Remember a play or an entry."""
        self.watches[thing.creator_id] = (self.watched(thing.creator_id, at) + 1.0, at)
        category = thing.topics[0][0]
        self.plays[category] = (self.tired(category, at) + 1.0, at)
        if thing.content_type != "LIVE":
            self.seen.add(thing.item_id)


@dataclass(frozen=True)
class Mood:
    """What the moment adds to a viewer's utilities, in log-odds."""

    bonus: Vector  # [categories]
    by_type: dict[str, float]  # content type -> added
    by_status: dict[str, float]  # what a host does -> added
    click_gap: float = 0.0  # off the click alone, not off what follows


def utility(
    viewer: Viewer, memory: Memory, thing: Thing, at: float, *, pulls: Pulls = DEMO_PULLS, mood: Mood | None = None
) -> float:
    """How much the viewer wants the thing at epoch second `at`; about -2 (does not) to 4 (very much)."""
    kind = thing.content_type
    out = pulls.match * sum(weight * float(viewer.interest[category]) for category, weight in thing.topics)
    out += pulls.quality * thing.quality
    out += pulls.style * float(np.dot(viewer.style, thing.style)) * math.sqrt(len(viewer.style))
    out += viewer.type_taste[kind]
    out += 0.0 if thing.language == viewer.language else pulls.other_language * OTHER_LANGUAGE[kind]
    again = pulls.repeat_live if kind == "LIVE" else pulls.repeat_media
    out += min(again * math.log1p(memory.watched(thing.creator_id, at)), pulls.repeat_most)
    out += pulls.followed if thing.creator_id in memory.follows else 0.0
    if kind == "LIVE":
        out += pulls.live
    else:
        out += pulls.fresh * math.exp(-max(at - thing.from_at, 0.0) / FRESH_S)
        out -= pulls.seen if thing.item_id in memory.seen else 0.0
    return out if mood is None else out + _of_the_moment(mood, thing, at)


def _of_the_moment(mood: Mood, thing: Thing, at: float) -> float:
    out = sum(weight * float(mood.bonus[category]) for category, weight in thing.topics)
    out += mood.by_type.get(thing.content_type, 0.0)
    if isinstance(thing, Room):
        out += thing.lift(at) + mood.by_status.get(thing.doing(at), 0.0)
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
