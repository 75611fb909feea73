"""The points of the report's plots, taken from the sums of an event log; report_page.py draws them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from simulator.calibration_feed import PLACES
from simulator.calibration_figures import Seen
from simulator.calibration_log import DAY_S
from simulator.calibration_sums import BINS, MIDDLES, Floats, Sample, bin_of

COARSE = 15  # bins of 2 % to one of 35 %
DIGITS = 5
Numbers = npt.NDArray[Any] | Sequence[float]


class Line(Struct, frozen=True, kw_only=True):
    """A line of a plot; `kind` is world (what was measured) or published (dashed, from outside)."""

    label: str
    x: list[float]
    y: list[float]
    kind: str = "world"


class Plot(Struct, frozen=True, kw_only=True):
    """One plot; `form` is line, step or bars, `names` the bars' words, `marks` upright lines."""

    key: str
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    form: str = "line"
    log_x: bool = False
    log_y: bool = False
    names: list[str] = []
    marks: list[float] = []


def _line(label: str, x: Numbers, y: Numbers, *, kind: str = "world") -> Line:
    return Line(label=label, x=_plain(x), y=_plain(y), kind=kind)


def _plain(values: Numbers) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, np.float64)]


def _once(sample: Sample, name: str, *, columns: int) -> Floats:
    """A table's columns, everybody counted once."""
    total: Floats = sample.book.table(name, columns=columns)[:, :columns].sum(axis=0)
    return total


def _spread(sample: Sample, name: str, label: str) -> list[Line]:
    """Share of a histogram by bins of 35 %, all below a second in the first; nothing when nothing was seen."""
    counts = _once(sample, name, columns=BINS).reshape(-1, COARSE).sum(axis=1)
    if not counts.sum():
        return []
    start = bin_of(1.0) // COARSE
    counts[start], counts[:start] = counts[: start + 1].sum(), 0.0
    first, last = np.flatnonzero(counts)[[0, -1]]
    middles = np.sqrt(MIDDLES[::COARSE] * MIDDLES[COARSE - 1 :: COARSE])
    return [_line(label, middles[first : last + 1], (counts / counts.sum())[first : last + 1])]


def _below(sample: Sample, name: str, label: str) -> list[Line]:
    """Share of a histogram at or below each value, where it rises."""
    counts = _once(sample, name, columns=BINS)
    if not counts.sum():
        return []
    risen = np.cumsum(counts) / counts.sum()
    at = np.unique(np.searchsorted(risen, np.linspace(0.01, 1.0, 60) - 1e-9))
    return [_line(label, MIDDLES[at], risen[at])]


def plots(seen: Seen) -> list[Plot]:
    """Every plot, in the report's order; a plot of which nothing was seen has no lines."""
    return [
        _lengths(seen), _repeat(seen), _concurrency(seen), _audience(seen), _broadcasts(seen), _hours(seen), _sessions(seen),
        _funnel(seen), _places(seen), _delays(seen),
    ]  # fmt: skip


def _lengths(seen: Seen) -> Plot:
    lines = _spread(seen.viewers, "visit", "visits of rooms") + _spread(seen.viewers, "play", "plays of media (told)")
    return Plot(
        key="lengths", title="Watch lengths", x_label="seconds; marks at 3 s, 30 s and 31 min", y_label="share a bin of 35 %",
        lines=lines, form="step", log_x=True, marks=[3.0, 30.0, 1_884.0],
    )  # fmt: skip


def _repeat(seen: Seen) -> Plot:
    days = max(int(np.ceil(seen.span.days)), 1)
    visits, repeats = (_once(seen.viewers, f"{word} by day", columns=days) for word in ("visits", "repeats"))
    known = visits > 0
    x = (np.arange(days) + 1.0)[known]
    lines = [_line("world", x, repeats[known] / visits[known])] if known.any() else []
    edges = [1.0, float(max(days, 2))]
    lines += (
        [_line(f"published {edge:.0%}", edges, [edge, edge], kind="published") for edge in (0.40, 0.75)]
        if lines
        else []
    )
    return Plot(
        key="repeat", title="Repeat share of room entries", x_label="day that counts", y_label="share", lines=lines
    )


def _concurrency(seen: Seen) -> Plot:
    hours = max(int(np.ceil(seen.span.days * 24 - 1e-9)), 1)
    lasts = np.minimum(np.full(hours, 3_600.0), seen.span.days * DAY_S - 3_600.0 * np.arange(hours))
    lines = []
    for sample, name, label in (
        (seen.hosts, "seconds on air by hour", "rooms on air"),
        (seen.viewers, "seconds in rooms by hour", "viewers in rooms"),
    ):
        seconds = _once(sample, name, columns=hours)
        lines += [_line(label, np.arange(hours) + 0.5, seconds / lasts)] if seconds.any() else []
    return Plot(
        key="concurrency",
        title="At a time, mean of each hour",
        x_label="hour that counts",
        y_label="count",
        lines=lines,
    )


def _audience(seen: Seen) -> Plot:
    sizes = np.sort(seen.viewers.book.table("seconds by host").sum(axis=0))[::-1]
    sizes = sizes[sizes > 0]
    if len(sizes) < 2:
        lines = []
    else:
        shares, ranks = sizes / sizes.sum(), np.arange(1, len(sizes) + 1)
        kept = np.unique(np.geomspace(1, len(sizes), 60).round().astype(int)) - 1
        head = kept[kept < max(len(sizes) // 2, 2)]
        middle = head[len(head) // 2]
        lines = [_line("world", ranks[kept], shares[kept])]
        for slope in (1.1, 1.3):
            falls = shares[middle] * (ranks[head] / ranks[middle]) ** -slope
            lines.append(_line(f"assumed slope {slope}", ranks[head], falls, kind="published"))
    return Plot(
        key="audience", title="Watching by host", x_label="rank of the host", y_label="share of all seconds", lines=lines,
        log_x=True, log_y=True,
    )  # fmt: skip


def _broadcasts(seen: Seen) -> Plot:
    lines = _below(seen.hosts, "broadcast", "world")
    lines = [Line(label=one.label, x=_plain(np.asarray(one.x) / 3_600.0), y=one.y) for one in lines]
    return Plot(
        key="broadcasts", title="Length of broadcasts", x_label="hours; marks at the assumed range of the median",
        y_label="share at or below", lines=lines, log_x=True, marks=[1.0, 4.0],
    )  # fmt: skip


def _hours(seen: Seen) -> Plot:
    counts = _once(seen.viewers, "sessions by hour", columns=24)
    lines = [_line("sessions", np.arange(24) + 0.5, counts / counts.sum())] if counts.sum() else []
    return Plot(
        key="hours", title="Sessions by local hour", x_label="hour of the day; marks at the published peak, 19 to 23",
        y_label="share", lines=lines, form="step", marks=[19.0, 23.0] if lines else [],
    )  # fmt: skip


def _sessions(seen: Seen) -> Plot:
    return Plot(
        key="sessions", title="Length of sessions", x_label="seconds", y_label="share at or below",
        lines=_below(seen.viewers, "session", "world"), log_x=True,
    )  # fmt: skip


def _funnel(seen: Seen) -> Plot:
    stages = (
        ("shown", "items shown"), ("clicks", "clicks"), ("visits from feed", "rooms entered"),
        ("effective from feed", "watched 30 s"), ("interacted", "commented or shared"),
        ("followed", "followed"), ("gave", "gave"),
    )  # fmt: skip
    counts = [float(seen.viewers.book.sums(name).sum()) for name, _ in stages]
    lines = [_line("count", list(range(len(stages))), counts)] if counts[0] else []
    return Plot(
        key="funnel", title="The funnel, counts", x_label="", y_label="", lines=lines, form="bars", log_y=True,
        names=[label for _, label in stages],
    )  # fmt: skip


def _places(seen: Seen) -> Plot:
    places, lines = np.arange(1, PLACES + 1), []
    for which, label in (("home", "all pages"), ("random", "pages drawn at random")):
        shown, clicked = (_once(seen.viewers, f"{which} {word}", columns=PLACES) for word in ("shown", "clicked"))
        known = (shown > 0) & (clicked > 0)
        if known.any():
            lines.append(_line(label, places[known], clicked[known] / shown[known]))
            if which == "random":
                first = (clicked[known] / shown[known])[0]
                lines.append(_line("assumed k^-0.7", places[known], first * places[known] ** -0.7, kind="published"))
    return Plot(
        key="places", title="Click rate by place of home pages of twelve", x_label="place", y_label="clicks an item shown",
        lines=lines, log_x=True, log_y=True,
    )  # fmt: skip


def _delays(seen: Seen) -> Plot:
    names = (("click after", "first click of a page"), ("interaction after", "interaction"), ("follow after", "follow"),
             ("gift after", "gift"))  # fmt: skip
    lines = [line for name, label in names for line in _below(seen.viewers, name, label)]
    return Plot(
        key="delays", title="Delays from the page, or from entering", x_label="seconds", y_label="share at or below",
        lines=lines, log_x=True,
    )  # fmt: skip
