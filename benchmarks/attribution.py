"""`livefeed bench attribution --json`: labels joined with the current feature store, and with accumulated snapshots.

Several small worlds whose viewers listen with the screen off: the events of such a visit reach the log only when the screen
is on again. The accumulated side is the product: impressions logged with their snapshot and the Spark build of corrected
samples, whenever the events came. The baseline joins each first positive when it arrives, as long as the impression still
waits and the store still has the item; a patient one waits for ever, which shows what waiting brings without a snapshot. All
are asked for the same labels, the first positives within their observation windows, counted from the world's own events.
Null control: the same worlds with every screen on.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.result import Result, bar
from benchmarks.screen_off import Arrival, ScreenOff, arrivals
from events import schema as s
from events.clock import utc
from events.log import Record
from events.tables import to_row
from events.topics import kind_of, topic_of
from features.attribution import Attribution, Kind
from features.definitions import LEASE_S
from features.labels import EFFECTIVE_WATCH_S, NAMES, OBJECTIVES
from features.snapshot import read_known, snapshot
from features.store import MemoryStore
from features.tables import DeltaTables
from monitoring.skew import same
from settings import Settings
from simulator.config import WorldConfig
from simulator.feed import RandomFeed
from simulator.world import World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SEEDS, HOURS = 5, 6.0
T_975 = 2.776  # Student's t for a 95 % interval of five seeds
LATENESS_S = 3_600.0
# Values that change by the clock alone say nothing about whether they were overwritten.
BY_CLOCK = frozenset({"item.publish_age_hours", "cross.creator_gap_h", "context.position"})
Say = Callable[[str], None]
Label = tuple[str, str, str]  # request, item, objective
CAUSES = ("late", "expired", "never_arrived")


@dataclass
class Joined:
    """What became of the labels of one world: joined, or lost by cause; `overwritten` of the joined got other values.

    `patient` are labels that a join without a deadline finds with the item still in the store.
    """

    truth: set[Label]
    current: set[Label] = field(default_factory=set)
    accumulated: set[Label] = field(default_factory=set)
    lost: Counter[str] = field(default_factory=Counter)
    patient: set[Label] = field(default_factory=set)
    overwritten: Counter[str] = field(default_factory=Counter)
    corrected: int = 0  # rows that came later still, as deltas

    def rate(self, found: set[Label]) -> float:
        """Share of the true labels that were joined."""
        return len(found & self.truth) / len(self.truth)


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Play, delay and join once a seed, with the screens off and with all of them on."""
    from features.spark import jars_in, session

    spark = session(jars=jars_in(settings.jars / "delta"), memory=settings.spark_memory, cores=settings.spark_cores)
    runs, nulls = [], []
    for one in range(seed, seed + SEEDS):
        events = played(one)
        runs.append(joined(spark, events, ScreenOff(), seed=one))
        nulls.append(joined(spark, events, replace(ScreenOff(), share=0.0, lost_share=0.0), seed=one))
        now, after = runs[-1].rate(runs[-1].current), runs[-1].rate(runs[-1].accumulated)
        say(
            f"seed {one}: {len(runs[-1].truth)} labels, joined {now:.1%} with the current store, {after:.1%} accumulated"
        )
    return _result(runs, nulls, seed)


def played(seed: int) -> list[s.Event]:
    """The events of one world by event time: random feeds, many clicks, the world's own faults off."""
    world = World(WorldConfig(seed=seed, viewers=200, hosts=60, items=60, sessions_per_day=6.0, click_offset=1.0))
    kept = _Kept([])
    world.advance(HOURS, kept, RandomFeed(world.on, seed=seed, writer=kept))
    return sorted(kept.events, key=lambda event: event.event_at)


def joined(spark: SparkSession, events: Sequence[s.Event], screens: ScreenOff, *, seed: int) -> Joined:
    """Both joins over the same events and the same delays."""
    told = arrivals(events, screens, seed=seed)
    out = Joined(truth=set(first_positives(events)))
    with_values = _current(events, told, out)
    with tempfile.TemporaryDirectory(prefix="livefeed-bench-") as scratch:
        _accumulated(spark, Path(scratch), with_values, out)
    return out


def first_positives(events: Sequence[s.Event]) -> dict[Label, s.Event]:
    """The first positive of each label that came within its observation window, from the events themselves."""
    shown = {(e.request_id, e.item_id): e.event_at for e in events if isinstance(e, s.Impression)}
    out: dict[Label, s.Event] = {}
    for event in events:
        request, item = getattr(event, "request_id", None), _item(event)
        start = shown.get((request or "", item or ""))
        if start is None or request is None or item is None or isinstance(event, s.Impression):
            continue
        gap = (event.event_at - start).total_seconds()
        for one in OBJECTIVES:
            if 0 <= gap <= one.observe_s and _says_yes(event, one.events):
                out.setdefault((request, item, one.name), event)
    return out


def _current(events: Sequence[s.Event], told: Sequence[Arrival], out: Joined) -> list[Arrival]:
    """Join on arrival with what the store has then; returns the arrivals, impressions with the values they were shown by."""
    positives: dict[str, list[Label]] = {}
    for label, event in first_positives(events).items():
        positives.setdefault(event.event_id, []).append(label)
    windows = {one.name: one.observe_s for one in OBJECTIVES}
    store, ends, seen = MemoryStore(), _ends(events), dict[tuple[str, str], s.Impression]()
    logged: list[Arrival] = []
    for at, event in told:
        if isinstance(event, s.Impression):
            event = msgspec.structs.replace(event, features=_values(store, event, at))
            seen[event.request_id, event.item_id] = event
        else:
            store.apply(event, event.event_at.timestamp())
        logged.append(Arrival(at, event))
        for label in positives.get(event.event_id, ()):
            impression = seen[label[:2]]
            late = at > impression.event_at.timestamp() + windows[label[2]]
            expired = at > ends.get(impression.item_id, math.inf)
            out.lost.update({"late": late, "expired": expired and not late, "patient_expired": expired})
            if expired:
                continue
            differs = _differ(impression.features or {}, _values(store, impression, at))
            out.patient.add(label)
            out.overwritten["patient"] += differs
            if not late:
                out.current.add(label)
                out.overwritten["current"] += differs
    out.lost["never_arrived"] = len(out.truth) - len(out.current) - out.lost["late"] - out.lost["expired"]
    return logged


def _accumulated(spark: SparkSession, lake: Path, told: Sequence[Arrival], out: Joined) -> None:
    """Store everything as it came, and let the product join it."""
    from features.samples import CORRECTED, build_samples

    tables, rows = DeltaTables(lake), dict[str, list[dict[str, Any]]]()
    for offset, (at, event) in enumerate(told):
        name, late = topic_of(event).name, at - event.event_at.timestamp() > LATENESS_S
        row = to_row(event, Record(name, 0, offset, None, b""), ingested_at=utc(at), late=late)
        rows.setdefault(name, []).append(row)
    for name, found in rows.items():
        tables.progress(name, partitions=[0])
        tables.append(name, found, offsets={0: len(told)})
    dates = tables.dates("impressions")
    report = build_samples(spark, lake, dates=dates, attribution=Attribution.CORRECTION)
    out.corrected = report.delayed or 0
    table = tables.read(CORRECTED, columns=["request_id", "item_id", "kind", *NAMES])
    for row in table.to_pylist():
        if row["kind"] == Kind.WINDOWED.value:
            out.accumulated.update((row["request_id"], row["item_id"], name) for name in NAMES if row[name])


def _values(store: MemoryStore, impression: s.Impression, at: float) -> dict[str, s.FeatureValue]:
    """The snapshot of the impression's viewer and item as the store has it at `at`."""
    known = read_known(store, impression.user_id, [impression.item_id], now=at)[0]
    return snapshot(impression.user_id, impression.item_id, known, now=at, surface=impression.surface)


def _differ(seen: Mapping[str, s.FeatureValue], now: Mapping[str, s.FeatureValue]) -> bool:
    return any(not same(seen[name], now[name], 1e-6) for name in seen.keys() - BY_CLOCK)


def _ends(events: Sequence[s.Event]) -> dict[str, float]:
    """When a store that drops what is over has forgotten an item: a lease after a room's close, or its removal."""
    out: dict[str, float] = {}
    for event in events:
        at = event.event_at.timestamp()
        match event:
            case s.RoomClosed(room_id=room):
                out[room] = at + LEASE_S
            case s.MediaRemoved(item_id=item):
                out[item] = at
            case _:
                pass
    return out


def _item(event: s.Event) -> str | None:
    return getattr(event, "item_id", None) or getattr(event, "room_id", None)


def _says_yes(event: s.Event, types: Sequence[str]) -> bool:
    watched = getattr(event, "watched_s", None)
    return kind_of(event) in types and (watched is None or watched >= EFFECTIVE_WATCH_S)


def _result(runs: Sequence[Joined], nulls: Sequence[Joined], seed: int) -> Result:
    truth = sum(len(run.truth) for run in runs)
    gains = [run.rate(run.accumulated) - run.rate(run.current) for run in runs]
    low, high = interval(gains)
    figures: dict[str, float | None] = {
        "join_rate": mean(run.rate(run.accumulated) for run in runs),
        "join_rate_worst_seed": min(run.rate(run.accumulated) for run in runs),
        "gain": mean(gains),
        "gain_low": low,
        "gain_high": high,
        "labels": float(truth),
        "later_deltas": float(sum(run.corrected for run in runs)),
        "null_gain_largest": max(abs(run.rate(run.accumulated) - run.rate(run.current)) for run in nulls),
        "null_join_rate": mean(run.rate(run.accumulated) for run in nulls),
    }
    baseline: dict[str, float | None] = {"current_join_rate": mean(run.rate(run.current) for run in runs)}
    for cause in CAUSES:
        baseline[f"current_lost_{cause}"] = sum(run.lost[cause] for run in runs) / truth
    baseline["patient_join_rate"] = mean(run.rate(run.patient) for run in runs)
    baseline["patient_lost_expired"] = sum(run.lost["patient_expired"] for run in runs) / truth
    for name in ("current", "patient"):
        found = sum(len(run.current if name == "current" else run.patient) for run in runs)
        baseline[f"{name}_overwritten"] = sum(run.overwritten[name] for run in runs) / found
    kept = sum(len(run.current) for run in nulls)
    baseline["null_current_overwritten"] = sum(run.overwritten["current"] for run in nulls) / kept
    bars = (
        bar(figures, "gain_low", ">", 0.0),
        bar(figures, "join_rate_worst_seed", ">=", 0.97),
        bar(figures, "null_gain_largest", "<=", 0.0),
    )
    return Result(bench="attribution", figures=figures, baseline=baseline, bars=bars, seed=seed)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean over the seeds."""
    half = T_975 * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


@dataclass
class _Kept:
    """An EventWriter that keeps the events."""

    events: list[s.Event]

    def send(self, event: s.Event) -> None:
        """Keep it."""
        self.events.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Any] = ()) -> None:
        """Broken bytes are not asked for here."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""
