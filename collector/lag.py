"""How far the stores are behind the log, and waiting until they are not."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.config import COLLECTED
from collector.errors import NotStored
from events.kafka import end_offsets
from events.log import Place
from features.store import OnlineStore
from features.tables import DeltaTables

POLL_S = 0.25


@dataclass(frozen=True)
class PlaceLag:
    """One partition: where it ends, and the next offset each store wants (`applied` None when no store was asked)."""

    place: Place
    end: int
    stored: int
    applied: int | None

    @property
    def behind(self) -> int:
        """Messages that the slower store does not have."""
        return max(self.end - min(self.stored, self.end if self.applied is None else self.applied), 0)


def lag(
    bootstrap: str, tables: DeltaTables, *, store: OnlineStore | None = None, topics: Sequence[str] = COLLECTED
) -> list[PlaceLag]:
    """Every partition of `topics`, sorted; with `store` the online progress counts too."""
    return _lag(end_offsets(bootstrap, topics), tables, store)


def _lag(ends: dict[Place, int], tables: DeltaTables, store: OnlineStore | None) -> list[PlaceLag]:
    applied = None if store is None else store.progress()
    stored: dict[Place, int] = {}
    for name in {place.topic for place in ends}:
        numbers = [place.partition for place in ends if place.topic == name]
        stored |= {Place(name, n): offset for n, offset in tables.progress(name, partitions=numbers).items()}
    return [
        PlaceLag(place, end, stored.get(place, 0), None if applied is None else applied.get(place, 0))
        for place, end in sorted(ends.items())
    ]


def wait_until_stored(
    bootstrap: str, tables: DeltaTables, *, store: OnlineStore | None = None, topics: Sequence[str] = COLLECTED,
    timeout_s: float = 120.0, report: Callable[[int, int], object] = lambda done, total: None,
) -> list[PlaceLag]:  # fmt: skip
    """Wait until the stores have everything the log held when called; `report(done, total)` in messages; NotStored in time.

    `tables` must not be the instance a collector writes with: asking for progress takes over its offsets.
    """
    ends = end_offsets(bootstrap, topics)
    begun = time.monotonic()
    while True:
        places = _lag(ends, tables, store)
        behind, total = sum(one.behind for one in places), sum(ends.values())
        report(total - behind, total)
        if behind == 0:
            return places
        if time.monotonic() - begun > timeout_s:
            raise NotStored(
                f"{behind} of {total} messages are not in the stores after {timeout_s:g} s: is the collector running?"
            )
        time.sleep(POLL_S)
