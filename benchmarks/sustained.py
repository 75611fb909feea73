"""A load in a process of its own: viewers on a platform that stands still but for them, so many events a second."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event as Flag
from typing import Any

from events import schema as s
from events.clock import WallClock, utc
from events.kafka import KafkaWriter

ITEMS, CREATORS, VIEWERS, ROOMS = 20_000, 2_000, 10_000, 200
BEAT_S, PULSE_S = 30.0, 0.01  # between a room's heartbeats; between two bursts of the load
LIVE_SHARE = 0.3  # of the viewers' events


def catalogue(now: float) -> Iterator[s.Event]:
    """Everything that is there before anybody watches: media published, rooms opened."""
    for number in range(ITEMS):
        yield s.MediaPublished(
            event_id=f"publish-{number}", event_at=utc(now - number), item_id=f"media-{number}",
            creator_id=f"creator-{number % CREATORS}", content_type="VIDEO", category=f"category-{number % 20}",
            tags=(f"tag-{number % 50}",), language="en", duration_s=60.0,
        )  # fmt: skip
    for number in range(ROOMS):
        yield s.RoomOpened(
            event_id=f"open-{number}", event_at=utc(now), streamer_id=f"host-{number}", room_id=f"room-{number}",
            category=f"category-{number % 20}",
        )  # fmt: skip


def happening(pick: random.Random, event_id: str, now: float) -> s.Event:
    """One event of a viewer; some items, rooms and viewers are met far more often than others."""
    at, user = utc(now), f"viewer-{int(VIEWERS * pick.random() ** 2)}"
    if pick.random() < LIVE_SHARE:
        room = int(ROOMS * pick.random() ** 2)
        live = pick.choices((s.WatchHeartbeat, s.RoomEntered, s.CommentPosted), (6, 2, 1))[0]
        return live(event_id=event_id, event_at=at, user_id=user, room_id=f"room-{room}", streamer_id=f"host-{room}")
    item = int(ITEMS * pick.random() ** 3)
    media = pick.choices((s.MediaStarted, s.MediaCompleted, s.MediaLiked, s.MediaSkipped), (4, 2, 1, 1))[0]
    return media(
        event_id=event_id, event_at=at, user_id=user, item_id=f"media-{item}", creator_id=f"creator-{item % CREATORS}"
    )


def _run(bootstrap: str, rate: float, seed: int, stop: Flag, sent: Any) -> None:
    """Send `rate` events a second until told to stop; what it cannot send in time it does not make up for later."""
    writer, pick, clock = KafkaWriter(bootstrap), random.Random(seed), WallClock()
    begun, due, beats = time.monotonic(), 0.0, 0
    while not stop.is_set():
        passed = time.monotonic() - begun
        due = max(due, rate * (passed - 1.0))  # a second at most is caught up
        now = clock.now()
        while due < rate * passed:
            due += 1
            sent.value += 1
            writer.send(happening(pick, f"load-{sent.value}", now))
        while beats < ROOMS * passed / BEAT_S:
            room, beats = beats % ROOMS, beats + 1
            writer.send(
                s.RoomHeartbeat(
                    event_id=f"beat-{beats}", event_at=utc(now), streamer_id=f"host-{room}", room_id=f"room-{room}"
                )
            )
        time.sleep(PULSE_S)
    writer.close()


@contextmanager
def sustained(bootstrap: str, *, rate: float, seed: int) -> Iterator[Any]:
    """The load runs while this is open; yields the count of viewers' events sent so far, as `.value`."""
    context = multiprocessing.get_context("spawn")
    stop, sent = context.Event(), context.Value("q", 0, lock=False)
    process = context.Process(target=_run, args=(bootstrap, rate, seed, stop, sent))
    process.start()
    try:
        yield sent
    finally:
        stop.set()
        process.join(60.0)
