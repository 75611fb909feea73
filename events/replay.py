"""Sends recorded events to the log in event-time order, at any speed; run it with `livefeed events replay`."""

import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from events.clock import Clock, WallClock
from events.errors import EventsError
from events.log import EventWriter
from events.schema import Event

REPORT_EVERY = 1_000  # events between two reports
FLUSH_EVERY = 5_000  # events between two flushes: what a crash can cost, and what a resumed replay repeats
FLUSH_BEFORE_S = 0.5  # a pause of this many wall seconds or more is preceded by a flush
# Called with how many events were sent so far and the event time of the last one.
Report = Callable[[int, datetime], None]


class BadReplay(EventsError):
    """A replay that cannot be run as asked: a speed that is not above zero, or events out of order."""


def replay(
    events: Iterable[Event],
    writer: EventWriter,
    *,
    speed: float | None = None,
    report: Report | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Send `events` (by rising event time) and return how many; they are durable when this returns.

    `speed` is event seconds a wall second (60 plays a minute in a second); None sends as fast as the log takes them. On
    Ctrl-C what was sent is made durable first. BadReplay for a speed of zero or less and for an event out of order.
    """
    if speed is not None and not 0 < speed < math.inf:
        raise BadReplay(f"replay speed {speed} is not allowed; give a number above 0, or none for as fast as possible")
    pace = _Pace(speed, clock or WallClock(), sleep) if speed is not None else None
    sent, last = 0, None
    try:
        for event in events:
            if last is not None and event.event_at < last:
                raise BadReplay(
                    f"event {event.event_id} of {event.event_at} comes after one of {last}; order by event time"
                )
            last = event.event_at
            if pace is not None:
                pace.wait(last, writer)
            writer.send(event)
            sent += 1
            if sent % FLUSH_EVERY == 0:
                writer.flush()
            if report is not None and sent % REPORT_EVERY == 0:
                report(sent, last)
    except (KeyboardInterrupt, BadReplay):
        writer.flush()
        raise
    writer.flush()
    if report is not None and last is not None:
        report(sent, last)
    return sent


class _Pace:
    """Holds event time to `speed` times wall time, from the first event on; late events catch up, never skip."""

    def __init__(self, speed: float, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._start: tuple[datetime, float] | None = None

    def wait(self, at: datetime, writer: EventWriter) -> None:
        """Sleep until event time `at` is due."""
        if self._start is None:
            self._start = (at, self._clock.now())
        first_at, first_wall = self._start
        due = first_wall + (at - first_at).total_seconds() / self._speed
        ahead = due - self._clock.now()
        if ahead >= FLUSH_BEFORE_S:
            writer.flush()
            ahead = due - self._clock.now()
        if ahead > 0:
            self._sleep(ahead)
