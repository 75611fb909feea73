"""Events of many rows in one line by event time, without holding them all."""

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from events.schema import Event

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PUBLISHED_BEFORE = timedelta(days=1)  # catalogue and profiles lie this long before a set's first row
STEP = timedelta(seconds=1)  # the n-th engagement of a row happens n steps after its impression


def chronological(groups: Iterable[list[Event]]) -> Iterator[Event]:
    """Merge groups of events into event-time order; a group's first event is its earliest, groups come by that time.

    Equal times keep the order in which the groups, and the events in them, came.
    """
    waiting: list[tuple[datetime, int, Event]] = []
    count = 0
    for group in groups:
        while waiting and waiting[0][0] < group[0].event_at:
            yield heapq.heappop(waiting)[2]
        for event in group:
            heapq.heappush(waiting, (event.event_at, count, event))
            count += 1
    while waiting:
        yield heapq.heappop(waiting)[2]
