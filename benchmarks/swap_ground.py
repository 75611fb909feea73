"""What swaps are measured on: a small catalogue in the stores, two trained candidates, and viewers at a bounded rate.

2,000 media and 100 live rooms; the candidates are trained on the drawn log of benchmarks/production_ranker.py for a few
steps, so that their graphs, packed inputs, neighbours and `recommend` are those of production, one with wider layers than the
other. The viewers are a process of their own: two clients, each with one request at a time, at so many a second together.
"""

import http.client
import multiprocessing
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from benchmarks.own_parts import Say
from benchmarks.production_ranker import ITEMS, TAGS, VIEWERS, drawn_log
from collector.lag import wait_until_stored
from events import schema as s
from events.clock import utc
from events.kafka import KafkaWriter
from features.redis import RedisStore
from features.store import MemoryStore
from features.tables import DeltaTables
from registry.manifest import read_manifest, write_manifest
from settings import Settings

NOW = 1_800_000_000.0  # the proxy takes its now from the request: rooms stay live
ROOMS, TRENDING = 100, 60
STEPS = 50
FEED = "/api/v1/content/feed"


class Answer(NamedTuple):
    """One request: when it began and ended (monotonic seconds), and what came back."""

    begun: float
    ended: float
    fine: bool  # 200 with items
    degraded: str  # its reasons; empty when it is whole
    release: str


class _Body(msgspec.Struct):
    """What is looked at of a feed."""

    release: str
    degraded: list[str]
    items: list[msgspec.Raw]


def happenings() -> Iterator[s.Event]:
    """Everything that is there: media published, rooms opened, and three items that each of some viewers finished."""
    for n in range(ITEMS):
        yield s.MediaPublished(
            event_id=f"publish-{n}", event_at=utc(NOW - 100 - n), item_id=f"m{n}", creator_id=f"c{n % 200}",
            content_type="AUDIO" if n % 5 == 0 else "VIDEO", category=f"t{n % TAGS}", title=f"title of m{n}",
            tags=(f"t{n % TAGS}", f"t{n % 7}"), language="en", duration_s=60.0 + n % 300,
        )  # fmt: skip
    for n in range(ROOMS):
        yield s.RoomOpened(
            event_id=f"open-{n}", event_at=utc(NOW), streamer_id=f"h{n}", room_id=f"r{n}", category=f"t{n % TAGS}"
        )
    for n in range(0, VIEWERS, 3):
        for watched in range(3):
            yield s.MediaCompleted(
                event_id=f"play-{n}-{watched}", event_at=utc(NOW - 60 + watched), user_id=f"u{n}",
                item_id=f"m{(n + watched * TAGS) % ITEMS}", creator_id=f"c{n % 200}",
            )  # fmt: skip


def fill(settings: Settings, say: Say) -> None:
    """Send it through the log and wait until the collector has stored it; then what trends."""
    writer, store = KafkaWriter(settings.kafka), RedisStore(settings.redis)
    try:
        for event in happenings():
            writer.send(event)
        writer.flush()
        wait_until_stored(settings.kafka, DeltaTables(settings.lake), store=store, timeout_s=180.0)
        store.set_trending("home:ALL", {f"m{n}": float(TRENDING - n) for n in range(TRENDING)})
    finally:
        writer.close()
        store.close()
    say(f"{ITEMS} media and {ROOMS} live rooms are in the stores")


def train(folder: Path, seed: int, say: Say) -> tuple[Path, Path]:
    """Two candidates, the second with wider layers."""
    from training.pipeline import TrainingConfig, train_candidate
    from training.ranking import RankerConfig
    from training.two_tower import TwoTowerConfig

    store = MemoryStore()
    for event in happenings():
        store.apply(event, event.event_at.timestamp())
    made = []
    for name, dim, hidden in (("small", 16, (64, 32)), ("large", 64, (512, 256, 128))):
        say(f"training the {name} candidate for {STEPS} steps")
        config = TrainingConfig(
            two_tower=TwoTowerConfig(max_steps=STEPS, round_steps=STEPS, dim=2 * dim, hidden=2 * hidden[0]),
            ranker=RankerConfig(max_steps=STEPS, round_steps=STEPS, dim=dim, hidden=hidden),
        )
        train_candidate(drawn_log(seed), store, folder / name, line="swap", version=1, seed=seed, config=config)
        made.append(folder / name)
    return made[0], made[1]


def numbered(candidate: Path, folder: Path, version: int) -> Path:
    """The candidate once more, as another version: each swap has a release to load."""
    manifest = msgspec.structs.replace(read_manifest(candidate), version=version)
    target = folder / manifest.name
    shutil.copytree(candidate, target)
    write_manifest(target, manifest)
    return target


def bytes_of(candidate: Path) -> int:
    """Bytes of its models."""
    return sum(path.stat().st_size for path in (candidate / "models").rglob("*") if path.is_file())


class Viewers:
    """Answers so far are handed over by `stop`, once."""

    def __init__(self, flag: Flag, end: Connection) -> None:
        self._flag, self._end, self._answers = flag, end, list[Answer]()

    def stop(self) -> Sequence[Answer]:
        """End the requests; every answer by its beginning."""
        if not self._flag.is_set():
            self._flag.set()
            self._answers = sorted(Answer(*row) for row in self._end.recv())
        return self._answers


@contextmanager
def viewers(settings: Settings, *, clients: int, rate: float, seed: int) -> Iterator[Viewers]:
    """Requests run while this is open, or until `stop`."""
    context = multiprocessing.get_context("spawn")
    flag, (ours, theirs) = context.Event(), context.Pipe()
    process = context.Process(target=_ask_all, args=(settings.proxy_port, clients, rate, seed, flag, theirs))
    process.start()
    try:
        yield Viewers(flag, ours)
    finally:
        flag.set()
        process.join(30.0)
        if process.is_alive():
            process.kill()


def _ask_all(port: int, clients: int, rate: float, seed: int, stop: Flag, end: Any) -> None:
    """Every client in a thread; sends all answers when told to stop."""
    answers: list[Answer] = []
    threads = [
        Thread(target=_ask_again, args=(port, clients / rate, seed + number, stop, answers))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end.send([tuple(one) for one in answers])


def _ask_again(port: int, every_s: float, seed: int, stop: Flag, answers: list[Answer]) -> None:
    """One request after the other, at most one in `every_s`; what comes late is not made up for."""
    pick, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    due = time.monotonic()
    while not stop.is_set():
        due = max(due + every_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        answers.append(_ask(connection, f"u{pick.randrange(VIEWERS)}"))
    connection.close()


def _ask(connection: http.client.HTTPConnection, user: str) -> Answer:
    begun = time.monotonic()
    try:
        connection.request(
            "GET", f"{FEED}?{urlencode({'user_id': user, 'limit': 20})}", headers={"X-Livefeed-Now": str(NOW)}
        )
        answer = connection.getresponse()
        raw = answer.read()
        ended = time.monotonic()
        body = msgspec.json.decode(raw, type=_Body) if answer.status == 200 else _Body("", [], [])
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        connection.close()
        return Answer(begun, time.monotonic(), False, "", "")
    return Answer(begun, ended, bool(body.items), ",".join(body.degraded), body.release)
