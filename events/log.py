"""The event log's protocols and their memory version; events/kafka.py is the real one and passes the same contract suite."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.schema import Event
from events.topics import encode, key_of, topic_of

Header = tuple[str, bytes]


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """One message as it lies in the log; `value` is the producer's bytes, untouched."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Sequence[Header] = ()

    @property
    def place(self) -> Place:
        """The partition it lies in."""
        return Place(self.topic, self.partition)


class EventWriter(Protocol):
    """Appends to the log; sends are buffered and become durable at `flush`."""

    def send(self, event: Event) -> None:
        """Append an event to its topic under its key."""
        ...

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Append bytes as they are (faults of the world, dead letters)."""
        ...

    def flush(self) -> None:
        """Wait until everything sent is durable; LogUnavailable when it is not in time."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class EventReader(Protocol):
    """Reads assigned partitions in offset order, from where it was told to."""

    def assignment(self) -> frozenset[Place]:
        """The partitions this reader holds now (may be empty until the first polls)."""
        ...

    def seek(self, place: Place, offset: int) -> None:
        """Read `place` from `offset` on."""
        ...

    def poll(self, *, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, in order within each place; empty when none came in time."""
        ...

    def stay(self) -> None:
        """Remain the reader of its partitions while nothing can be taken in: nothing is read, no position moves."""
        ...

    def end_offsets(self) -> dict[Place, int]:
        """The offset after the last record, by assigned place."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


@dataclass
class MemoryLog:
    """A log in memory with Kafka's order guarantees: one sequence a partition, equal keys on one partition."""

    partitions: int = 4
    records: dict[Place, list[Record]] = field(default_factory=dict)

    def append(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> Record:
        """Add one message and return it with its offset."""
        place = Place(topic, zlib.crc32(key or b"") % self.partitions)
        lane = self.records.setdefault(place, [])
        record = Record(topic, place.partition, len(lane), key, value, tuple(headers))
        lane.append(record)
        return record


class MemoryWriter:
    """EventWriter over a MemoryLog; durable at once."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def send(self, event: Event) -> None:
        """Append an event to its topic under its key."""
        self._log.append(topic_of(event).name, key_of(event).encode(), encode(event))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Append bytes as they are."""
        self._log.append(topic, key, value, headers)

    def flush(self) -> None:
        """Nothing waits in memory."""

    def close(self) -> None:
        """Nothing to let go."""


class MemoryReader:
    """EventReader over a MemoryLog, holding every partition of its topics."""

    def __init__(self, log: MemoryLog, topics: Sequence[str]) -> None:
        self._log = log
        self._next = {Place(topic, number): 0 for topic in topics for number in range(log.partitions)}

    def assignment(self) -> frozenset[Place]:
        """Every partition of the topics."""
        return frozenset(self._next)

    def seek(self, place: Place, offset: int) -> None:
        """Read `place` from `offset` on."""
        self._next[place] = offset

    def poll(self, *, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records that are there now; never waits."""
        out: list[Record] = []
        for place, start in self._next.items():
            batch = self._log.records.get(place, [])[start : start + limit - len(out)]
            self._next[place] = start + len(batch)
            out.extend(batch)
        return out

    def stay(self) -> None:
        """Nothing to lose."""

    def end_offsets(self) -> dict[Place, int]:
        """The offset after the last record, by place."""
        return {place: len(self._log.records.get(place, ())) for place in self._next}

    def close(self) -> None:
        """Nothing to leave."""
