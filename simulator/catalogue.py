"""What can be recommended: media items, published before and during the run, and the live rooms of hosts."""

from dataclasses import dataclass, field

import numpy as np

from simulator.config import WorldConfig
from simulator.population import CATEGORIES, STYLES, Creator, Host, Vector, local_hour
from simulator.streams import stream

DAY = 86_400.0
STATUSES = ("chat", "song", "dance", "game", "pk")


@dataclass(frozen=True)
class Thing:
    """The truth of one media item or room. `topics` is (category, weight) pairs; `appeal` draws clicks, not watching."""

    item_id: str
    content_type: str
    creator_id: str
    language: str
    topics: tuple[tuple[int, float], ...]
    style: Vector
    quality: float
    appeal: float
    from_at: float  # published, or opened
    duration_s: float | None = None  # of media

    @property
    def category(self) -> str:
        """The main category's word."""
        return CATEGORIES[self.topics[0][0]]

    @property
    def tags(self) -> tuple[str, ...]:
        """Words of all its categories, the main one first."""
        return tuple(CATEGORIES[category] for category, _ in self.topics)


@dataclass(frozen=True)
class Room(Thing):
    """One broadcast of a host, until `until_at`; `status` says from when the host does what."""

    until_at: float = 0.0
    close_lost: bool = False
    status: tuple[tuple[float, str], ...] = field(default=())


def make_item(rng: np.random.Generator, creator: Creator, number: int, at: float) -> Thing:
    """One media item of a creator: four in five in her main category."""
    own, other = (creator.category, creator.second) if rng.random() < 0.8 else (creator.second, creator.category)
    audio = rng.random() < (0.7 if CATEGORIES[own] in ("music", "talk", "news") else 0.15)
    median_s = 210.0 if audio else 90.0
    return Thing(
        item_id=f"media-{number:06d}", content_type="AUDIO" if audio else "VIDEO", creator_id=creator.creator_id,
        language=creator.language, topics=((own, 0.8), (other, 0.2)),
        style=0.8 * creator.style + 0.6 * rng.normal(size=STYLES) / np.sqrt(STYLES),
        quality=creator.quality + float(rng.normal(0.0, 0.4)), appeal=float(rng.normal(0.0, 0.4)), from_at=at,
        duration_s=round(float(min(max(rng.lognormal(np.log(median_s), 0.7), 10.0), 1_800.0)), 1),
    )  # fmt: skip


class Library:
    """The media there are: who is shown now, and the next publications and removals."""

    def __init__(self, config: WorldConfig, creators: list[Creator]) -> None:
        self._creators = creators
        self._rng = stream(config.seed, "catalogue")
        self._config = config
        self.things: dict[str, Thing] = {}
        self.shown: list[str] = []
        weights = self._rng.lognormal(0.0, 1.0, size=len(creators))  # some publish far more than others
        self._weights = weights / weights.sum()

    def publish(self, at: float) -> Thing:
        """A new item at epoch second `at`."""
        creator = self._creators[int(self._rng.choice(len(self._creators), p=self._weights))]
        thing = make_item(self._rng, creator, len(self.things), at)
        self.things[thing.item_id] = thing
        self.shown.append(thing.item_id)
        return thing

    def remove(self) -> str:
        """Take a shown item away for good."""
        return self.shown.pop(int(self._rng.integers(len(self.shown))))

    def before_start(self, start: float) -> list[Thing]:
        """The catalogue of the first moment, published over the day before."""
        ages = np.sort(self._rng.uniform(600.0, DAY - 600.0, size=self._config.items))[::-1]
        return [self.publish(round(start - float(age), 3)) for age in ages]

    def changes(self, start: float, end: float) -> list[tuple[float, str]]:
        """Times in [start, end) at which something is published or removed, in order."""
        hours = (end - start) / 3_600.0
        out = []
        for what, rate in (("publish", self._config.publications_per_hour), ("remove", self._config.removals_per_hour)):
            count = int(self._rng.poisson(rate * hours))
            out += [(round(float(at), 3), what) for at in self._rng.uniform(start, end, size=count)]
        return sorted(out)


def rooms_of_day(config: WorldConfig, host: Host, day: int, *, not_before: float) -> list[Room]:
    """A host's broadcasts that start on UTC day `day` (days since 1970), none before `not_before`."""
    rng = stream(config.seed, "rooms", host.index, day)
    shift = local_hour(0.0, host.language)  # local hour at midnight UTC
    out: list[Room] = []
    for slot in sorted((slot - shift) % 24.0 for slot in host.slots):
        starts = day * DAY + slot * 3_600.0 + float(rng.normal(0.0, 900.0))
        lasts = float(min(max(rng.lognormal(np.log(2.2 * 3_600.0), 0.5), 1_200.0), 6 * 3_600.0))
        comes, lost = rng.random() < host.faithful, rng.random() < config.lost_close_share
        status = _statuses(rng, starts, starts + lasts)
        appeal, quality = float(rng.normal(0.0, 0.3)), host.quality + float(rng.normal(0.0, 0.2))
        if not comes or starts < not_before:
            continue
        out.append(
            Room(
                item_id=f"room-{host.index:04d}-{day}-{len(out)}", content_type="LIVE", creator_id=host.creator_id,
                language=host.language, topics=((host.category, 0.8), (host.second, 0.2)), style=host.style,
                quality=quality, appeal=appeal, from_at=round(starts, 3), until_at=round(starts + lasts, 3),
                close_lost=bool(lost), status=status,
            )
        )  # fmt: skip
        not_before = starts + lasts + 1_800.0
    return out


def _statuses(rng: np.random.Generator, starts: float, ends: float) -> tuple[tuple[float, str], ...]:
    """What the host does from when on: chat first, then something else every half hour or so."""
    out, at, doing = [(round(starts, 3), "chat")], starts, "chat"
    while (at := at + float(rng.uniform(900.0, 2_400.0))) < ends - 60.0:
        doing = str(rng.choice([one for one in STATUSES if one != doing]))
        out.append((round(at, 3), doing))
    return tuple(out)
