"""What item-to-item recall is measured on: MovieLens, media and rooms of a small world, and a made log of any size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from events import schema as s
from events.datasets import movielens
from events.log import Header
from simulator import RandomFeed, World
from simulator.worlds import named
from training.interactions import DAY_S

# A small world: 55,000 starts of media and 28,000 entries of rooms in 18 days, half a minute of playing.
SIZE: dict[str, Any] = {
    "viewers": 2_000, "hosts": 300, "creators": 100, "items": 600, "sessions_per_day": 6.0, "click_offset": 1.5,
    "live_tab_share": 0.5, "publications_per_hour": 1.0, "removals_per_hour": 0.1,
}  # fmt: skip
HOURS = 432.0
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WatchLog:
    """What was watched, in time order, [n] each: viewers and items count from 0, `at` is epoch seconds."""

    viewer: Ints
    item: Ints
    at: npt.NDArray[np.float64]
    liked: npt.NDArray[np.bool_]  # a choice; the rest was only watched
    viewers: int
    items: int


def log_of(rows: Sequence[tuple[float, str, str, bool]]) -> WatchLog:
    """Rows (time, viewer, item, liked) as a log."""
    ordered = sorted(rows)
    at, viewer, item, liked = (np.array(column) for column in zip(*ordered, strict=True))
    (people, who), (things, what) = (np.unique(column, return_inverse=True) for column in (viewer, item))
    return WatchLog(who, what, at.astype(np.float64), liked.astype(np.bool_), len(people), len(things))


def movielens_log(folder: Path) -> WatchLog:
    """Every rating as watched, 4 stars and more as liked; BadDataset."""
    liked, seen = set(), []
    for event in movielens.read(folder):
        if isinstance(event, s.MediaLiked):
            liked.add(event.request_id)
        elif isinstance(event, s.MediaStarted):
            seen.append(event)
    rows = [(one.event_at.timestamp(), one.user_id, one.item_id, one.request_id in liked) for one in seen]
    return log_of(rows)


class _Watched:
    """An EventWriter that keeps who started or entered what."""

    def __init__(self) -> None:
        self.media: list[tuple[float, str, str, bool]] = []
        self.hosts: list[tuple[float, str, str, bool]] = []

    def send(self, event: s.Event) -> None:
        """Keep starts of media, and entries of rooms under their host."""
        if isinstance(event, s.MediaStarted):
            self.media.append((event.event_at.timestamp(), event.user_id, event.item_id, True))
        elif isinstance(event, s.RoomEntered):
            self.hosts.append((event.event_at.timestamp(), event.user_id, event.streamer_id, True))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Drop the bytes."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""


def world_logs(seed: int, *, hours: float = HOURS) -> tuple[WatchLog, WatchLog]:
    """Media and hosts of a world whose pages are drawn at random: what is watched is taste, not what a feed had chosen."""
    world, kept = World(replace(named("media-first"), seed=seed, **SIZE)), _Watched()
    world.advance(hours, kept, RandomFeed(world.on, seed=seed))
    return log_of(kept.media), log_of(kept.hosts)


def made_log(rows: int, items: int, *, seed: int, crowd: int = 200) -> WatchLog:
    """A log with crowds: items by Zipf's law, seven of ten choices from two crowds of `crowd` items that a viewer has."""
    draw = np.random.default_rng(seed)
    viewers, crowds = max(rows // 20, 1), max(items // crowd, 1)
    activity = draw.lognormal(0.0, 1.2, viewers)
    viewer = draw.choice(viewers, rows, p=activity / activity.sum())
    own = draw.integers(crowds, size=(viewers, 2))[viewer, draw.integers(2, size=rows)]
    within = np.minimum(draw.zipf(1.3, rows) - 1, crowd - 1) * crowds + own
    anywhere = np.minimum((items ** draw.random(rows)).astype(np.int64), items) - 1
    item = np.where(draw.random(rows) < 0.7, np.minimum(within, items - 1), anywhere)
    at = np.sort(draw.random(rows)) * 90 * DAY_S
    return WatchLog(viewer, item, at, np.ones(rows, np.bool_), viewers, items)
