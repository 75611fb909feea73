"""`livefeed bench freshness --json`: how long after an event a feed knows of it, at 2,000 events a second.

Real Kafka, Redis and collector, as their own processes, and a proxy's catalogue and viewers in this one, at real speed.
Probes go into the same log as the load: a start of an item (visible in the viewer's served features, and in the item
table's row), a room that opens (visible when a feed may hold it) and closes (gone when none may). They are looked for every
few milliseconds. The baseline is the log alone: a consumer that sees the same rooms open.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.feed import percentile
from benchmarks.own_parts import Say, own_parts
from benchmarks.result import BenchError, Result, bar
from benchmarks.sustained import catalogue, sustained
from collector.lag import wait_until_stored
from events import schema as s
from events.clock import WallClock, utc
from events.errors import MalformedEvent
from events.kafka import KafkaReader, KafkaWriter
from events.log import EventWriter, MemoryLog, MemoryWriter
from events.topics import LIFECYCLE, decode
from features.definitions import Entity
from features.redis import RedisStore
from features.state import values
from features.tables import DeltaTables
from features.vectors import NAMES
from serving.attempt import FeedParts
from serving.feed import FeedRequest
from serving.filters import Eligibility
from serving.models import MemoryModels
from serving.sides import Viewer
from serving.wiring import BACKGROUND_TIMEOUT_S, assemble
from settings import Settings

RATE = 2_000.0  # events a second
START_S, WARM_S, PROBED_S, DRAIN_S = 60.0, 8.0, 45.0, 8.0
LOOK_S = 0.005  # between two looks for what was sent
STARTS_EVERY_S, ROOMS_EVERY_S, ROOM_OPEN_S = 0.05, 0.2, 3.0
ITEMS = 200  # items that only probes start, each once in ten seconds
PLAYS = NAMES.index("item.plays")
CLOCK = WallClock()
ANYBODY = Viewer("anybody", values(Entity.USER, {}, 0.0), {})


@dataclass
class Waiting:
    """Probes by name: when they were sent and, once seen, after how many seconds."""

    sent: dict[str, float] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def send(self, name: str) -> None:
        """A probe goes out now."""
        self.sent[name] = self.left[name] = time.monotonic()

    def seen(self, name: str) -> None:
        """It is there now."""
        sent = self.left.pop(name, None)
        if sent is not None:
            self.took.append(time.monotonic() - sent)


@dataclass
class Probes:
    """What was sent, and what of it a proxy would serve."""

    writer: EventWriter
    parts: FeedParts
    viewers: Waiting = field(default_factory=Waiting)
    items: Waiting = field(default_factory=Waiting)
    opened: Waiting = field(default_factory=Waiting)
    closed: dict[str, float] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)  # when a feed could last hold the room

    def start(self, number: int) -> None:
        """A viewer of her own starts one of the items; it is her first start and the item's next."""
        user, item, count = f"probe-{number}", f"probed-{number % ITEMS}", number // ITEMS + 1
        event = s.MediaStarted(
            event_id=user, event_at=utc(CLOCK.now()), user_id=user, item_id=item, creator_id="prober"
        )
        self.viewers.send(user)
        self.items.send(f"{item} {count}")
        self.writer.send(event)

    def open(self, number: int) -> None:
        """A host goes live."""
        room = f"probe-room-{number}"
        self.opened.send(room)
        self.writer.send(
            s.RoomOpened(
                event_id=f"{room}-open", event_at=utc(CLOCK.now()), streamer_id=f"probe-host-{number}", room_id=room,
                category="probe",
            )
        )  # fmt: skip

    def close(self, number: int) -> None:
        """The host goes off."""
        room = f"probe-room-{number}"
        self.closed[room] = time.monotonic()
        self.writer.send(
            s.RoomClosed(
                event_id=f"{room}-close", event_at=utc(CLOCK.now()), streamer_id=f"probe-host-{number}", room_id=room
            )
        )

    def look(self) -> None:
        """Note what a proxy serves now."""
        now, view = CLOCK.now(), self.parts.catalogue.view
        for user in list(self.viewers.left):
            if self.parts.hydration.viewer(user, now).values["plays"] >= 1:
                self.viewers.seen(user)
        names = [one.split() for one in self.items.left]
        plays = view.table.take(view.table.rows([item for item, _ in names])).numbers[:, PLAYS]
        for (item, count), found in zip(names, plays, strict=True):
            if found >= int(count):
                self.items.seen(f"{item} {count}")
        rules = Eligibility.of(ANYBODY, FeedRequest(request_id="look", user_id="anybody", now=now), view)
        rooms = [view.table.id_of[row] for row in view.live[rules.admit(view.live)]]
        # As a page is: what it would show is read again.
        for one, read in self.parts.catalogue.recheck(rooms).items() if rooms else ():
            if rules.admits(read):
                self.opened.seen(one)
                self.served[one] = time.monotonic()

    def run(self, seconds: float) -> None:
        """Send probes at their paces for so long, then only look for those still out."""
        begun = time.monotonic()
        starts = opens = closes = 0
        while (passed := time.monotonic() - begun) < seconds + DRAIN_S:
            while starts * STARTS_EVERY_S < min(passed, seconds):
                self.start(starts)
                starts += 1
            while opens * ROOMS_EVERY_S < min(passed, seconds):
                self.open(opens)
                opens += 1
            while closes < opens and closes * ROOMS_EVERY_S + ROOM_OPEN_S < passed:
                self.close(closes)
                closes += 1
            self.look()
            time.sleep(LOOK_S)

    def ends(self) -> list[float]:
        """Seconds from each room's close to the last moment at which a feed could hold it."""
        return [max(self.served.get(room, 0.0) - at, 0.0) for room, at in self.closed.items()]


@contextmanager
def heard(bootstrap: str, opened: Waiting) -> Iterator[list[float]]:
    """Seconds until a bare consumer of the log sees each room of the probes open."""
    reader, stop, took = (
        KafkaReader(bootstrap, [LIFECYCLE], group=None, from_start=False),
        threading.Event(),
        list[float](),
    )

    def listen() -> None:
        while not stop.is_set():
            for record in reader.poll(timeout_s=0.05, limit=1_000):
                try:
                    event = decode(LIFECYCLE, record.value)
                except MalformedEvent:
                    continue
                if isinstance(event, s.RoomOpened) and event.room_id in opened.sent:
                    took.append(time.monotonic() - opened.sent[event.room_id])

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield took
    stop.set()
    thread.join(10.0)
    reader.close()


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Fill a platform, put it under load, and time the probes."""
    settings = settings.model_copy(update={"clock": "wall"})
    with own_parts(settings, ["kafka", "redis", "collector"], say=say) as (_, own):
        writer, store = KafkaWriter(own.kafka), RedisStore(own.redis)
        _fill(writer)
        tables = DeltaTables(own.lake)
        wait_until_stored(own.kafka, tables, store=store, timeout_s=180.0, report=lambda done, total: None)
        say("the platform stands; the load begins")
        with serving(own, store) as parts:
            probes = Probes(writer, parts)
            with heard(own.kafka, probes.opened) as log_s, sustained(own.kafka, rate=RATE, seed=seed) as sent:
                _await_load(sent)
                time.sleep(WARM_S)
                before, begun = sent.value, time.monotonic()
                probes.run(PROBED_S)
                rate = (sent.value - before) / (time.monotonic() - begun)
        writer.close()
    return _result(probes, log_s, rate, seed)


@contextmanager
def serving(own: Settings, store: RedisStore) -> Iterator[FeedParts]:
    """A proxy's parts in this process that follow the store, as its background does."""
    proxy = assemble(
        store, lambda: MemoryWriter(MemoryLog()), MemoryModels(), releases=own.releases,
        spool=own.var / "spool.jsonl", background_store=RedisStore(own.redis, timeout_s=BACKGROUND_TIMEOUT_S),
    )  # fmt: skip
    proxy.parts.background.start()
    try:
        yield proxy.parts
    finally:
        proxy.parts.background.close()


def _await_load(sent: Any) -> None:
    until = time.monotonic() + START_S
    while not sent.value:
        if time.monotonic() > until:
            raise BenchError(f"the load has sent nothing in its first {START_S:g} s")
        time.sleep(0.1)


def _fill(writer: KafkaWriter) -> None:
    now = CLOCK.now()
    for event in catalogue(now):
        writer.send(event)
    for number in range(ITEMS):
        writer.send(
            s.MediaPublished(
                event_id=f"probed-{number}", event_at=utc(now), item_id=f"probed-{number}", creator_id="prober",
                content_type="VIDEO", category="probe",
            )
        )  # fmt: skip
    writer.flush()


def _result(probes: Probes, log_s: list[float], rate: float, seed: int) -> Result:
    lost = len(probes.viewers.left) + len(probes.items.left) + len(probes.opened.left)
    figures: dict[str, float | None] = {"events_per_s": rate, "probes_never_seen": float(lost)}
    for name, took in (
        ("viewer_visible", probes.viewers.took),
        ("item_visible", probes.items.took),
        ("stream_start", probes.opened.took),
        ("stream_end", probes.ends()),
    ):
        figures |= {f"{name}_p50_ms": _ms(percentile(took, 0.5)), f"{name}_p99_ms": _ms(percentile(took, 0.99))}
        figures |= {f"{name}_max_ms": _ms(max(took, default=None)), f"{name}_probes": float(len(took))}
    baseline = {"log_alone_p50_ms": _ms(percentile(log_s, 0.5)), "log_alone_p99_ms": _ms(percentile(log_s, 0.99))}
    bars = (
        bar(figures, "events_per_s", ">=", 0.99 * RATE),
        bar(figures, "probes_never_seen", "<=", 0.0),
        bar(figures, "viewer_visible_p99_ms", "<", 1_000.0),
        bar(figures, "item_visible_p99_ms", "<", 1_000.0),
        bar(figures, "stream_start_p99_ms", "<", 1_000.0),
        bar(figures, "stream_end_max_ms", "<", 1_000.0),
    )
    return Result(bench="freshness", figures=figures, baseline=baseline, bars=bars, seed=seed)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
