"""`livefeed bench drill --json`: each part behind the proxy is killed, frozen and slowed under load, and no feed fails.

Kafka, Redis, model server and collector run as processes, the proxy behind relays; two clients ask for 40 feeds a second.
Every answer must be 200 with a full page, say what it lacks, and be whole again within five seconds of the part's return,
without a restart of the proxy. Then the proxy itself is killed while impressions wait on disk. At the end every impression of
every answer is in the log, and once in the collector's table. Rooms that come and go: benchmarks/drill_rooms.py.
`python -m benchmarks.drill --fault-s 2` runs it shorter.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import httpx
import typer

from benchmarks import drill_rooms
from benchmarks.drill_load import Answer, Load, first_of_a_run
from benchmarks.drill_world import BACKENDS, Backend, Ground, Say, await_true, ground, ready
from benchmarks.feed import percentile
from benchmarks.result import Bar, BenchError, Result, bar
from collector.lag import wait_until_stored
from events.kafka import KafkaReader, end_offsets
from events.topics import IMPRESSIONS, TOPICS, decode
from features.redis import RedisStore
from features.tables import DeltaTables
from settings import Settings

FAULTS = ("killed", "frozen", "slowed")
SETTLE_S = 1.0  # after the fault begins: the first requests find out
RECOVERY_S, IN_A_ROW = 30.0, 20
# What an answer must say while the part is gone, and the metrics that must show it.
EXPECTED: dict[Backend, frozenset[str]] = {
    "model-server": frozenset({"model_unavailable"}), "redis": frozenset({"features_unavailable"}), "kafka": frozenset(),
}  # fmt: skip
SIGNS: dict[Backend, tuple[str, ...]] = {
    # Requests ask it for the ranking alone: the release brings its user tower.
    "model-server": ('livefeed_breaker_state{part="ranker/stable"}',),
    "redis": ('livefeed_breaker_state{part="store"}',), "kafka": ("livefeed_spool_bytes",),
}  # fmt: skip
Figures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class DrillConfig:
    """How long everything lasts."""

    calm_s: float = 3.0
    fault_s: float = 8.0
    faults: Sequence[tuple[Backend, str]] = field(
        default_factory=lambda: [(name, fault) for name in BACKENDS for fault in FAULTS]
    )
    answers: int = 200_000  # from the world where rooms come and go


class Phase(NamedTuple):
    """One fault: monotonic seconds of its begin, of the part's return, and of the end; the metrics at its height."""

    part: Backend
    fault: str
    begun: float
    mending: float  # from when on it may be back
    restored: float
    ended: float
    metrics: Mapping[str, float]
    drained: float | None  # when nothing waited on disk any more


def measure(settings: Settings, seed: int, say: Say, *, config: DrillConfig | None = None) -> Result:
    """The drill, then the rooms."""
    config = config or DrillConfig()
    figures = faults(settings, seed, say, config=config)
    rooms, baseline = drill_rooms.figures(settings, seed, say, answers=config.answers)
    figures |= rooms
    baseline["calm_p99_ms"] = figures["calm_p99_ms"]
    return Result(bench="drill", figures=figures, baseline=baseline, bars=_bars(figures, config), seed=seed)


def faults(settings: Settings, seed: int, say: Say, *, config: DrillConfig) -> Figures:
    """Every fault, one after the other, under one load; then the proxy's own death."""
    with ground(settings, seed, say) as place, Load(place.proxy) as load:
        _warm(load)
        calm = time.monotonic()
        time.sleep(config.calm_s)
        phases = [_fault(place, load, part, fault, config, say) for part, fault in config.faults]
        killed = _proxy_killed(place, load, config, say)
        load.pause()
        _await_drained(place)
        return _answered(load.answers, calm, phases, killed) | _kept(place, load.answers, say)


def _warm(load: Load) -> None:
    await_true(lambda: first_of_a_run(load.since(0.0), IN_A_ROW) is not None, f"{IN_A_ROW} whole answers in a row")


def _fault(place: Ground, load: Load, part: Backend, fault: str, config: DrillConfig, say: Say) -> Phase:
    """Break it, wait, mend it, and wait until answers are whole."""
    relay, begun = place.relays[part], time.monotonic()
    {"killed": lambda: place.kill(part), "frozen": lambda: place.freeze(part), "slowed": relay.slow}[fault]()
    time.sleep(config.fault_s)
    metrics, mending = scrape(place.proxy), time.monotonic()
    {"killed": lambda: place.start(part), "frozen": lambda: place.thaw(part), "slowed": relay.restore}[fault]()
    restored, drained = time.monotonic(), None
    while time.monotonic() < restored + RECOVERY_S:
        if drained is None and not _waiting(place):
            drained = time.monotonic()
        if drained is not None and first_of_a_run(load.since(restored), IN_A_ROW):
            break
        time.sleep(0.05)
    place.mind_the_collector()
    ended = time.monotonic()
    say(f"{part} {fault}: {restored - begun:.1f} s, then {ended - restored:.1f} s until all was well")
    time.sleep(config.calm_s / 3)
    return Phase(part, fault, begun, mending, restored, ended, metrics, drained)


def _proxy_killed(place: Ground, load: Load, config: DrillConfig, say: Say) -> float:
    """kill -9 of the proxy while the log is gone and impressions wait on disk; when it began."""
    begun = time.monotonic()
    place.kill("kafka")
    time.sleep(config.fault_s / 2)
    load.pause()
    time.sleep(1.0)  # what is in memory for longer than that would be lost
    place.kill("proxy")
    place.start("proxy")
    place.start("kafka")
    place.mind_the_collector()
    await_true(lambda: ready(place.proxy), "the proxy that was killed is ready again")
    load.resume()
    time.sleep(config.calm_s)
    say("the proxy was killed and started again")
    return begun


def scrape(settings: Settings) -> dict[str, float]:
    """The proxy's metrics by name and labels."""
    text = httpx.get(f"{settings.proxy}/metrics", timeout=10.0).text
    return {name: float(value) for name, value in re.findall(r"^(livefeed_\S+) (\S+)$", text, re.M)}


def _waiting(place: Ground) -> bool:
    return scrape(place.proxy)["livefeed_spool_bytes"] > 0


def _await_drained(place: Ground) -> None:
    def nothing_waits() -> bool:
        found = scrape(place.proxy)
        return not found["livefeed_spool_bytes"] and not found["livefeed_impressions_waiting"]

    await_true(nothing_waits, "nothing waits to be sent")
    time.sleep(1.0)


def _answered(answers: Sequence[Answer], calm: float, phases: Sequence[Phase], killed: float) -> Figures:
    """Failed and wrongly degraded answers, slowest answers and recoveries."""
    first = phases[0].begun if phases else killed
    figures: Figures = {
        "answers": float(len(answers)),
        "failed_answers": float(sum(not one.fine for one in answers)),
        "calm_p99_ms": percentile([one.ms for one in answers if calm <= one.begun < first], 0.99),
    }
    unsaid = needless = unseen = 0
    for phase in phases:
        name, expected = f"{phase.part}_{phase.fault}".replace("-", "_"), EXPECTED[phase.part]
        during = [one for one in answers if phase.begun <= one.begun < phase.restored]
        settled = [one for one in during if one.begun >= phase.begun + SETTLE_S and one.ended < phase.mending]
        unsaid += sum(not expected <= one.degraded for one in settled) + (not settled)
        needless += sum(bool(one.degraded - expected) for one in settled)
        unseen += sum(not phase.metrics.get(sign) for sign in SIGNS[phase.part])
        after = sorted((one for one in answers if phase.restored <= one.begun < phase.ended), key=lambda one: one.ended)
        figures |= {
            f"{name}_p99_ms": percentile([one.ms for one in during], 0.99),
            f"{name}_max_ms": max((one.ms for one in during), default=None),
            f"{name}_recovery_s": _until(first_of_a_run(after, 1), phase.restored),
            f"{name}_recovery_20_s": _until(first_of_a_run(after, IN_A_ROW), phase.restored),
        }
        if phase.part == "kafka":
            figures[f"{name}_drained_s"] = None if phase.drained is None else phase.drained - phase.restored
    return figures | {
        "answers_not_saying_it": float(unsaid), "answers_degraded_needlessly": float(needless),
        "metrics_not_showing_it": float(unseen),
    }  # fmt: skip


def _until(answer: Answer | None, restored: float) -> float | None:
    return None if answer is None else answer.ended - restored


def _kept(place: Ground, answers: Sequence[Answer], say: Say) -> Figures:
    """Every impression of every answer against the log and the collector's table, by event id."""
    shown = {f"{one.request_id}:{n}": item for one in answers for n, item in enumerate(one.items)}
    logged, settings = read_impressions(place.settings), place.settings
    store = RedisStore(settings.redis)
    wait_until_stored(settings.kafka, DeltaTables(settings.lake), store=store)
    store.close()
    rows = Counter(DeltaTables(settings.lake).read(TOPICS[IMPRESSIONS].table).column("event_id").to_pylist())
    say(f"{len(shown)} impressions, {logged.total()} messages, {rows.total()} rows")
    return {
        "impressions": float(len(shown)),
        "impressions_missing_in_log": float(len(shown.keys() - {one for one, _ in logged})),
        "impressions_wrong_in_log": float(sum(shown.get(one) not in (None, item) for one, item in logged)),
        "impressions_sent_twice": float(sum(count - 1 for count in logged.values())),
        "impressions_missing_in_table": float(len(shown.keys() - rows.keys())),
        "impressions_twice_in_table": float(sum(count > 1 for count in rows.values())),
    }


def read_impressions(settings: Settings) -> Counter[tuple[str, str]]:
    """How often each impression (event id, item) lies in the log."""
    reader = KafkaReader(settings.kafka, [IMPRESSIONS], group=None)
    left = sum(end_offsets(settings.kafka, [IMPRESSIONS]).values())
    found: Counter[tuple[str, str]] = Counter()
    until = time.monotonic() + 120.0
    try:
        while left > 0:
            if time.monotonic() > until:
                raise BenchError("the impressions could not be read within 120 s")
            for record in reader.poll(timeout_s=0.5, limit=5_000):
                event = decode(IMPRESSIONS, record.value)
                found[event.event_id, str(getattr(event, "item_id", ""))] += 1
                left -= 1
    finally:
        reader.close()
    return found


ZERO = (
    "failed_answers", "answers_not_saying_it", "metrics_not_showing_it", "impressions_missing_in_log",
    "impressions_wrong_in_log", "impressions_missing_in_table", "impressions_twice_in_table", "dead_rooms_shown",
)  # fmt: skip


def _bars(figures: Figures, config: DrillConfig) -> tuple[Bar, ...]:
    bars = [bar(figures, name, "<=", 0.0) for name in ZERO]
    bars += [bar(figures, "answers_degraded_needlessly", "<=", 0.01 * (figures["answers"] or 0.0))]
    bars += [bar(figures, name, "<", 5.0) for name in figures if name.endswith(("recovery_s", "recovery_20_s"))]
    bars += [bar(figures, "room_answers", ">=", config.answers), bar(figures, "rooms_shown", ">", 0.0)]
    return (*bars, bar(figures, "control_dead_rooms_shown", ">", 0.0))


def main(
    fault_s: Annotated[float, typer.Option(min=1.0, help="Seconds a fault lasts.")] = 3.0,
    answers: Annotated[int, typer.Option(min=100, help="Answers from the world of short rooms.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Run it shorter and print the line."""
    config = DrillConfig(calm_s=2.0, fault_s=fault_s, answers=answers)
    say: Callable[[str], None] = lambda line: typer.echo(line, err=True)  # noqa: E731
    typer.echo(measure(Settings(), seed, say, config=config).line())


if __name__ == "__main__":
    typer.run(main)
