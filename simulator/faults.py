"""The road from the world to the log, with the faults its dials ask for; it counts every message and every fault."""

import heapq
import json
import math
from collections import deque
from statistics import NormalDist

from msgspec import structs

from events import schema as s
from events.clock import utc
from events.log import EventWriter
from events.topics import ENGAGEMENT, encode, key_of, kind_of, topic_of
from simulator.config import WorldConfig
from simulator.report import WorldReport
from simulator.streams import number_of, stream, uniform

REPEATED_AFTER = 40  # a duplicate follows within this many later messages
HOUR_S = 3_600.0


class Road:
    """Sends events by rising event time and applies faults; `report` is the phase being counted.

    In a paired world a fault is a matter of the event it hits, of its viewer's phone or of the hour, and of nothing else.
    """

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._rng = stream(config.seed, "faults")
        self._late: list[tuple[float, int, s.Event]] = []  # (when to send, number, event)
        self._held = 0
        self._again: deque[tuple[int, s.Event]] = deque()
        self._sent = 0
        opens = config.start_at.timestamp() + config.outage_at_h * HOUR_S
        self._outage = (opens, opens + config.outage_h * HOUR_S)
        self.last_at = 0.0  # event time of the newest event sent, epoch seconds
        self.report = WorldReport()

    def send(self, writer: EventWriter, event: s.Event) -> None:
        """Send an event now, or hold it back when it is to be late; send what was held back until this event's time."""
        at = event.event_at.timestamp()
        self.release(writer, until=at)
        self.report.events[kind_of(event)] += 1
        due = self._arrives_at(event, at)
        event = self._by_its_own_clock(event)
        if due > at:
            self._held += 1
            heapq.heappush(self._late, (due, self._held, event))
        else:
            self._put(writer, event)

    def _arrives_at(self, event: s.Event, at: float) -> float:
        """Epoch second at which the event reaches the log."""
        due = at
        if self._hit(self._config.late_share, "late", event):
            self.report.late += 1
            due = at + self._config.late_by_s * self._within(0.5, 1.5, "late by", event)
        awake = self._wakes_at(event, at)
        if awake > due:
            self.report.held["screen off"] += 1
            due = awake
        if self._outage[0] <= due < self._outage[1]:
            self.report.held["outage"] += 1
            due = self._outage[1]
        return due

    def _wakes_at(self, event: s.Event, at: float) -> float:
        """When the viewer's phone sends again: some hours have a sleep in them, of exponential length."""
        share = self._config.screen_off_share
        if share == 0 or topic_of(event).name != ENGAGEMENT:
            return at
        seed, who, wakes = self._config.seed, number_of(key_of(event)), at
        for hour in (int(at // HOUR_S) - 1, int(at // HOUR_S)):
            if uniform(seed, "screen off", who, hour) < share:
                asleep = hour * HOUR_S + HOUR_S * uniform(seed, "screen off at", who, hour)
                lasts = min(
                    -self._config.screen_off_s * math.log1p(-uniform(seed, "screen off for", who, hour)), HOUR_S
                )
                wakes = max(wakes, asleep + lasts) if asleep <= at < asleep + lasts else wakes
        return wakes

    def _by_its_own_clock(self, event: s.Event) -> s.Event:
        """The event with the time that the viewer's device, whose clock may be wrong, gives it."""
        if self._config.skew_share == 0 or topic_of(event).name != ENGAGEMENT:
            return event
        who = number_of(key_of(event))
        if uniform(self._config.seed, "skewed", who) >= self._config.skew_share:
            return event
        self.report.held["skewed"] += 1
        off = self._config.skew_s * NormalDist().inv_cdf(uniform(self._config.seed, "skewed by", who) or 0.5)
        return structs.replace(event, event_at=utc(round(event.event_at.timestamp() + off, 3)))

    def release(self, writer: EventWriter, *, until: float) -> None:
        """Send the held events that are due by epoch second `until`."""
        while self._late and self._late[0][0] <= until:
            self._put(writer, heapq.heappop(self._late)[2])

    def _put(self, writer: EventWriter, event: s.Event) -> None:
        self._count(event)
        self.last_at = max(self.last_at, event.event_at.timestamp())
        writer.send(event)
        if self._hit(self._config.broken_share, "broken", event):
            self._count(event)
            self.report.broken += 1
            writer.send_raw(topic_of(event).name, key=key_of(event).encode(), value=self._broken(event))
        if self._hit(self._config.duplicate_share, "duplicate", event):
            after = self._whole(1, REPEATED_AFTER, "duplicate after", event)
            self._again.append((self._sent + after, event))
        while self._again and self._again[0][0] <= self._sent:
            self._repeat(writer)

    def finish(self, writer: EventWriter) -> None:
        """Send every duplicate that still waits; held events stay until their time."""
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

    def _hit(self, share: float, fault: str, event: s.Event) -> bool:
        """Draws only where the dial is above 0: a fault that is off moves no draw of the others."""
        if share == 0:
            return False
        return (self._of(fault, event) if self._config.paired else self._rng.random()) < share

    def _within(self, low: float, high: float, fault: str, event: s.Event) -> float:
        share = self._of(fault, event) if self._config.paired else float(self._rng.random())
        return low + (high - low) * share

    def _whole(self, low: int, high: int, fault: str, event: s.Event) -> int:
        """A whole number from `low` up to, not including, `high`."""
        if self._config.paired:
            return low + int((high - low) * self._of(fault, event))
        return int(self._rng.integers(low, high))

    def _of(self, fault: str, event: s.Event) -> float:
        return uniform(self._config.seed, fault, number_of(event.event_id))

    def _broken(self, event: s.Event) -> bytes:
        """A copy that cannot be read: cut in half, with an unknown field, or with a time that is no time."""
        value, kind = encode(event), self._whole(0, 3, "how broken", event)
        if kind == 0:
            return value[: len(value) // 2]
        body = json.loads(value)
        if kind == 1:
            return json.dumps(body | {"not_in_the_schema": 1}).encode()
        return json.dumps(body | {"event_at": ["not a time"]}).encode()
