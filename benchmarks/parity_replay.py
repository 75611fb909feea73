"""Events as a collector meets them: out of order, twice, late, with collectors that die; and what it then says online.

Each event is moved by less than the lateness bound, a few are sent twice and a few too late. They come in slices; after each
slice both stores have all of it, and its end is a moment at which the online store and the tables can be compared.
"""

import random
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from collector.config import COLLECTED, CollectorConfig
from collector.report import Report
from collector.run import Collector
from events.clock import SetClock
from events.log import MemoryLog, MemoryReader, MemoryWriter
from events.schema import Event
from features.definitions import BY_ENTITY, Entity
from features.snapshot import look_in
from features.state import touched, values
from features.store import OnlineStore
from features.tables import DeltaTables

# Displacement as a share of the lateness bound: of most events, of those out of order, of those too late.
SOON, ON_TIME, LATE = (0.0, 0.002), (0.0, 0.9), (1.2, 2.0)
LATELY = 400  # last messages: up to half of the entities asked for are of these, the busy ones rather
DEATHS = ("before the flush", "after the flush", "after the commit")
UNKNOWN = "nobody-knows-me"


@dataclass(frozen=True, kw_only=True)
class Disorder:
    """How disturbed the log is, and how the collectors read it."""

    seed: int = 7
    moments: int = 8
    partitions: int = 3
    lateness_s: float = 3_600.0  # event time
    unordered_share: float = 0.5
    duplicate_share: float = 0.05
    late_share: float = 0.01
    death_share: float = 0.2  # polls after which the collector dies
    poll_limit: int = 1_000
    ahead_s: float = 3 * 3_600.0  # a moment is read up to that long after its watermark


class Moment(NamedTuple):
    """Both stores after a slice: ingestion time reached and newest event applied, both epoch seconds."""

    seen_at: float
    watermark: float


class Asked(NamedTuple):
    """An entity read online: as of `at`, with what had been ingested by `seen_at`."""

    entity: Entity
    id: str
    at: float
    seen_at: float
    online: Mapping[str, Any]


@dataclass
class Replay:
    """A log, the two stores behind it, and collectors that come and go."""

    lake: Path
    store: OnlineStore
    disorder: Disorder = field(default_factory=Disorder)
    restarts: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = MemoryLog(self.disorder.partitions)
        self.clock = SetClock(0.0)
        self.sent = 0
        self._chance = random.Random(self.disorder.seed)
        self._ids: dict[Entity, set[str]] = {entity: set() for entity in Entity}
        self._lately: dict[Entity, list[str]] = {}

    def moments(self, events: Sequence[Event]) -> Iterator[Moment]:
        """Send the events slice by slice; after each yield what both stores have then."""
        arriving = self._arriving(events)
        size = -(-len(arriving) // self.disorder.moments)
        writer = MemoryWriter(self.log)
        for start in range(0, len(arriving), size):
            some = arriving[start : start + size]
            for _, event in some:
                writer.send(event)
            self._lately = _entities(event for _, event in some[-LATELY:])
            for entity, ids in _entities(event for _, event in some).items():
                self._ids[entity].update(ids)
            self.sent += len(some)
            self.clock.set(some[-1][0])
            self._collect()
            watermark = self.store.watermark()
            yield Moment(self.clock.now(), watermark if watermark is not None else 0.0)

    def ask(self, moment: Moment, each: int) -> Iterator[Asked]:
        """Read that many entities of each kind at random times from the moment on, one of them unknown to all."""
        for entity in Entity:
            chosen = [*self._chosen(self._lately[entity], each // 2), *self._chosen(self._ids[entity], each)]
            chosen = [*list(dict.fromkeys(chosen))[: each - 1], UNKNOWN]
            states = self.store.read(entity, chosen)
            for one, state in zip(chosen, states, strict=True):
                at = moment.watermark + self._chance.choice((0.0, 1.0, self.disorder.ahead_s)) * self._chance.random()
                look = look_in(self.store, state)
                yield Asked(entity, one, at, moment.seen_at, values(entity, state, at, look))

    def _chosen(self, ids: Iterable[str], count: int) -> list[str]:
        """Some of them; who is there often is chosen more often."""
        found = sorted(ids)
        return self._chance.sample(found, min(count, len(found)))

    def _arriving(self, events: Sequence[Event]) -> list[tuple[float, Event]]:
        """(when it is sent, event) in the order of sending."""
        chance, disorder = self._chance, self.disorder
        out: list[tuple[float, Event]] = []
        for event in events:
            copies = 2 if chance.random() < disorder.duplicate_share else 1
            for _ in range(copies):
                low, high = ON_TIME if chance.random() < disorder.unordered_share else SOON
                low, high = LATE if chance.random() < disorder.late_share else (low, high)
                out.append((event.event_at.timestamp() + chance.uniform(low, high) * disorder.lateness_s, event))
        return sorted(out, key=lambda pair: pair[0])

    def _collect(self) -> None:
        """Read to the end with collectors that die now and then; the last one leaves both stores complete."""
        work, deaths = self._collector(), 0
        while records := work.poll() or work.poll():  # the first poll opens partitions
            work.take(records)
            if deaths < 4 and self._chance.random() < self.disorder.death_share:
                self._die(work, self._chance.choice(DEATHS))
                deaths += 1
                work = self._collector()
            elif self._chance.random() < 0.3:
                work.flush()
                work.commit()
        work.flush()
        work.commit()
        self._count(work.report)

    def _die(self, work: Collector, when: str) -> None:
        """Leave a collector where it stands: nothing that it held in memory is seen again."""
        if when == "after the flush":
            work.flush()
        if when == "after the commit":
            work.commit()
        self._count(work.report)
        self.restarts += 1

    def _collector(self) -> Collector:
        config = CollectorConfig(
            lateness_s=self.disorder.lateness_s, poll_limit=self.disorder.poll_limit, trending_every_s=1e12,
            trending_event_s=1e12, compact_every=10**9,
        )  # fmt: skip
        return Collector(
            MemoryReader(self.log, COLLECTED), MemoryWriter(self.log), DeltaTables(self.lake), self.store,
            config=config, clock=self.clock, stop=threading.Event(), report=Report(),
        )  # fmt: skip

    def _count(self, report: Report) -> None:
        for name in ("stored", "late", "duplicate"):
            self.counts[name] = self.counts.get(name, 0) + report.total(name)


def _entities(events: Iterable[Event]) -> dict[Entity, list[str]]:
    """The ids that events are about, by kind, as often as they are."""
    out: dict[Entity, list[str]] = {entity: [] for entity in Entity}
    for event in events:
        for entity, one in touched(event):
            out[entity].append(one)
    return out


class Mismatch(NamedTuple):
    """One value that differs."""

    asked: Asked
    feature: str
    online: Any
    other: Any


def compare(asked: Asked, other: Mapping[str, Any]) -> Iterator[Mismatch]:
    """The features of one entity that the other side says differently."""
    for feature in BY_ENTITY[asked.entity]:
        left, right = asked.online[feature.name], other[feature.name]
        if not agree(left, right):
            yield Mismatch(asked, feature.name, left, right)


def agree(left: Any, right: Any) -> bool:
    """Whole numbers equal, other numbers within 1e-6 of each other, lists and words equal, maps value by value."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(agree(left[name], right[name]) for name in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return list(left) == list(right)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        near = float(left).is_integer() and float(right).is_integer()
        return left == right if near else abs(left - right) <= 1e-6
    return bool(left == right)
