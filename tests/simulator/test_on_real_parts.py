"""A short world against a broker, collector and proxy of its own: every message it sent is accounted for."""

import re
import time
from collections import Counter
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


def counted(page: str, metric: str) -> Counter[str]:
    """A counter by outcome, its other labels together."""
    out = Counter[str]()
    for outcome, value in re.findall(rf'^{metric}\{{outcome="(\w+)".*\}} (\S+)$', page, re.MULTILINE):
        out[outcome] += int(float(value))
    return out


def collected(metrics: str) -> Counter[str]:
    """The collector's event counts by outcome, all topics together."""
    return counted(httpx.get(f"{metrics}/metrics").text, "livefeed_collector_events_total")


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

    # What the log did not take in time waited in the proxy's file: it may come twice, and behind younger events.
    logged = done.shown + done.feed_empty
    once, twice = done.messages - done.duplicates - done.broken + logged, done.duplicates
    awaited = Counter(stored=once, duplicate=twice, dead_letter=done.broken)
    until = time.monotonic() + 30.0
    while awaited - (found := collected(metrics)) and time.monotonic() < until:
        time.sleep(0.2)
    logged_by_proxy = counted(httpx.get(f"{own_parts.proxy}/metrics").text, "livefeed_impressions_total")
    assert logged_by_proxy["sent"] > 0 == logged_by_proxy["dropped"]
    assert (found["stored"], found["dead_letter"], found["erased"]) == (once, done.broken, 0)
    assert twice <= found["duplicate"] <= twice + logged_by_proxy["sent_late"]
    assert found["late"] <= logged_by_proxy["sent_late"]
