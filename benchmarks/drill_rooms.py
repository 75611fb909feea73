"""Rooms that come and go within seconds, and whether an answer ever holds one that ended more than a second before.

Real Kafka, Redis and collector; hosts open rooms that last one to six seconds and are closed, or whose close is lost, so that
they end with their lease. Two processes, each with a proxy's parts and its background threads, answer as fast as they can;
what an answer shows is held against the moment the close was handed to the log. The control answers without reading the page
again and without the list of live rooms: it must show dead rooms, or the drill would see none.
"""

import math
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.feed import percentile
from benchmarks.own_parts import own_parts
from events import schema as s
from events.clock import WallClock, utc
from events.kafka import KafkaWriter
from events.log import Header
from features.definitions import LEASE_S, Entity
from features.redis import RedisStore
from features.state import EntityState
from serving.attempt import FeedConfig
from serving.feed import FEATURES_UNAVAILABLE, FeedRequest
from serving.models import MemoryModels
from serving.pipeline import recommend
from serving.wiring import BACKGROUND_TIMEOUT_S, assemble
from settings import Settings

WORKERS = 2
AT_ONCE, LIFE_S = 100, (1.0, 6.0)  # rooms that are live, and how long
LOST_SHARE = 0.25  # of the closes
STEP_S = 0.02
FILL_S = 5.0  # until rooms are there and some have ended
MOST_S = 900.0  # one run of answers
DEAD_AFTER_S = 1.0
MEDIA = 100
CONTROL_SHARE, CONTROL_S = 0.02, 5.0  # of the answers, and at least so long: rooms must have time to be dead
CLOCK = WallClock()
Say = Callable[[str], None]


@dataclass
class Hosts:
    """Opens rooms and lets them end; `ended` says when (monotonic seconds), `lags` how long Redis did not know of a close."""

    writer: KafkaWriter
    pick: random.Random
    store: RedisStore
    live: dict[str, float] = field(default_factory=dict)  # room -> when it will be closed
    ended: dict[str, float] = field(default_factory=dict)
    opened: int = 0
    lags: list[float] = field(default_factory=list)
    _watched: str = ""  # a room that was closed and that Redis may not know of yet

    def step(self) -> None:
        """Close what is due, and open as many as are missing."""
        now = time.monotonic()
        for room in [one for one, due in self.live.items() if due <= now]:
            del self.live[room]
            if room not in self.ended:
                self.ended[room] = time.monotonic()
                self._send(s.RoomClosed, room, CLOCK.now())
                self._watched = self._watched or room
        while len(self.live) < AT_ONCE:
            self._open(now)
        self.writer.flush()
        self._look()

    def _look(self) -> None:
        if self._watched and not self.store.read(Entity.ITEM, [self._watched])[0].get("shown", [0, True])[1]:
            self.lags.append(time.monotonic() - self.ended[self._watched])
            self._watched = ""

    def _open(self, now: float) -> None:
        room, life = f"room-{self.opened}", self.pick.uniform(*LIFE_S)
        self.opened += 1
        self.live[room] = now + life
        lost = self.pick.random() < LOST_SHARE
        # Of a room whose close will be lost, the last heartbeat was so long ago that its lease ends then.
        self._send(s.RoomOpened, room, CLOCK.now() + (life - LEASE_S if lost else 0.0), category="short")
        if lost:
            self.ended[room] = now + life

    def _send(self, kind: type[Any], room: str, at: float, **more: Any) -> None:
        host = room.replace("room", "host")
        self.writer.send(
            kind(event_id=f"{kind.__name__}-{room}", event_at=utc(at), streamer_id=host, room_id=room, **more)
        )


class Blind(RedisStore):
    """The store as who never looks again sees it: a room is as first read, and stays on the list."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self._rooms: set[str] = set()
        self._first: dict[str, EntityState] = {}

    def live_rooms(self, now: float) -> list[str]:
        """Every room that was ever listed."""
        self._rooms.update(super().live_rooms(now))
        return sorted(self._rooms)

    def leases(self, room_ids: Sequence[str]) -> list[float | None]:
        """No room ever ends."""
        return [math.inf] * len(room_ids)

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Items as they were read first."""
        if entity is not Entity.ITEM:
            return super().read(entity, ids)
        for one, state in zip(ids, super().read(entity, ids), strict=True):
            if state:
                self._first.setdefault(one, state)
        return [self._first.get(one, {}) for one in ids]


class Nowhere:
    """A log that keeps nothing: the impressions of so many answers would fill the memory."""

    def send(self, event: s.Event) -> None:
        """Nothing."""

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Seen(NamedTuple):
    """What one process answered: when it last showed each room (monotonic seconds, the machine's), and while it had Redis."""

    answers: int
    empty: int
    without_store: int
    shown: Mapping[str, float]
    shown_with_store: Mapping[str, float]


def answer(settings: Settings, number: int, answers: int, blind: bool, least_s: float = 0.0) -> Seen:
    """Answer so many requests, for `least_s` at least, through a proxy's parts of this process's own."""
    config = FeedConfig()
    share = config.deadlines
    again: Any = (
        Blind(settings.redis, timeout_s=BACKGROUND_TIMEOUT_S)
        if blind
        else RedisStore(settings.redis, timeout_s=config.budget_s * share.recheck, altogether=True)
    )
    proxy = assemble(
        RedisStore(settings.redis, timeout_s=config.budget_s * share.hydrate, altogether=True),
        Nowhere, MemoryModels(), releases=settings.releases,
        spool=settings.var / f"spool-{number}-{blind}.jsonl", config=config, recheck_store=again,
        background_store=again if blind else RedisStore(settings.redis, timeout_s=BACKGROUND_TIMEOUT_S),
    )  # fmt: skip
    proxy.start()
    shown: dict[str, float] = {}
    with_store: dict[str, float] = {}
    count = empty = without = 0
    begun = time.monotonic()
    try:
        while (count < answers or time.monotonic() < begun + least_s) and time.monotonic() < begun + MOST_S:
            count += 1
            kind = s.ContentType.LIVE if count % 2 else None
            feed = recommend(
                FeedRequest(
                    request_id=f"{number}-{count}", user_id=f"viewer-{count % 1_000}", now=CLOCK.now(), limit=10,
                    content_type=kind,
                ),
                proxy.parts,
            )  # fmt: skip
            at = time.monotonic()
            empty += not feed.items
            rooms = dict.fromkeys((item.item_id for item in feed.items if item.live), at)
            shown |= rooms
            if FEATURES_UNAVAILABLE in feed.degraded:
                without += 1
            else:
                with_store |= rooms
    finally:
        proxy.close()
    return Seen(count, empty, without, shown, with_store)


def figures(
    settings: Settings, seed: int, say: Say, *, answers: int
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """The answers' figures, and the control's as the baseline (also among the figures, for its bar)."""
    with own_parts(settings.model_copy(update={"clock": "wall"}), ["kafka", "redis", "collector"], say=say) as (_, own):
        with coming_and_going(own, seed) as hosts:
            time.sleep(FILL_S)
            begun = time.monotonic()
            seen = _run(own, answers, blind=False)
            took = time.monotonic() - begun
            say(f"{sum(one.answers for one in seen)} answers in {took:.0f} s")
            control = _run(own, int(answers * CONTROL_SHARE), blind=True)
        late = _after_the_end([one.shown for one in seen], hosts.ended)
        answering = _after_the_end([one.shown_with_store for one in seen], hosts.ended)
        blind = _after_the_end([one.shown for one in control], hosts.ended)
    found: dict[str, float | None] = {
        "room_answers": float(sum(one.answers for one in seen)),
        "room_answers_per_s": sum(one.answers for one in seen) / took,
        "room_answers_empty": float(sum(one.empty for one in seen)),
        "room_answers_without_store": float(sum(one.without_store for one in seen)),
        "rooms_opened": float(hosts.opened),
        "rooms_shown": float(len({room for one in seen for room in one.shown})),
        "rooms_shown_after_their_end": float(sum(one > 0 for one in late)),
        "room_end_max_s": max(late, default=None),
        "room_end_p99_s": percentile(late, 0.99),
        "dead_rooms_shown": float(sum(one > DEAD_AFTER_S for one in late)),
        "dead_rooms_shown_with_store": float(sum(one > DEAD_AFTER_S for one in answering)),
        "collector_lag_p99_s": percentile(hosts.lags, 0.99),
        "collector_lag_max_s": max(hosts.lags, default=None),
    }
    baseline: dict[str, float | None] = {
        "control_answers": float(sum(one.answers for one in control)),
        "control_dead_rooms_shown": float(sum(one > DEAD_AFTER_S for one in blind)),
        "control_room_end_max_s": max(blind, default=None),
    }
    return found | baseline, baseline


def _run(own: Settings, answers: int, *, blind: bool) -> list[Seen]:
    """Both processes at once."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        least_s = CONTROL_S if blind else 0.0
        asked = [pool.submit(answer, own, n, -(-answers // WORKERS), blind, least_s) for n in range(WORKERS)]
        return [one.result() for one in asked]


def _after_the_end(shown: Sequence[Mapping[str, float]], ended: Mapping[str, float]) -> list[float]:
    """Seconds from each room's end to when any process last showed it; negative when that was before."""
    last: dict[str, float] = {}
    for one in shown:
        for room, at in one.items():
            last[room] = max(at, last.get(room, at))
    return [at - ended[room] for room, at in last.items() if room in ended]


@contextmanager
def coming_and_going(own: Settings, seed: int) -> Iterator[Hosts]:
    """Hosts at work, from a thread, over some media that stay."""
    writer, stop = KafkaWriter(own.kafka), threading.Event()
    for n in range(MEDIA):
        writer.send(
            s.MediaPublished(
                event_id=f"publish-{n}", event_at=utc(CLOCK.now() - n), item_id=f"item-{n}", creator_id=f"creator-{n}",
                content_type="VIDEO", category="long",
            )
        )  # fmt: skip
    hosts = Hosts(writer, random.Random(seed), RedisStore(own.redis))

    def run() -> None:
        while not stop.wait(STEP_S):
            hosts.step()

    thread = threading.Thread(target=run, name="hosts", daemon=True)
    thread.start()
    try:
        yield hosts
    finally:
        stop.set()
        thread.join(60.0)
        writer.close()
