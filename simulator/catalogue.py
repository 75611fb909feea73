"""What can be recommended: media items, published before and during the run, and the live rooms of hosts."""

from dataclasses import dataclass, field

import numpy as np

from simulator.config import WorldConfig
from simulator.population import CATEGORIES, DAY, STATUSES, STYLES, Creator, Host, Vector, local_hour
from simulator.streams import stream, uniform

LONGEST_S = 6 * 3_600.0  # of a broadcast


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
    highlights: tuple[tuple[float, float, float], ...] = ()  # (from, until, added utility)

    def lift(self, at: float) -> float:
        """What the highlights of epoch second `at` add to everybody's utility."""
        return sum(size for start, end, size in self.highlights if start <= at < end)

    def doing(self, at: float) -> str:
        """What the host does at epoch second `at`; before the opening, what she begins with."""
        now = self.status[0][1]
        for since, status in self.status:
            if since > at:
                break
            now = status
        return now


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
        self.version = 0  # rises with every publication and removal
        weights = self._rng.lognormal(0.0, 1.0, size=len(creators))  # some publish far more than others
        self._weights = weights / weights.sum()

    def publish(self, at: float) -> Thing:
        """A new item at epoch second `at`."""
        creator = self._creators[int(self._rng.choice(len(self._creators), p=self._weights))]
        thing = make_item(self._rng, creator, len(self.things), at)
        self.things[thing.item_id] = thing
        self.shown.append(thing.item_id)
        self.version += 1
        return thing

    def remove(self) -> str:
        """Take a shown item away for good."""
        self.version += 1
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


def rooms_of_day(config: WorldConfig, host: Host, day: int, *, not_before: float, quality: float = 0.0) -> list[Room]:
    """A host's broadcasts that start on UTC day `day` (days since 1970), none before `not_before`.

    `quality` is how far the host's has drifted.
    """
    if uniform(config.seed, "days off", host.index, (day + 3) % 7) < config.change.days_off:  # 1970 began on a Thursday
        return []
    rng = stream(config.seed, "rooms", host.index, day)
    shift = local_hour(0.0, host.language)  # local hour at midnight UTC
    out: list[Room] = []
    for slot in sorted((slot - shift) % 24.0 for slot in host.slots):
        starts = day * DAY + slot * 3_600.0 + float(rng.normal(0.0, 900.0))
        lasts = float(min(max(rng.lognormal(np.log(config.stream_median_s), config.stream_sigma), 1_200.0), LONGEST_S))
        comes, lost = rng.random() < host.faithful, rng.random() < config.lost_close_share
        status = _statuses(rng, starts, starts + lasts)
        appeal, of_day = float(rng.normal(0.0, 0.3)), host.quality + quality + float(rng.normal(0.0, 0.2))
        if not comes or starts < not_before or starts + lasts > host.until_at:
            continue
        out.append(
            Room(
                item_id=f"room-{host.index:04d}-{day}-{len(out)}", content_type="LIVE", creator_id=host.creator_id,
                language=host.language, topics=((host.category, 0.8), (host.second, 0.2)), style=host.style,
                quality=of_day, appeal=appeal, from_at=round(starts, 3), until_at=round(starts + lasts, 3),
                close_lost=bool(lost), status=status, highlights=_highlights(config, host, starts, starts + lasts),
            )
        )  # fmt: skip
        not_before = starts + lasts + 1_800.0
    return out


def _highlights(config: WorldConfig, host: Host, starts: float, ends: float) -> tuple[tuple[float, float, float], ...]:
    """The moments of a broadcast that everybody likes: 2 to 6 minutes each."""
    if config.change.highlights_per_hour == 0:
        return ()
    rng = stream(config.seed, "highlights", host.index, int(starts))
    count = int(rng.poisson(config.change.highlights_per_hour * (ends - starts) / 3_600.0))
    begins = np.sort(rng.uniform(starts, ends, size=count)).tolist()
    lasts, sizes = rng.uniform(120.0, 360.0, size=count).tolist(), rng.uniform(0.5, 1.5, size=count).tolist()
    return tuple(
        (at, min(at + long, ends), config.change.highlight_size * size)
        for at, long, size in zip(begins, lasts, sizes, strict=True)
    )


def _statuses(rng: np.random.Generator, starts: float, ends: float) -> tuple[tuple[float, str], ...]:
    """What the host does from when on: chat first, then something else every half hour or so."""
    out, at, doing = [(round(starts, 3), "chat")], starts, "chat"
    while (at := at + float(rng.uniform(900.0, 2_400.0))) < ends - 60.0:
        doing = str(rng.choice([one for one in STATUSES if one != doing]))
        out.append((round(at, 3), doing))
    return tuple(out)
