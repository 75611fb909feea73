"""A night on tape: messages of every topic in a fixed order, each event sent twice and out of order, some late, some broken.

The same config gives the same bytes in the same order. An event is displaced by less than the lateness bound, so that only
those meant to be late are; a duplicate lies within the bound of its twin.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from events import schema as s
from events.errors import MalformedEvent
from events.log import Header
from events.topics import decode, encode, key_of, topic_of
from simulator.config import WorldConfig
from simulator.feed import RandomFeed
from simulator.world import World

PHASE_H = 0.5  # event-time hours played at a time
ON_TIME, LATE = (0.0, 0.9), (1.2, 2.0)  # displacement as a share of the lateness bound


class Message(NamedTuple):
    """One message to send; `due` orders the tape (epoch seconds of event time at which it is sent)."""

    due: float
    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True, kw_only=True)
class TapeConfig:
    """How much there is on the tape, and how disturbed it is."""

    events: int = 5_000  # distinct ones, at least; each is sent twice
    lateness_s: float = 900.0  # the collector's bound, event-time seconds
    late_share: float = 0.02  # events sent after the bound
    broken_share: float = 0.01  # broken copies beside events
    seed: int = 7


class _Ear:
    """An EventWriter that only remembers what it was given."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._at = 0.0

    def send(self, event: s.Event) -> None:
        """Remember an event at its event time."""
        self._at = event.event_at.timestamp()
        self.heard.append(Message(self._at, topic_of(event).name, key_of(event).encode(), encode(event)))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Remember bytes at the time of the event before them."""
        self.heard.append(Message(self._at, topic, key or b"", value))

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""


def record(config: TapeConfig) -> list[Message]:
    """Play a small world until it has sent enough, and lay every message on the tape twice."""
    world = World(
        WorldConfig(
            seed=config.seed, viewers=80, hosts=12, creators=12, items=120, publications_per_hour=12.0,
            removals_per_hour=2.0, sessions_per_day=12.0, feed_limit=4, broken_share=config.broken_share,
        )
    )  # fmt: skip
    ear = _Ear()
    feed = RandomFeed(world.on, seed=config.seed, writer=ear)
    while len(ear.heard) < config.events:
        world.advance(PHASE_H, ear, feed)
    return displaced(ear.heard, config)


def displaced(heard: Sequence[Message], config: TapeConfig) -> list[Message]:
    """Two copies of each message, each moved by its own time, in the order in which they are sent."""
    chance = random.Random(config.seed)
    out: list[Message] = []
    for message in heard:
        low, high = LATE if chance.random() < config.late_share else ON_TIME
        out += (message._replace(due=message.due + chance.uniform(low, high) * config.lateness_s) for _ in range(2))
    return sorted(out, key=lambda message: message.due)


def readable_ids(tape: Sequence[Message]) -> dict[str, set[str]]:
    """The event ids that must be stored, by topic: those of messages that are events."""
    out: dict[str, set[str]] = {}
    for message in tape:
        try:
            out.setdefault(message.topic, set()).add(decode(message.topic, message.value).event_id)
        except MalformedEvent:
            continue
    return out


def unreadable(tape: Sequence[Message]) -> set[tuple[str, bytes]]:
    """Topic and bytes of the messages that must become dead letters."""
    out: set[tuple[str, bytes]] = set()
    for message in tape:
        try:
            decode(message.topic, message.value)
        except MalformedEvent:
            out.add((message.topic, message.value))
    return out
