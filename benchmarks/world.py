"""`livefeed bench world --json`: how fast the world `live-first` plays 48 hours at 5,000 viewers, and in how much memory.

A process of its own plays it, every event encoded as for Kafka and counted, feeds drawn at random in process: all of the
simulator but the HTTP leg. Viewer-events are what viewers do (engagement); messages are all that is sent, impressions too.
"""

import multiprocessing
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from benchmarks.result import Result, bar
from events.log import Header
from events.schema import Event
from events.topics import ENGAGEMENT, encode, topic_of
from settings import Settings
from simulator import RandomFeed, World
from simulator.worlds import named

HOURS, VIEWERS = 48.0, 5_000
ALONE = 20_000  # events encoded again for the baseline


class Counting:
    """An EventWriter that encodes, counts by topic, and keeps the first events."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes = 0
        self.first: list[Event] = []

    def send(self, event: Event) -> None:
        """Encode and count."""
        self.bytes += len(encode(event))
        self.messages[topic_of(event).name] += 1
        if len(self.first) < ALONE:
            self.first.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Count."""
        self.messages[topic] += 1

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""


def play(seed: int) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Figures and baseline of one run, made in this process."""
    before_mb, wall, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    world, writer = World(replace(named("live-first"), seed=seed, viewers=VIEWERS)), Counting()
    built_s = time.perf_counter() - wall
    done = world.advance(HOURS, writer, RandomFeed(world.on, seed=seed, writer=writer))
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    alone = time.perf_counter()
    for event in writer.first:
        encode(event)
    alone_s = time.perf_counter() - alone
    told, all_sent = writer.messages[ENGAGEMENT], writer.messages.total()
    figures: dict[str, float | None] = {
        "hours": HOURS, "viewers": float(VIEWERS), "wall_s": wall_s, "cpu_s": cpu_s, "build_s": built_s,
        "sessions": float(done.sessions), "feed_requests": float(done.feed_requests), "viewer_events": float(told),
        "messages": float(all_sent), "viewer_events_per_s": told / wall_s, "messages_per_s": all_sent / wall_s,
        "message_mb": writer.bytes / 1e6, "peak_memory_mb": _peak_mb(), "memory_before_mb": before_mb,
        "times_real_time": HOURS * 3_600.0 / wall_s,
    }  # fmt: skip
    return figures, {"encode_alone_per_s": len(writer.first) / alone_s}


def _peak_mb() -> float:
    kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kb / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)  # bytes there, kilobytes elsewhere


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Play it once in a fresh process."""
    say(f"playing {HOURS:g} hours of live-first at {VIEWERS:,} viewers")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        figures, baseline = pool.submit(play, seed).result()
    bars = (bar(figures, "wall_s", "<", 180.0),)
    return Result(bench="world", figures=figures, baseline=baseline, bars=bars, seed=seed)
