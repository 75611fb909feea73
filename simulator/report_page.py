"""The calibration report as one page that needs nothing beside it: what was met, every figure with its range, and the plots.

report.html is drawn from the record alone, so a kept report.json can be drawn again.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from simulator.calibration import Calibration, Figure, Verdict
from simulator.calibration_plots import Line, Plot
from simulator.calibration_table import Published
from simulator.errors import WorldError

PAGE = "report.html"
BLUE, ORANGE, GREEN, VIOLET, GREY = "#2563a8", "#c2571a", "#2f7d4f", "#7a4aa0", "#8a8f98"
COLORS = (BLUE, ORANGE, GREEN, VIOLET)
FIRST_HOUR_UNIT_S = 7_200.0
VERDICTS: tuple[Verdict, ...] = ("inside", "outside", "undecided", "too short", "not seen")
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2430;max-width:1320px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em} h2{font-size:1.15em;margin:2em 0 .4em} p{max-width:52em}
table{border-collapse:collapse;width:100%;font-size:.92em;table-layout:fixed}
.figure{width:23%} .world{width:8%} .interval{width:11%} .published{width:8%} .range{width:11%} .verdict{width:12%}
td,th{padding:.35em .6em;text-align:left;vertical-align:top}
th{border-bottom:2px solid #c9ced6;font-weight:600} td{border-bottom:1px solid #e6e9ee}
small{color:#5d6673;display:block} .said{white-space:nowrap;font-weight:600} .assumed .said{font-weight:400}
.inside .said{color:#2f7d4f} .outside .said{color:#b3341f} .undecided .said{color:#8a6410}
.none .said{color:#8a8f98;font-weight:400}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1em} figure{margin:0}
img{width:100%;height:auto} .wide{max-width:920px} .counts{width:auto;table-layout:auto}
"""


def write_page(record: Calibration, out: Path) -> Path:
    """Write report.html into a folder that is there; WorldError when that cannot be."""
    try:
        (out / PAGE).write_text(to_html(record), encoding="utf-8")
    except OSError as error:
        raise WorldError(f"the report cannot be written to {out}: {error.strerror}") from None
    return out / PAGE


def to_html(record: Calibration) -> str:
    """The whole page."""
    title = f"World {html.escape(record.world)} against published figures"
    sections = dict.fromkeys(one.section for one in record.figures)
    tables = "".join(_section(name, [one for one in record.figures if one.section == name]) for name in sections)
    pictures = "".join(f"<figure>{_picture(_draw(plot), plot.title)}</figure>" for plot in record.plots if plot.lines)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>{html.escape(played(record))}</p>{_counts(record)}<p>{html.escape(_CAVEAT)}</p>"
        f"<h2>Where each figure falls in its range</h2><div class='wide'>{_overview(record.figures)}</div>"
        f"{tables}<h2>Plots</h2><div class='plots'>{pictures}</div></html>"
    )


_CAVEAT = (
    "Every value is counted in the world's event log; its 95 % interval comes from resampling viewers (or hosts) in 200 "
    "groups. A figure is inside when its whole interval is in the range, outside when none of it is, else undecided. "
    "Where the verdict is not bold, the range is an assumption of ours: to be inside it says that the world is as we meant "
    "it, and nothing of people."
)


def played(record: Calibration) -> str:
    """One sentence on how the world was played."""
    return (
        f"Seed {record.seed}, {record.viewers:,} viewers, {record.hosts:,} hosts; {record.hours:g} hours count, after "
        f"{record.warm_up_h:g} of warm-up; feeds by {record.policy}, {record.random_pages:.0%} of pages at random; "
        f"{sum(record.events.values()):,} events."
    )


def _counts(record: Calibration) -> str:
    head = "".join(f"<th>{verdict}</th>" for verdict in VERDICTS)
    rows = "".join(
        f"<tr><td>{label}</td>"
        + "".join(f"<td>{record.count(verdict, assumed=assumed)}</td>" for verdict in VERDICTS)
        + "</tr>"
        for label, assumed in (("against what others published", False), ("against our own assumptions", True))
    )
    return f"<table class='counts'><tr><th>figures</th>{head}</tr>{rows}</table>"


def _section(name: str, figures: Sequence[Figure]) -> str:
    columns = {
        "figure": "", "world": "world", "interval": "95 % interval", "published": "published or assumed", "range": "range",
        "verdict": "verdict", "source": "source",
    }  # fmt: skip
    head = "".join(f"<th class='{one}'>{word}</th>" for one, word in columns.items())
    return f"<h2>{html.escape(name)}</h2><table><tr>{head}</tr>{''.join(_row(one) for one in figures)}</table>"


def _row(one: Figure) -> str:
    assumed = one.published is not None and one.published.basis == "assumption"
    shade = one.verdict if one.verdict in ("inside", "outside", "undecided") else "none"
    note = f"<small>{html.escape(one.note)}</small>" if one.note else ""
    cells = (
        f"<td>{html.escape(one.label)}{note}</td>"
        f"<td>{said(one.value, one.unit)}<small>of {one.n:,}</small></td>"
        f"<td>{between(one.low, one.high, one.unit)}</td>"
        f"<td>{said(one.published.value, one.unit) if one.published and one.published.value else ''}</td>"
        f"<td>{ranged(one.published, one.unit)}</td><td class='said'>{html.escape(verdict_of(one))}</td>"
        f"<td>{_source(one.published)}</td>"
    )
    return f"<tr id='{one.key}' class='{shade}{' assumed' if assumed else ''}'>{cells}</tr>"


def _source(published: Published | None) -> str:
    if published is None:
        return ""
    same = published.basis == "assumption"  # then the source says so itself
    by = f"; range: {published.range_from}" if published.range_from not in ("", "with the figure") else ""
    return f"<small>{'' if same else f'<b>{published.basis}</b>: '}{html.escape(published.source + by)}</small>"


def verdict_of(one: Figure) -> str:
    """The verdict in words, with how far off where it is outside."""
    words = str(one.verdict)
    if one.off is not None:
        words += f", {one.off:+.1f} h" if one.unit == "hour" else f", x {one.off:.2g}"
    return words


def ranged(published: Published | None, unit: str) -> str:
    """The range in words; empty when there is none."""
    if published is None or published.low is None:
        return ""
    return (
        f"{said(published.low, unit)} or more"
        if published.high is None
        else between(published.low, published.high, unit)
    )


def between(low: float | None, high: float | None, unit: str) -> str:
    """Two values with their unit; empty when there is none."""
    if low is None or high is None:
        return ""
    first, last = said(low, unit), said(high, unit)
    (number, _, name), (_, _, same) = first.partition(" "), last.partition(" ")
    return f"{number if name == same else first} to {last}"


def said(value: float | None, unit: str) -> str:
    """A value for people: shares in per cent, seconds in the unit that fits, hours of the day as on a clock."""
    if value is None:
        return "none"
    if unit == "share":
        return f"{100 * value:.3g} %" if value >= 1e-4 or value <= 0 else f"{100 * value:.1g} %"
    if unit == "hour":
        minutes = round(60 * (value % 24)) % 1_440
        return f"{minutes // 60:02d}:{minutes % 60:02d}"
    if unit in ("s", "h"):
        return _seconds(value)
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _seconds(value: float) -> str:
    for name, size, most in (("s", 1.0, 120.0), ("min", 60.0, FIRST_HOUR_UNIT_S)):
        if value < most:
            return f"{value / size:.3g} {name}"
    return f"{value / 3_600.0:.3g} h"


def _overview(figures: Sequence[Figure]) -> str:
    """Figures with a range on one scale: 0 its lower edge, 1 its upper, by the logarithm; what is far off is at the rim."""
    shown = [one for one in figures if _place(one, one.value) is not None]
    if not shown:
        return ""
    sheet = Sheet(figsize=(10, 0.27 * len(shown) + 1.0), layout="constrained")
    axes = sheet.add_subplot()
    axes.axvspan(0, 1, color="#e3efe6")
    for row, one in enumerate(shown):
        assumed = one.published is not None and one.published.basis == "assumption"
        color = GREY if assumed else BLUE
        at, low, high = (_rim(_place(one, value)) for value in (one.value, one.low, one.high))
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=color, linewidth=2)
        if at is not None:
            axes.plot([at], [row], marker="<" if at <= -2 else ">" if at >= 3 else "o", color=color, markersize=6)
    axes.set_yticks(range(len(shown)), [one.label for one in shown], fontsize=9)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlim=(-2.1, 3.1))
    axes.set_xticks([0, 1], ["lower edge", "upper edge"])
    axes.set_title("blue: held against what others published; grey: against assumptions", fontsize=9, loc="left")
    _plain(axes)
    return _picture(sheet, "where each figure falls in its range")


def _place(one: Figure, value: float | None) -> float | None:
    published = one.published
    if value is None or published is None or published.low is None or published.high is None:
        return None
    low, high = published.low, published.high
    if one.unit == "hour":
        return (value - low) / (high - low)
    return -math.inf if value <= 0 else (math.log(value / low)) / math.log(high / low)


def _rim(place: float | None) -> float | None:
    return None if place is None else min(max(place, -2.0), 3.0)


def _draw(plot: Plot) -> Sheet:
    sheet = Sheet(figsize=(6, 3.4), layout="constrained")
    axes = sheet.add_subplot()
    if plot.form == "bars":
        _bars(axes, plot)
    else:
        _lines(axes, plot)
    for mark in plot.marks:
        axes.axvline(mark, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title(plot.title, loc="left", fontsize=11)
    axes.set_xlabel(plot.x_label, fontsize=9)
    axes.set_ylabel(plot.y_label, fontsize=9)
    axes.tick_params(labelsize=9)
    _plain(axes)
    return sheet


def _lines(axes: Axes, plot: Plot) -> None:
    world = 0
    for line in plot.lines:
        published = line.kind == "published"
        color = GREY if published else COLORS[world % len(COLORS)]
        _line(axes, line, step=plot.form == "step", color=color, dashed=published)
        world += not published
    if plot.log_x:
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, [x for line in plot.lines for x in line.x])
    if plot.log_y:
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis, [y for line in plot.lines for y in line.y])
    else:
        axes.set_ylim(bottom=0)
    if len(plot.lines) > 1:
        axes.legend(fontsize=8, frameon=False)


def _plain_numbers(axis: Axis, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis as plain numbers, at 1, 2 and 5 where it spans little."""
    above = [value for value in values if value > 0]
    little = bool(above) and max(above) < 300 * min(above)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if little else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, line: Line, *, step: bool, color: str, dashed: bool) -> None:
    style: dict[str, Any] = {"color": color, "label": line.label, "linewidth": 1.2 if dashed else 1.8}
    if dashed:
        axes.plot(line.x, line.y, linestyle="--", **style)
    elif step:
        axes.step(line.x, line.y, where="mid", **style)
    else:
        axes.plot(line.x, line.y, marker="o" if len(line.x) <= 20 else "", markersize=3, **style)


def _bars(axes: Axes, plot: Plot) -> None:
    counts = np.array(plot.lines[0].y)
    rows = np.arange(len(counts))
    axes.barh(rows, np.maximum(counts, 0.5), color=BLUE)
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        axes.text(max(count, 0.5) * 1.15, row, f"{count:,.0f}", va="center", fontsize=8)
    axes.set_yticks(rows, plot.names)
    axes.set(ylim=(len(counts) - 0.5, -0.5), xscale="log", xlim=(0.5, max(float(counts.max()), 1.0) * 6))
    _plain_numbers(axes.xaxis, [1.0, 1e6])


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _picture(sheet: Sheet, title: str) -> str:
    """An SVG inside the page; the same record gives the same bytes."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "livefeed", "svg.fonttype": "none", "font.family": "sans-serif"}):
        sheet.savefig(drawn, format="svg", metadata={"Date": None})
    body = base64.b64encode(drawn.getvalue()).decode()
    return f"<img alt='{html.escape(title)}' src='data:image/svg+xml;base64,{body}'>"
