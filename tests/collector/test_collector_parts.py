"""The collector process on real Kafka, Delta and Redis: end to end, killed in the middle, and its commands."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis

from collector.config import COLLECTED
from collector.lag import wait_until_stored
from events.kafka import KafkaWriter, end_offsets
from events.log import Place
from events.topics import ENGAGEMENT, TOPICS
from features.definitions import Entity
from features.redis import RedisStore
from features.state import values
from features.store import MemoryStore
from features.tables import DeltaTables
from settings import Settings
from stack.catalogue import with_free_ports
from stack.parts import Parts
from tests.collector.stories import EVENING, liked, published, started

pytestmark = pytest.mark.parts
OWN_DATABASE = 9  # of the shared Redis, so that the stack's own collector is not disturbed
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Own:
    """A collector of this test's own beside the stack's: same log, own lake, own Redis database."""

    settings: Settings
    tag: str
    store: RedisStore
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.settings.environment()}
        log = (self.settings.var / f"collector-{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", "collector", "run"]
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def wait(self, timeout_s: float = 120.0) -> DeltaTables:
        tables = DeltaTables(self.settings.lake)
        wait_until_stored(self.settings.kafka, tables, store=self.store, timeout_s=timeout_s)
        return tables


@pytest.fixture
def own(parts: Parts, tmp_path: Path) -> Iterator[Own]:
    given = parts.settings
    address = given.redis.rpartition("/")[0] + f"/{OWN_DATABASE}"
    redis.Redis.from_url(address).flushdb()
    settings = with_free_ports(
        given.model_copy(update={"var": tmp_path, "redis_address": address, "commit_every_s": 0.5})
    ).model_copy(update={"kafka_bootstrap": given.kafka})
    store = RedisStore(address)
    mine = Own(settings, f"own-{uuid.uuid4()}", store)
    # Start at the log's end: what other tests have sent is not this story.
    ends = end_offsets(given.kafka, COLLECTED)
    tables = DeltaTables(settings.lake)
    for topic in COLLECTED:
        tables.append(topic, [], offsets={place.partition: end for place, end in ends.items() if place.topic == topic})
    store.advance(ends)
    yield mine
    for process in mine.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    redis.Redis.from_url(address).flushdb()


def produce(own: Own, *, users: int, events: int) -> MemoryStore:
    """Send an evening, every 50th event twice and every 100th with a broken one beside it; what it should come to."""
    writer, truth = KafkaWriter(own.settings.kafka), MemoryStore()
    tag = own.tag
    for n in range(20):
        event = published(f"{tag}-v{n}", n, creator_id=f"{tag}-c{n % 3}", category=f"k{n % 4}")
        writer.send(event)
        truth.apply(event, event.event_at.timestamp())
    writer.flush()
    for n in range(events):
        kind = liked if n % 3 == 0 else started
        event = kind(f"{tag}-e{n}", f"{tag}-u{n % users}", f"{tag}-v{n % 20}", 30.0 + n)
        writer.send(event)
        truth.apply(event, event.event_at.timestamp())
        if n % 50 == 0:
            writer.send(event)
        if n % 100 == 0:
            writer.send_raw(ENGAGEMENT, key=f"{tag}-u{n % users}".encode(), value=b"{broken")
    writer.close()
    return truth


def same_features(own: Own, truth: MemoryStore, now: float) -> None:
    for entity, one in truth.records:
        expected = values(entity, truth.read(entity, [one])[0], now)
        found = values(entity, own.store.read(entity, [one])[0], now)
        # Sums over partitions are added in another order: equal to the last digits only.
        assert {name: _close(value) for name, value in found.items()} == expected, (entity, one)


def _close(value: object) -> object:
    if isinstance(value, dict):
        return {key: _close(inner) for key, inner in value.items()}
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


def test_what_is_produced_is_in_both_stores_once(own: Own) -> None:
    process = own.start()
    truth = produce(own, users=25, events=1000)
    tables = own.wait()
    rows = tables.read("engagement", columns=["event_id"]).column(0).to_pylist()
    assert sorted(rows) == sorted(f"{own.tag}-e{n}" for n in range(1000))
    assert tables.read("media").num_rows == 20
    same_features(own, truth, EVENING + 1030)
    metrics = httpx.get(f"http://127.0.0.1:{own.settings.metrics_port}/metrics").text
    assert 'livefeed_collector_events_total{outcome="stored",topic="user.engagement.events"} 1000.0' in metrics
    assert "livefeed_collector_duplicates_total 20.0" in metrics
    assert "livefeed_collector_dead_letters_total 10.0" in metrics
    assert own.store.trending("home:VIDEO", 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_killed_again_and_again_it_ends_where_an_undisturbed_one_would(own: Own) -> None:
    process = own.start()
    truth = produce(own, users=40, events=6000)
    base = sum(end_offsets(own.settings.kafka, COLLECTED).values())
    for delay in (0.4, 0.15, 0.7):
        _wait_for_progress(own)
        time.sleep(delay)
        process.kill()
        process.wait()
        process = own.start()
    tables = own.wait(180.0)
    rows = tables.read("engagement", columns=["event_id", "late"]).to_pylist()
    assert sorted(row["event_id"] for row in rows) == sorted(f"{own.tag}-e{n}" for n in range(6000))
    assert not any(row["late"] for row in rows)
    same_features(own, truth, EVENING + 6030)
    assert base == sum(end_offsets(own.settings.kafka, COLLECTED).values())


def _wait_for_progress(own: Own) -> None:
    """Until the newest process has moved the online store (or there is nothing left to move)."""
    before, ends = own.store.progress(), end_offsets(own.settings.kafka, COLLECTED)
    until = time.monotonic() + 60
    while own.store.progress() == before and any(before.get(p, 0) < end for p, end in ends.items()):
        assert time.monotonic() < until, "the collector made no progress within 60 s"
        time.sleep(0.02)


def test_sigterm_writes_what_is_left(own: Own) -> None:
    slow = own.settings.model_copy(update={"commit_every_s": 3600.0})
    own.settings = slow
    process = own.start()
    produce(own, users=5, events=200)
    ends = end_offsets(slow.kafka, COLLECTED)
    until = time.monotonic() + 60
    while own.store.progress() != {p: end for p, end in ends.items() if p in own.store.progress()} or not _all(
        own, ends
    ):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.terminate()
    assert process.wait(20) == 0
    assert DeltaTables(slow.lake).read("engagement").num_rows == 200


def _all(own: Own, ends: dict[Place, int]) -> bool:
    return all(own.store.progress().get(place, 0) == end for place, end in ends.items())


def command(own: Own, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "collector", *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **own.settings.environment()},
    )  # fmt: skip


def test_status_shows_the_lag_and_waiting_without_a_collector_is_one_sentence(own: Own) -> None:
    produce(own, users=2, events=30)
    shown = command(own, "status")
    assert shown.returncode == 0
    assert shown.stdout.strip().splitlines()[-1].endswith("52 behind")  # 20 items, 30 events, a duplicate, a broken one
    assert len(shown.stdout.splitlines()) == 2 + len(end_offsets(own.settings.kafka, list(TOPICS)))
    waited = command(own, "status", "--wait", "--timeout-s", "0.5")
    assert waited.returncode == 1
    assert waited.stderr.startswith("error: 52 of ") and "Traceback" not in waited.stderr
    assert own.store.ids(Entity.ITEM) == []
