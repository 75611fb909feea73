"""`livefeed bench events --json`: events a second and core through validation, Redis and Delta, beside a bare consume loop.

A simulated world's events lie in Kafka before the collector starts: impressions with all their features, engagement, rooms,
heartbeats, a few of them twice. The collector runs as its own process, as in production; its CPU is the operating system's
figure for that process with all its threads, from the moment it answers on its metrics port. The baseline reads the same
messages with the same client and does nothing with them.
"""

import time
from collections.abc import Mapping
from typing import Any

import httpx
from msgspec import structs

from benchmarks.own_parts import Say, cpu_s, own_parts, process_of
from benchmarks.result import BenchError, Result, bar
from collector.config import COLLECTED
from collector.lag import lag
from events import schema as s
from events.kafka import KafkaReader, KafkaWriter, end_offsets
from events.schema import FeatureValue
from events.topics import IMPRESSIONS
from features.definitions import Entity
from features.redis import RedisStore
from features.snapshot import Known, snapshot
from features.state import values
from features.tables import DeltaTables
from settings import Settings
from simulator.config import WorldConfig
from simulator.feed import RandomFeed
from simulator.world import World

EVENTS = 200_000
VIEWERS, HOURS_A_STEP, DUPLICATES = 3_000, 2.0, 0.01
PATIENCE_S = 300.0
POLL = 4_000


class WithFeatures:
    """An EventWriter that gives impressions the features a ranker would have seen: the bytes a proxy logs."""

    def __init__(self, writer: KafkaWriter) -> None:
        self._writer = writer
        known = Known(*(values(entity, {}, 0.0) for entity in (Entity.USER, Entity.ITEM, Entity.CREATOR, Entity.PAIR)))
        lists: Mapping[str, Any] = {"recent_positive": [f"media-{n:06d}" for n in range(20)]}
        known = known._replace(user={**known.user, **lists})
        self._features: dict[str, FeatureValue] = snapshot("viewer", "item", known, now=0.0, surface=s.Surface.HOME)
        self.sent = 0

    def send(self, event: s.Event) -> None:
        """Append an event."""
        self.sent += 1
        if isinstance(event, s.Impression):
            event = structs.replace(event, features=self._features | {"user.user_id": event.user_id})
        self._writer.send(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Any = ()) -> None:
        """Append bytes."""
        self.sent += 1
        self._writer.send_raw(topic, key=key, value=value, headers=headers)

    def flush(self) -> None:
        """Wait until everything is durable."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and let go."""
        self._writer.close()


def produce_world(bootstrap: str, *, events: int, seed: int) -> int:
    """Send at least that many events of a world to the log; how many were sent."""
    writer = WithFeatures(KafkaWriter(bootstrap))
    world = World(WorldConfig(viewers=VIEWERS, seed=seed, duplicate_share=DUPLICATES))
    feed = RandomFeed(world.on, seed=seed, writer=writer)
    while writer.sent < events:
        world.advance(HOURS_A_STEP, writer, feed)
    writer.close()
    return writer.sent


def consume(bootstrap: str) -> tuple[int, float]:
    """Messages read to the end of the topics and the CPU seconds of this process that it took."""
    left = sum(end_offsets(bootstrap, COLLECTED).values())
    reader, read = KafkaReader(bootstrap, COLLECTED, group=None), 0
    begun = time.process_time()
    while read < left:
        read += len(reader.poll(timeout_s=1.0, limit=POLL))
    used = time.process_time() - begun
    reader.close()
    return read, used


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Fill the log, read it bare, then let a collector take it into both stores."""
    with own_parts(settings, ["kafka", "redis"], say=say) as (parts, own):
        sent = produce_world(own.kafka, events=EVENTS, seed=seed)
        say(f"{sent} messages in the log")
        impressions = sum(end_offsets(own.kafka, [IMPRESSIONS]).values())
        read, bare_s = consume(own.kafka)
        redis_before = cpu_s(process_of(parts, "redis"))
        parts.up(["collector"], report=say)
        collector = process_of(parts, "collector")
        begun, startup_s = time.perf_counter(), cpu_s(collector)
        _wait(own, say)
        wall_s, used_s = time.perf_counter() - begun, cpu_s(collector) - startup_s
        redis_s = cpu_s(process_of(parts, "redis")) - redis_before
        stored = _counted(own)
    figures: dict[str, float | None] = {
        "events": float(read),
        "impressions_share": impressions / read,
        "events_per_s_per_core": read / used_s,
        "events_per_s_per_core_with_redis": read / (used_s + redis_s),
        "events_per_s_wall": read / wall_s,
        "collector_us_per_event": used_s / read * 1e6,
        "redis_us_per_event": redis_s / read * 1e6,
        "events_counted": stored,
    }
    baseline: dict[str, float | None] = {
        "bare_consume_per_s_per_core": read / bare_s,
        "bare_us_per_event": bare_s / read * 1e6,
    }
    bars = (bar(figures, "events_per_s_per_core", ">=", 8_000.0),)
    return Result(bench="events", figures=figures, baseline=baseline, bars=bars, seed=seed)


def _wait(own: Settings, say: Say) -> None:
    """Until both stores have everything."""
    tables, store = DeltaTables(own.lake), RedisStore(own.redis)
    until, told = time.monotonic() + PATIENCE_S, 0.0
    while behind := sum(one.behind for one in lag(own.kafka, tables, store=store)):
        if time.monotonic() > until:
            raise BenchError(f"the collector is {behind} messages behind after {PATIENCE_S:g} s")
        if time.monotonic() - told > 5.0:
            say(f"{behind} messages to go")
            told = time.monotonic()
        time.sleep(0.5)
    store.close()


def _counted(own: Settings) -> float:
    """Events stored, dropped as duplicates or dead, as the collector's metrics say: everything that was sent."""
    text = httpx.get(f"http://{own.host}:{own.metrics_port}/metrics", timeout=5.0).text
    lines = [line for line in text.splitlines() if line.startswith("livefeed_collector_events_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="late"' not in line)
