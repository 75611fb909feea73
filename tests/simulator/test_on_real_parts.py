"""A short world against a broker, collector and proxy of its own: every message it sent is accounted for."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from events.kafka import KafkaWriter
from settings import Settings
from simulator import HttpFeed, MixedFeed, RandomFeed, World
from simulator.settle import CollectorSettled
from simulator.worlds import named
from stack.parts import Parts


@pytest.fixture
def own_parts(tmp_path: Path) -> Iterator[Settings]:
    """Parts apart from the shared ones: another test's later event times would make this world's events late."""
    with Parts.with_free_ports(Settings(var=tmp_path, clock="request", commit_every_s=0.5)) as running:
        running.up(("kafka", "redis", "collector", "proxy"), report=print)
        yield running.settings


def figures(metrics: str) -> dict[str, int]:
    """The collector's event counts by outcome, all topics together."""
    out: dict[str, int] = {}
    page = httpx.get(f"{metrics}/metrics").text
    for outcome, value in re.findall(
        r'^livefeed_collector_events_total\{outcome="(\w+)".*\} (\S+)$', page, re.MULTILINE
    ):
        out[outcome] = out.get(outcome, 0) + int(float(value))
    return out


@pytest.mark.parts
def test_a_small_world_is_fed_by_the_proxy_and_every_message_is_accounted_for(own_parts: Settings) -> None:
    config = replace(
        named("live-first"), viewers=20, hosts=30, creators=8, items=50, sessions_per_day=24.0, duplicate_share=0.02,
        broken_share=0.01,
    )  # fmt: skip
    world, writer, product = World(config), KafkaWriter(own_parts.kafka), HttpFeed(own_parts.proxy)
    random = RandomFeed(world.on, seed=1, writer=writer)
    metrics = f"http://{own_parts.host}:{own_parts.metrics_port}"
    try:
        done = world.advance(
            2.0, writer, MixedFeed(product, random, share=0.3, seed=1), settle=CollectorSettled(metrics)
        )
    finally:
        product.close()
        writer.close()
    assert done.feed_errors == 0, done.first_error
    assert len(done.feed_ms) == done.feed_requests - done.own_feeds > 0

    logged = done.shown + done.feed_empty
    awaited = {"stored": done.messages - done.duplicates - done.broken + logged, "duplicate": done.duplicates}
    awaited |= {"dead_letter": done.broken, "late": 0, "erased": 0}
    until = time.monotonic() + 30.0
    while figures(metrics) != awaited and time.monotonic() < until:
        time.sleep(0.2)
    assert figures(metrics) == awaited
