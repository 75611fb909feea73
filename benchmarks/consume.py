"""`python -m benchmarks.consume`: what the Kafka client costs by itself, the ceiling of every consumer; one JSON line.

`bare_rate` is for other benchmarks too: it reads what lies in the log through the same KafkaReader as the collector and does
nothing with it.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ground import Producer, temporary_ground
from benchmarks.result import Result, bar
from benchmarks.tape import TapeConfig, record
from events.kafka import KafkaReader
from events.topics import TOPICS

POLL_LIMIT = 4_000
COPIES, RUNS = 3, 3
WANTED_PER_S = 8_000.0  # what the collector must sustain a core with everything that it does besides


@dataclass(frozen=True)
class Rate:
    """Messages read, and what that took; `cpu_s` counts all threads of this process."""

    messages: int
    cpu_s: float
    wall_s: float

    @property
    def per_core_s(self) -> float:
        """Messages a processor second."""
        return self.messages / self.cpu_s


def bare_rate(bootstrap: str, topics: Sequence[str], *, limit: int = POLL_LIMIT) -> Rate:
    """Read every message that the topics hold now, from the start, and drop it; joining and metadata are not counted."""
    reader = KafkaReader(bootstrap, topics, group=None)
    try:
        wanted, got = sum(reader.end_offsets().values()), 0
        cpu, wall = time.process_time(), time.perf_counter()
        while got < wanted:
            got += len(reader.poll(timeout_s=0.05, limit=limit))
        return Rate(got, time.process_time() - cpu, time.perf_counter() - wall)
    finally:
        reader.close()


def measure(seed: int) -> Result:
    """Fill a broker of its own and read it a few times; the best run counts, since others only disturb."""
    tape = record(TapeConfig(events=30_000, seed=seed))
    with temporary_ground(lateness_s=900.0) as place:
        for _ in range(COPIES):
            Producer(place.settings.kafka).send(tape)
        rates = [bare_rate(place.settings.kafka, list(TOPICS)) for _ in range(RUNS)]
    best = max(rates, key=lambda rate: rate.per_core_s)
    figures: dict[str, float | None] = {
        "messages": float(best.messages),
        "bytes_per_message": sum(len(message.value) for message in tape) / len(tape),
        "bare_messages_per_s_per_core": best.per_core_s,
        "bare_messages_per_s": best.messages / best.wall_s,
    }
    bars = (bar(figures, "bare_messages_per_s_per_core", ">=", WANTED_PER_S),)
    return Result(bench="consume", figures=figures, baseline={}, bars=bars, seed=seed)


if __name__ == "__main__":
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7).line())
