"""One partition of the log as the collector reads it: where it stands, its watermark, the event ids it has seen.

Late and duplicate are decided from the partition's own records alone, in offset order. So the answer does not depend on how
fast other partitions are read, and reading again after a crash gives the same answer.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from events.log import Place, Record
from events.schema import Event

BUCKETS = 8  # pieces of the lateness bound in which event ids are forgotten


class Taken(NamedTuple):
    """An event that counts, with its partition and what was decided about it."""

    lane: "Lane"
    record: Record
    event: Event
    at: float
    old: bool  # older than the lateness bound: its twin may have left the window, the table is asked at the commit
    ingested_at: float


class Window:
    """Event ids met within the lateness bound, each with the offset and the event time of its first record."""

    def __init__(self, lateness_s: float) -> None:
        self._width = lateness_s / BUCKETS
        self._ids: dict[str, tuple[int, float]] = {}
        self._buckets: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def has_earlier(self, event_id: str, offset: int, *, since: float) -> bool:
        """Whether the id was met at an earlier offset with an event time of `since` or later."""
        held = self._ids.get(event_id)
        return held is not None and held[0] < offset and held[1] >= since

    def add(self, event_id: str, offset: int, at: float) -> None:
        """Remember an id."""
        self._ids[event_id] = (offset, at)
        self._buckets.setdefault(int(at // self._width), []).append(event_id)

    def forget(self, before: float) -> None:
        """Drop ids older than `before`, a bucket at a time."""
        for bucket in [one for one in self._buckets if (one + 1) * self._width <= before]:
            for event_id in self._buckets.pop(bucket):
                if self._ids.get(event_id, (0, before))[1] < before:
                    self._ids.pop(event_id, None)


@dataclass(eq=False)
class Lane:
    """A partition while this collector holds it."""

    place: Place
    stored: int  # next offset for the offline table: rows below are there
    advanced: int | None  # next offset as the online store has it, None when it has none
    next: int  # next offset to read
    lateness_s: float
    window: Window
    watermark: float | None = None
    rows: list[Taken] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # duplicates and dead letters not committed yet
    open: bool = True

    def judge(self, event_id: str, offset: int, at: float) -> tuple[bool, bool]:
        """(duplicate, old) of an event; remembers it and raises the watermark."""
        horizon = float("-inf") if self.watermark is None else self.watermark - self.lateness_s
        if self.window.has_earlier(event_id, offset, since=horizon):
            return True, at < horizon
        if at < horizon:
            return False, True
        self.window.add(event_id, offset, at)
        if self.watermark is None or at > self.watermark:
            self.watermark = at
            self.window.forget(at - self.lateness_s)
        return False, False
