"""Holds a world against what is published of real platforms: plays it, reads its event log, and judges each figure.

    record = calibrate(named("live-first"), name="live-first", hours=48.0)

Nothing is read from the world itself but its log. An outcome of the run is a fact about our world alone: a figure inside its
published range makes nothing true of people, and most ranges are assumptions, marked as such.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from simulator.calibration_feed import Pages, Plays, Sessions
from simulator.calibration_figures import FIGURES, Seen, seen
from simulator.calibration_live import Rooms, Visits
from simulator.calibration_log import HOUR_S, Notes, Tape
from simulator.calibration_plots import Plot, plots
from simulator.calibration_sums import Estimate
from simulator.calibration_table import PUBLISHED, Published
from simulator.config import WorldConfig
from simulator.errors import BadDial, WorldError
from simulator.feed import MixedFeed, RandomFeed
from simulator.policies import Overheard, PolicyFeed, make
from simulator.world import LONGEST_H, World

VERSION = 1  # of report.json
TAIL_H = 6.0  # played after the hours that count, so that what began in them has come to its end
RECORD = "report.json"
Verdict = Literal["inside", "outside", "undecided", "too short", "no published figure", "not seen"]


class Figure(Struct, frozen=True, kw_only=True):
    """One figure: the world's value with its 95 % interval (None: not seen, or too few people), and what is published.

    Where it is outside, `off` is the value over the nearest edge of the range (an hour of the day: less that edge);
    `n` is what the value rests on.
    """

    key: str
    section: str
    label: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    published: Published | None
    verdict: Verdict
    off: float | None
    note: str


class Calibration(Struct, frozen=True, kw_only=True):
    """The report: how the world was played, every figure, and the points of the plots. Equal seeds give equal bytes."""

    version: int
    world: str
    seed: int
    start_at: str
    warm_up_h: float
    hours: float
    policy: str
    random_pages: float
    viewers: int
    hosts: int
    events: dict[str, int]
    figures: list[Figure]
    plots: list[Plot]

    def count(self, verdict: Verdict, *, assumed: bool) -> int:
        """Figures with that verdict, held against assumptions or against what others published."""
        return sum(
            one.verdict == verdict and (one.published.basis == "assumption") == assumed
            for one in self.figures
            if one.published is not None
        )


def calibrate(
    config: WorldConfig, *, name: str, hours: float, warm_up_h: float = 24.0, policy: str = "popularity",
    random_pages: float = 0.1, report: Callable[[float], None] | None = None,
) -> Calibration:  # fmt: skip
    """Play a world in process for `warm_up_h`, the `hours` that count and a tail, and judge its log.

    BadDial for what is out of range. `report` is called with the hours played so far, of `played_h(...)`.
    """
    _check(hours, warm_up_h)
    since = config.start_at.timestamp() + warm_up_h * HOUR_S
    world = World(config)
    tape, rooms = tape_of(since=since, until=since + hours * HOUR_S)
    ordered = PolicyFeed(make(policy, world), world, writer=tape)
    random = RandomFeed(world.on, seed=config.seed, writer=tape)
    feed = MixedFeed(ordered, random, share=random_pages, seed=config.seed)
    world.advance(played_h(hours, warm_up_h=warm_up_h), Overheard(ordered, tape), feed, report=report)
    tape.finish()
    looked = seen(tape.notes, rooms, seed=config.seed)
    return Calibration(
        version=VERSION, world=name, seed=config.seed, start_at=config.start_at.isoformat(), warm_up_h=warm_up_h, hours=hours,
        policy=policy, random_pages=random_pages, viewers=config.viewers, hosts=config.hosts,
        events=dict(sorted(tape.kinds.items())), figures=figures(looked), plots=plots(looked),
    )  # fmt: skip


def played_h(hours: float, *, warm_up_h: float) -> float:
    """Hours of event time that a report plays."""
    return warm_up_h + hours + TAIL_H


def _check(hours: float, warm_up_h: float) -> None:
    longest = LONGEST_H / 2
    if not 0 < hours <= longest:
        raise BadDial(f"world dial hours={hours} is not allowed; give a number above 0, at most {longest:g}")
    if not 0 <= warm_up_h < longest - TAIL_H:
        raise BadDial(f"world dial warm_up={warm_up_h} is not allowed; give a number from 0 to {longest - TAIL_H:g}")


def tape_of(*, since: float, until: float) -> tuple[Tape, Rooms]:
    """A tape with every part that the figures need, for what begins in [since, until) epoch seconds; and its rooms."""
    kept: list[Rooms] = []

    def rooms(notes: Notes) -> Rooms:
        kept.append(Rooms(notes))
        return kept[0]

    return Tape(since=since, until=until, parts=(Pages, Plays, Sessions, Visits, rooms)), kept[0]


def figures(looked: Seen) -> list[Figure]:
    """Every figure of a log, in the report's order."""
    out = []
    for row in FIGURES:
        found, published = row.of(looked) or Estimate(None), PUBLISHED.get(row.key)
        value, low, high = (None if one is None else _rounded(one) for one in found[:3])
        verdict = judge(Estimate(value, low, high), published)
        if looked.span.days < row.least_days and verdict in ("inside", "outside", "undecided"):
            verdict = "too short"
        out.append(
            Figure(
                key=row.key, section=row.section, label=row.label, unit=row.unit, value=value, low=low, high=high, n=found.n,
                published=published, verdict=verdict, note=row.note,
                off=_off(value, published, unit=row.unit) if verdict == "outside" else None,
            )
        )  # fmt: skip
    return out


def judge(found: Estimate, published: Published | None) -> Verdict:
    """Whether the whole interval is inside the published range, outside it, or neither; without an interval, undecided."""
    if found.value is None:
        return "not seen"
    if published is None or published.low is None:
        return "no published figure"
    if found.low is None or found.high is None:
        return "undecided"
    edges = published.low, math.inf if published.high is None else published.high
    if found.high < edges[0] or found.low > edges[1]:
        return "outside"
    return "inside" if edges[0] <= found.low and found.high <= edges[1] else "undecided"


def _off(value: float | None, published: Published | None, *, unit: str) -> float | None:
    if value is None or published is None or published.low is None:
        return None
    edge = published.low if value < published.low or published.high is None else published.high
    return _rounded(value - edge if unit == "hour" else value / edge)


def _rounded(value: float) -> float:
    """To six digits: the last ones of a sum depend on how a machine adds."""
    return float(f"{value:.6g}") if math.isfinite(value) else value


def write_record(record: Calibration, out: Path) -> Path:
    """Write report.json into a folder, made when missing; WorldError when that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    except OSError as error:
        raise WorldError(f"the report cannot be written to {out}: {error.strerror}") from None
    return out / RECORD


def read_record(out: Path) -> Calibration:
    """The record that `write_record` left in a folder; WorldError when it is none of this version."""
    try:
        record = msgspec.json.decode((out / RECORD).read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError) as error:
        raise WorldError(f"{out / RECORD} is no calibration report: {error}") from None
    if record.version != VERSION:
        raise WorldError(f"{out / RECORD} has version {record.version}; this program reads version {VERSION}")
    return record
