"""`make soak` or `python -m benchmarks.faults`: kill everything, and hold the stores against an undisturbed run's.

A tape of all topics, every event twice and out of order, goes to a broker while collector, Redis and broker are killed
(kill -9) at random moments; then an hour of events comes while no collector runs, and comes again; then a group of
collectors loses and gains members. At the end a collector that nobody disturbs reads the same log into empty stores. Late
and duplicate are decided from each partition's offsets, so all three must hold the same rows and the same value of every
feature.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.compare import Seen, differing, look, missing_ids, newest, repeated_ids
from benchmarks.ground import Collectors, Ground, Producer, temporary_ground
from benchmarks.result import BenchError, Result, bar
from benchmarks.tape import Message, TapeConfig, readable_ids, record, unreadable
from events.dead_letters import read_dead_letters
from features.errors import StoreUnavailable
from features.redis import RedisStore
from settings import Settings

HOUR_S = 3600.0
WORK_S = 8.0  # longest wait for a collector to get on with it before the next fault
KINDS = ("collector", "redis", "kafka")
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DrillConfig:
    """How much is killed, over how many events."""

    kills: int = 20  # of each kind
    group_kills: int = 6  # of members of the group
    events: int = 30_000  # distinct ones
    seed: int = 7


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done, and what the stores held afterwards; `calm` is the undisturbed run."""

    kills: dict[str, int]
    sent: int
    tape: Sequence[Message]
    stormy: Seen
    group: Seen
    calm: Seen
    dead: set[tuple[str, bytes]]  # topic and bytes of the dead letters
    deaths: list[str]  # collectors that died without being killed
    wall_s: float


def drill(config: DrillConfig, *, say: Say) -> Outcome:
    """Storm, outage, group; then the undisturbed run, and everything that the stores hold."""
    begun = time.monotonic()
    tape_config = TapeConfig(events=config.events, seed=config.seed)
    tape, chance = record(tape_config), random.Random(config.seed)
    cuts = _cuts(tape)
    with temporary_ground(lateness_s=tape_config.lateness_s) as place:
        producer = Producer(place.settings.kafka)
        with Collectors(place.settings_of("stormy", database=0)) as one:
            storm(place, one, producer, tape=tape[: cuts[0]], kills=config.kills, chance=chance, say=say)
            outage(one, producer, hour=tape[cuts[0] : cuts[1]], say=say)
            with Collectors(place.settings_of("group", database=1), group="drill", wanted=2) as several:
                rota(several, producer, tape=tape[cuts[1] :], kills=config.group_kills, chance=chance, say=say)
                _finish(several, say)
            _finish(one, say)
        dead = {(letter.topic, letter.value) for letter in read_dead_letters(place.settings.kafka)}
        say("undisturbed: a new collector over the same log")
        with Collectors(place.settings_of("calm", database=2)) as calm:
            _finish(calm, say)
        now = newest(calm.settings)
        runs = [look(run.settings, now=now) for run in (one, several, calm)]
        return Outcome(
            kills={**place.kills, "collector": one.kills, "member": several.kills}, sent=producer.sent, tape=tape,
            stormy=runs[0], group=runs[1], calm=runs[2], dead=dead,
            deaths=[*one.deaths, *several.deaths, *calm.deaths], wall_s=time.monotonic() - begun,
        )  # fmt: skip


def _cuts(tape: Sequence[Message]) -> tuple[int, int]:
    """Where the hour of the outage begins and ends: the last fifth of the tape is the group's."""
    end = len(tape) * 4 // 5
    begin = next(n for n, message in enumerate(tape) if message.due > tape[end].due - HOUR_S)
    return begin, end


def storm(
    place: Ground, run: Collectors, producer: Producer, *,
    tape: Sequence[Message], kills: int, chance: random.Random, say: Say,
) -> None:  # fmt: skip
    """Send the tape; at a random moment of each piece of it kill something."""
    faults = list(KINDS) * kills
    chance.shuffle(faults)
    size = -(-len(tape) // len(faults))
    for number, fault in enumerate(faults):
        with producer.sending(tape[number * size : (number + 1) * size], pieces=4, over_s=0.8):
            _await_work(run, chance)
            say(f"{number + 1} of {len(faults)}: kill -9 {fault}")
            if fault == "collector":
                run.kill(chance)
                time.sleep(chance.uniform(0.0, 0.3))
            elif fault == "redis":
                place.kill("redis", down_s=chance.uniform(0.0, 1.0))
            else:
                place.kill("kafka", down_s=chance.uniform(0.0, 1.0))
            run.mind()


def outage(run: Collectors, producer: Producer, *, hour: Sequence[Message], say: Say) -> None:
    """No collector for an hour of event time, whose events then come a second time; one starts again."""
    say(f"outage: no collector for {hour[-1].due - hour[0].due:.0f} s of event time, and {len(hour)} messages twice")
    run.kill_all()
    producer.send(hour)
    producer.send(hour)
    run.resume(1)


def rota(
    run: Collectors, producer: Producer, *, tape: Sequence[Message], kills: int, chance: random.Random, say: Say
) -> None:
    """Members of one group: two, then three; then again and again one is killed and another joins."""
    size = -(-len(tape) // (kills + 1))
    with producer.sending(tape[:size], pieces=4, over_s=2.0):
        _await_work(run, chance)
        say("group: a third collector joins")
        run.resume(3)
    for number in range(1, kills + 1):
        with producer.sending(tape[number * size : (number + 1) * size], pieces=4, over_s=2.0):
            _await_work(run, chance)
            say(f"group, {number} of {kills}: kill -9 one member, another joins")
            run.kill(chance)
            time.sleep(chance.uniform(0.0, 2.0))
            run.mind()


def _await_work(run: Collectors, chance: random.Random) -> None:
    """Mostly let the collectors get on with it first, then a random moment more; sometimes strike while they start."""
    if chance.random() < 0.8:
        before, until = _applied(run.settings), time.monotonic() + WORK_S
        while time.monotonic() < until and _applied(run.settings) == before:
            run.mind()
            time.sleep(0.02)
    time.sleep(chance.uniform(0.0, 0.5))


def _applied(settings: Settings) -> int:
    """Messages that the online store has, partitions together; 0 while it does not answer."""
    store = RedisStore(settings.redis)
    try:
        return sum(store.progress().values())
    except StoreUnavailable:
        return 0
    finally:
        store.close()


def _finish(run: Collectors, say: Say) -> None:
    run.await_stored()
    run.stop()
    say(f"{run.settings.var.name}: stores have everything")


def figures(outcome: Outcome) -> dict[str, float | None]:
    """The drill in numbers; a mismatch is a row or value that differs from the undisturbed run's or lacks there."""
    calm, wanted = outcome.calm, readable_ids(outcome.tape)
    out: dict[str, float | None] = {f"{kind}_kills": float(outcome.kills.get(kind, 0)) for kind in (*KINDS, "member")}
    out |= {"messages": float(outcome.sent), "wall_s": outcome.wall_s, "other_deaths": float(len(outcome.deaths))}
    for name, seen in (("stormy", outcome.stormy), ("group", outcome.group)):
        out[f"{name}_rows"] = float(len(seen.rows))
        out[f"{name}_row_mismatches"] = float(len(differing(seen.rows, calm.rows)))
        out[f"{name}_values"] = float(len(seen.values))
        out[f"{name}_value_mismatches"] = float(len(differing(seen.values, calm.values)))
        out[f"{name}_ids_missing"] = float(len(missing_ids(seen, wanted)))
        out[f"{name}_ids_repeated"] = float(len(repeated_ids(seen)))
        out[f"{name}_rooms_wrong"] = float(len(differing(seen.rooms, calm.rooms)))
    out["dead_letters_wrong"] = float(len(outcome.dead ^ unreadable(outcome.tape)))
    return out


def measure(settings: Settings, seed: int, say: Say, *, config: DrillConfig | None = None) -> Result:
    """Run the drill; `settings` are not used: its parts are its own."""
    config = config or DrillConfig(seed=seed)
    outcome = drill(config, say=say)
    for words in outcome.deaths:
        say(f"a collector died by itself: {words}")
    found = figures(outcome)
    zero = [name for name in found if name.endswith(("mismatches", "missing", "repeated", "wrong"))]
    bars = [bar(found, name, "<=", 0.0) for name in zero]
    bars += [bar(found, f"{kind}_kills", ">=", float(config.kills)) for kind in KINDS]
    late = sum(bool(row["late"]) for row in outcome.calm.rows.values())
    baseline: dict[str, float | None] = {
        "undisturbed_rows": float(len(outcome.calm.rows)),
        "undisturbed_values": float(len(outcome.calm.values)),
        "undisturbed_late_rows": float(late),
    }
    return Result(bench="faults", figures=found, baseline=baseline, bars=tuple(bars), seed=seed)


def main(
    kills: Annotated[int, typer.Option(min=1, help="Kills of each kind.")] = 20,
    group_kills: Annotated[int, typer.Option(min=0, help="Kills of members of a group.")] = 6,
    events: Annotated[int, typer.Option(min=1_000, help="Distinct events.")] = 30_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the events and of the moments.")] = 7,
) -> None:
    """Kill everything; print one JSON line; exit 1 when the stores differ from an undisturbed run's."""
    config = DrillConfig(kills=kills, group_kills=group_kills, events=events, seed=seed)
    try:
        result = measure(Settings(), seed, lambda line: print(line, file=sys.stderr, flush=True), config=config)
    except BenchError as error:
        print(f"faults: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(result.line())
    if not all(held.holds for held in result.bars):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
