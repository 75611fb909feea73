"""`livefeed bench parity --json`: every feature at random (entity, time) points, by the collector and by Spark.

A world's events, out of order, twice and late, go through collectors that die into a real Redis and the offline tables. At
moments in between entities of all four kinds are read online; Spark then computes the same values from the tables alone, as
of the same time and of what had been ingested by then. The baseline shows that the comparison bites: the same users' values
without the bound on ingestion time, and as of an hour earlier.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.own_parts import Say, own_parts
from benchmarks.parity_replay import Asked, Disorder, Mismatch, Replay, compare
from benchmarks.result import Result, bar
from events import schema as s
from features import spark as spark_room
from features.definitions import BY_ENTITY, Entity
from features.redis import RedisStore
from features.values_at import values_at
from settings import Settings
from simulator.config import WorldConfig
from simulator.feed import RandomFeed
from simulator.world import World
from stack.jars import delta_jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS, MOMENTS, EACH = 200_000, 8, 66  # 66 entities of each of four kinds at each of eight moments: 2,112 points
WORLD = WorldConfig(viewers=5_000, hosts=20, items=800, sessions_per_day=0.8, tick_s=3_600.0)
HOURS_A_STEP = 12.0


class Ear:
    """An EventWriter that keeps the events that change features."""

    def __init__(self) -> None:
        self.heard: list[s.Event] = []

    def send(self, event: s.Event) -> None:
        """Keep it unless it is an impression."""
        if not isinstance(event, s.Impression):
            self.heard.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Any = ()) -> None:
        """Nothing: this world sends no broken bytes."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""


def world_events(count: int, *, seed: int) -> list[s.Event]:
    """At least that many events of a world, in the order of their times, impressions left out."""
    world, ear = World(replace(WORLD, seed=seed)), Ear()
    feed = RandomFeed(world.on, seed=seed, writer=ear)
    while len(ear.heard) < count:
        world.advance(HOURS_A_STEP, ear, feed)
    return sorted(ear.heard, key=lambda event: event.event_at)


def spark_values(
    spark: "SparkSession", lake: Path, asked: Sequence[Asked], *, bound: bool = True
) -> list[dict[str, Any]]:
    """What Spark says of each, in their order; without `bound` whatever is in the tables now counts."""
    out: dict[int, dict[str, Any]] = {}
    for entity in dict.fromkeys(one.entity for one in asked):
        mine = [(n, one.id, one.at, one.seen_at) for n, one in enumerate(asked) if one.entity is entity]
        points = spark.createDataFrame(mine, "place int, id string, at double, seen_at double")
        found = values_at(spark, lake, points if bound else points.drop("seen_at"), entity=entity)
        out.update({row["place"]: row.asDict() for row in found.collect()})
    return [out[n] for n in range(len(asked))]


def mismatches(asked: Sequence[Asked], found: Sequence[dict[str, Any]]) -> list[Mismatch]:
    """Every value that differs."""
    return [wrong for one, other in zip(asked, found, strict=True) for wrong in compare(one, other)]


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Replay, read online on the way, compute in Spark, compare."""
    events = world_events(EVENTS, seed=seed)
    say(f"{len(events):,} events of {(events[-1].event_at - events[0].event_at).days} days")
    spark = spark_room.session(jars=delta_jars(settings.jars), memory=settings.spark_memory, cores=settings.spark_cores)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="livefeed-parity-") as folder,
            own_parts(settings, ["redis"], say=say) as (_, own),
        ):
            return _measured(
                spark, Replay(Path(folder), RedisStore(own.redis), Disorder(seed=seed, moments=MOMENTS)), events, say
            )
    finally:
        spark_room.stop()


def _measured(spark: "SparkSession", replay: Replay, events: Sequence[s.Event], say: Say) -> Result:
    asked: list[Asked] = []
    begun, reading = time.perf_counter(), 0.0
    for moment in replay.moments(events):
        read = time.perf_counter()
        asked += replay.ask(moment, EACH)
        reading += time.perf_counter() - read
        say(f"{replay.sent:,} messages, {replay.restarts} deaths of a collector, {len(asked):,} entities read")
    online_s = time.perf_counter() - begun
    begun = time.perf_counter()
    wrong = mismatches(asked, spark_values(spark, replay.lake, asked))
    spark_s = time.perf_counter() - begun
    for one in wrong[:10]:
        say(
            f"{one.asked.entity}.{one.feature} of {one.asked.id} at {one.asked.at}: {one.online!r}, Spark {one.other!r}"
        )
    users = [one for one in asked if one.entity is Entity.USER]
    earlier = [one._replace(at=one.at - 3_600.0) for one in users]
    figures: dict[str, float | None] = {
        "events": float(len(events)),
        "messages": float(replay.sent),
        "late": float(replay.counts["late"]),
        "collector_deaths": float(replay.restarts),
        "points": float(len(asked)),
        "values": float(sum(len(BY_ENTITY[one.entity]) for one in asked)),
        "mismatches": float(len(wrong)),
        "collector_s": online_s - reading,
        "online_read_s": reading,
        "spark_s": spark_s,
    }
    baseline: dict[str, float | None] = {
        "mismatches_of_users_without_ingestion_bound": float(
            len(mismatches(users, spark_values(spark, replay.lake, users, bound=False)))
        ),
        "mismatches_of_users_an_hour_earlier": float(len(mismatches(users, spark_values(spark, replay.lake, earlier)))),
    }
    bars = (
        bar(figures, "mismatches", "<=", 0.0),
        bar(figures, "points", ">=", 2_000.0),
        bar(figures, "events", ">=", float(EVENTS)),
    )
    return Result(bench="parity", figures=figures, baseline=baseline, bars=bars, seed=replay.disorder.seed)
