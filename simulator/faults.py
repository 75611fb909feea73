"""The road from the world to the log, with the faults its dials ask for; it counts every message and every fault."""

import heapq
import json
from collections import deque

from events import schema as s
from events.log import EventWriter
from events.topics import encode, key_of, kind_of, topic_of
from simulator.config import WorldConfig
from simulator.report import WorldReport
from simulator.streams import stream

REPEATED_AFTER = 40  # a duplicate follows within this many later messages


class Road:
    """Sends events by rising event time and applies faults; `report` is the phase being counted."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._rng = stream(config.seed, "faults")
        self._late: list[tuple[float, int, s.Event]] = []  # (when to send, number, event)
        self._again: deque[tuple[int, s.Event]] = deque()
        self._sent = 0
        self.last_at = 0.0  # event time of the newest event sent, epoch seconds
        self.report = WorldReport()

    def send(self, writer: EventWriter, event: s.Event) -> None:
        """Send an event now, or hold it back when it is to be late; send what was held back until this event's time."""
        at = event.event_at.timestamp()
        self.release(writer, until=at)
        self.report.events[kind_of(event)] += 1
        if self._hit(self._config.late_share):
            self.report.late += 1
            due = at + self._config.late_by_s * float(self._rng.uniform(0.5, 1.5))
            heapq.heappush(self._late, (due, self._sent + len(self._late), event))
        else:
            self._put(writer, event)

    def release(self, writer: EventWriter, *, until: float) -> None:
        """Send the late events that are due by epoch second `until`."""
        while self._late and self._late[0][0] <= until:
            self._put(writer, heapq.heappop(self._late)[2])

    def _put(self, writer: EventWriter, event: s.Event) -> None:
        self._count(event)
        self.last_at = max(self.last_at, event.event_at.timestamp())
        writer.send(event)
        if self._hit(self._config.broken_share):
            self._count(event)
            self.report.broken += 1
            writer.send_raw(topic_of(event).name, key=key_of(event).encode(), value=self._broken(event))
        if self._hit(self._config.duplicate_share):
            self._again.append((self._sent + int(self._rng.integers(1, REPEATED_AFTER)), event))
        while self._again and self._again[0][0] <= self._sent:
            self._repeat(writer)

    def finish(self, writer: EventWriter) -> None:
        """Send every duplicate that still waits; late events stay until their time."""
        while self._again:
            self._repeat(writer)

    def _repeat(self, writer: EventWriter) -> None:
        event = self._again.popleft()[1]
        self._count(event)
        self.report.duplicates += 1
        writer.send(event)

    def _count(self, event: s.Event) -> None:
        self._sent += 1
        self.report.produced[topic_of(event).name] += 1

    def _hit(self, share: float) -> bool:
        """Draws only where the dial is above 0: a fault that is off moves no draw of the others."""
        return share > 0 and bool(self._rng.random() < share)

    def _broken(self, event: s.Event) -> bytes:
        """A copy that cannot be read: cut in half, with an unknown field, or with a time that is no time."""
        value, kind = encode(event), int(self._rng.integers(3))
        if kind == 0:
            return value[: len(value) // 2]
        body = json.loads(value)
        if kind == 1:
            return json.dumps(body | {"not_in_the_schema": 1}).encode()
        return json.dumps(body | {"event_at": ["not a time"]}).encode()
