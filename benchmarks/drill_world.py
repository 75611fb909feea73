"""The ground of the fault drill: the platform's parts as processes, the proxy behind relays, and a small world in them.

Three hundred media, thirty rooms that stay live, fifty viewers who played something; the release is that of the feed
benchmark, over these items.
"""

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from benchmarks.feed_ground import CATEGORIES, CREATORS, item_id, release
from benchmarks.relay import Address, Relay
from benchmarks.result import BenchError
from collector.lag import wait_until_stored
from events import schema as s
from events.clock import WallClock, utc
from events.errors import EventsError
from events.kafka import KafkaWriter
from events.log import EventWriter
from features.redis import RedisStore
from features.tables import DeltaTables
from registry.manifest import RANKER, TWO_TOWER
from serving.errors import ServingError
from serving.tf_serving import TfServing
from settings import Settings
from stack import processes, state
from stack.parts import Parts

BACKENDS: tuple["Backend", ...] = ("model-server", "redis", "kafka")
Backend = Literal["model-server", "redis", "kafka"]
ITEMS, ROOMS, VIEWERS, PLAYS = 300, 30, 50, 4
BEAT_S = 20.0
READY_S = 120.0
POLL_S = 0.05
CLOCK = WallClock()
Say = Callable[[str], None]


def viewer_id(number: int) -> str:
    """The id of a viewer."""
    return f"viewer-{number}"


def happenings(seed: int) -> Iterator[s.Event]:
    """Media, rooms that open now, and what viewers played in the last hour."""
    now, pick = CLOCK.now(), random.Random(seed)
    for n in range(ITEMS):
        yield s.MediaPublished(
            event_id=f"publish-{n}", event_at=utc(now - 3600.0 - n), item_id=item_id(n), creator_id=f"creator-{n % CREATORS}",
            content_type="AUDIO" if n % 5 == 0 else "VIDEO", category=f"category-{n % CATEGORIES}",
            title=f"title of {n}", language="en", duration_s=60.0,
        )  # fmt: skip
    for n in range(ROOMS):
        yield s.RoomOpened(
            event_id=f"open-{n}", event_at=utc(now), streamer_id=f"host-{n}", room_id=f"room-{n}",
            category=f"category-{n}",
        )  # fmt: skip
    for n in range(VIEWERS * PLAYS):
        item = min(int(pick.expovariate(0.05)), ITEMS - 1)
        yield s.MediaStarted(
            event_id=f"play-{n}", event_at=utc(now - pick.uniform(60.0, 3000.0)), user_id=viewer_id(n % VIEWERS),
            item_id=item_id(item), creator_id=f"creator-{item}",
        )  # fmt: skip


@dataclass
class Ground:
    """The parts that can fail, the proxy before them, and a relay for each on the proxy's way."""

    backends: Parts
    front: Parts
    relays: dict[str, Relay] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """How to reach the parts themselves, past the relays."""
        return self.backends.settings

    @property
    def proxy(self) -> Settings:
        """How the proxy is set up."""
        return self.front.settings

    def kill(self, name: str) -> None:
        """kill -9 of everything the part runs."""
        self._signal(name, signal.SIGKILL)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)

    def start(self, name: str) -> None:
        """Start it again on what it left, and wait until it answers."""
        parts = self.front if name == "proxy" else self.backends
        running = self._running(name)
        while any(processes.holder(parts.settings.host, port) for port in running.ports):
            time.sleep(POLL_S)  # a broker's many threads do not die at once
        parts.up([name], report=lambda _: None)
        if name == "model-server":
            await_true(lambda: models_available(self.settings), "the models are loaded")

    def mind_the_collector(self) -> None:
        """Start the collector again if it died of a part that was gone."""
        if any(one.name == "collector" and one.condition == "died" for one in self.backends.status()):
            self.backends.up(["collector"], report=lambda _: None)

    def _running(self, name: str) -> state.Running:
        parts = self.front if name == "proxy" else self.backends
        return state.load(parts.settings.var / "stack" / "state.json")[name]

    def _signal(self, name: str, number: signal.Signals) -> None:
        for member in processes.family(self._running(name)):
            with suppress(ProcessLookupError):
                os.kill(member.pid, number)


def await_true(
    condition: Callable[[], bool], what: str, *, within_s: float = READY_S, every_s: float = POLL_S
) -> None:  # fmt: skip
    """Until it holds; BenchError when it does not in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise BenchError(f"{what}: not within {within_s:g} s")
        time.sleep(every_s)


def models_available(settings: Settings) -> bool:
    """Whether both models have a version that answers."""
    server = TfServing(settings.model_server)
    try:
        return all(
            any(one.state == "AVAILABLE" for one in server.status(model, timeout_s=0.5))
            for model in (TWO_TOWER, RANKER)
        )
    except ServingError:
        return False
    finally:
        server.close()


def ready(settings: Settings) -> bool:
    """Whether the proxy says that its answers are whole."""
    try:
        return httpx.get(f"{settings.proxy}/readyz", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def ground(settings: Settings, seed: int, say: Say, *, with_models: bool = True) -> Iterator[Ground]:
    """Everything up and filled on free ports in a folder that goes away; the proxy is ready."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="livefeed-drill-", ignore_cleanup_errors=True))
        )
        own = settings.model_copy(
            update={"var": folder, "clock": "wall", "commit_every_s": 0.5, "address_rate": 0.0, "viewer_rate": 0.0}
        )
        backends = stack.enter_context(Parts.with_free_ports(own))
        if with_models:
            release(backends.settings.releases, backends.settings.models, ITEMS, seed, say)
        names = [*(BACKENDS if with_models else ("redis", "kafka")), "collector"]
        backends.up(names, report=say)
        relays = {name: stack.enter_context(Relay(_address(backends.settings, name))) for name in names[:-1]}
        front = stack.enter_context(Parts.with_free_ports(_behind(backends.settings, relays)))
        backends.settings.releases.mkdir(exist_ok=True)
        front.settings.var.mkdir()
        front.settings.releases.symlink_to(backends.settings.releases)
        place = Ground(backends, front, relays)
        writer = KafkaWriter(backends.settings.kafka)
        stack.callback(writer.close)
        fill(place, writer, seed)
        stack.enter_context(hearts(writer))
        front.up(["proxy"], report=say)
        await_true(lambda: ready(front.settings), "the proxy is ready")
        say("the platform stands")
        yield place


def fill(place: Ground, writer: EventWriter, seed: int) -> None:
    """Send the world through the log and wait until it is stored."""
    for event in happenings(seed):
        writer.send(event)
    writer.flush()
    settings = place.settings
    store = RedisStore(settings.redis)
    try:
        wait_until_stored(settings.kafka, DeltaTables(settings.lake), store=store)
    finally:
        store.close()


@contextmanager
def hearts(writer: EventWriter) -> Iterator[None]:
    """The rooms' heartbeats; those that the log does not take are lost, as they would be."""
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(BEAT_S):
            count += 1
            with suppress(EventsError):
                for n in range(ROOMS):
                    writer.send(
                        s.RoomHeartbeat(
                            event_id=f"beat-{n}-{count}", event_at=utc(CLOCK.now()), streamer_id=f"host-{n}",
                            room_id=f"room-{n}",
                        )
                    )  # fmt: skip
                writer.flush()

    thread = threading.Thread(target=beat, name="hearts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(40.0)


def _address(settings: Settings, name: str) -> Address:
    ports = {"model-server": settings.model_server_port, "redis": settings.redis_port, "kafka": settings.kafka_port}
    return Address(settings.host, ports[name])


def _behind(settings: Settings, relays: dict[str, Relay]) -> Settings:
    """The proxy's settings: the same folders, every part at its relay's address."""
    at: dict[str, Any] = {name: f"{relay.address.host}:{relay.address.port}" for name, relay in relays.items()}
    return settings.model_copy(
        update={
            "model_server_address": at.get("model-server", ""), "redis_address": f"redis://{at['redis']}/0",
            "kafka_bootstrap": at["kafka"], "var": settings.var / "front",
        }
    )  # fmt: skip
