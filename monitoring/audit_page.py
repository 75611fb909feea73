"""An audit as one page that needs nothing beside it: what came out and why, every ratio with its bounds, tables by group.

Drawn from the record alone, so a kept audit.json can be drawn again.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from events.clock import utc
from monitoring.audit_record import AuditRecord, Cell, Check, Inequality, Note, TableRow
from registry.verdict import Outcome

_COLOURS = {Outcome.PASS: "#2f7d4f", Outcome.FAIL: "#b3341f", Outcome.UNDECIDED: "#b8860b"}
BLUE, GREY = "#2563a8", "#8a8f98"
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2430;max-width:1200px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin-bottom:.2em} h2{font-size:1.1em;margin:1.8em 0 .4em} p{max-width:60em}
table{border-collapse:collapse;font-size:.9em;margin-bottom:1em} td,th{padding:.3em .7em;text-align:right;
border-bottom:1px solid #e6e9ee} td.word,th.word{text-align:left} .said{padding:.6em 1em;border-left:6px solid}
.pass{border-color:#2f7d4f;background:#eef6f0} .fail{border-color:#b3341f;background:#fbeae7}
.undecided{border-color:#b8860b;background:#fbf5e4} .plots{display:grid;gap:1em;margin:0;
grid-template-columns:repeat(auto-fit,minmax(360px,1fr))} figure{margin:0} img{width:100%} small{color:#5d6673}
"""
_ABOUT = (
    "Each line is a group's ratio with simultaneous bounds: the rate of its viewers over everybody else's, or a group of "
    "creators' share of exposure over its share of merit. A change of exposure counts as far as it took a group below its "
    "merit; what came nearer to merit shows above 0. Green is proved above the dashed line, red proved below it, amber "
    "neither. Groups too small to judge alone are judged together as “pooled”; hollow marks are reported and do not gate."
)
_CELLS = ("family", "group", "outcome", "reason", "viewers", "events", "value", "reference", "ratio or change", "low", "high",
          "threshold", "p below", "p above", "months open")  # fmt: skip
_NOTES = ("number", "dimension", "group", "viewers", "value", "low", "high", "incumbent", "flag")
_SPREAD = ("side", "creators", "Gini", "share of the top 1 %", "shown at all", "shown in 10,000 requests")


def write_page(record: AuditRecord, path: Path) -> Path:
    """Write the page of one record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_html(record), encoding="utf-8")
    return path


def to_html(record: AuditRecord) -> str:
    """The whole page."""
    title = f"Bias audit of line {html.escape(record.line)}, {html.escape(record.month)}"
    levels = [cell for cell in record.cells if cell.check is Check.LEVEL]
    plots = "".join(
        f"<figure>{_picture(_forest(list(cells)), str(family))}</figure>"
        for family, cells in groupby(levels, key=lambda cell: cell.family)
    )
    curves = f"<div class='plots'><figure>{_picture(_lorenz(record.inequality), 'Lorenz curve')}</figure></div>"
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f"{_said(record)}{_troubles(record)}<h2>Ratios</h2><p>{_ABOUT}</p><div class='plots'>{plots}</div>"
        f"<h2>Every cell</h2>{_rows(_CELLS, map(_cell_row, record.cells), words=4)}"
        f"<h2>Spread of exposure over creators</h2>{curves if any(one.lorenz for one in record.inequality) else ''}"
        f"{_rows(_SPREAD, map(_spread_row, record.inequality), words=1)}"
        f"<h2>Rates by group, as they are</h2>{_tables(record.tables)}"
        f"<h2>Also measured</h2><p>None of these gates. Groups of fewer than {record.config.suppress_below} viewers show no "
        f"numbers.</p>{_rows(_NOTES, map(_note_row, record.notes), words=3)}</html>"
    )


def _said(record: AuditRecord) -> str:
    sides = f"{len(record.releases)} releases of the line, compared with {len(record.incumbents)} of other lines"
    if record.reranked is not None:
        ours, theirs = (html.escape(one) for one in (record.reranked.candidate, record.reranked.incumbent))
        sides = f"{ours} and {theirs} each put {record.reranked.requests:,} logged requests in order again"
    return (
        f"<p class='said {record.outcome}'><b>{record.outcome}</b>, because: {html.escape(', '.join(record.reasons))}"
        f"<br>{html.escape(record.sentence)}</p><p>Judged by {html.escape(record.source)} up to {utc(record.at):%Y-%m-%d}; "
        f"{sides}. A ratio must be proved above {record.config.four_fifths:g}; a candidate may cost a group "
        f"{100 * record.config.worsened:g} points of it.</p>"
    )


def _troubles(record: AuditRecord) -> str:
    said = "".join(
        f"<li>{html.escape(one.text)}{'' if one.holds else ' (does not hold)'}</li>" for one in record.troubles
    )
    return f"<h2>Not judged</h2><ul>{said}</ul>" if said else ""


def _rows(head: Sequence[str], rows: Iterable[Sequence[object]], *, words: int) -> str:
    """A table; the first columns are words. None shows as nothing."""
    names = "".join(f"<th{' class=word' if n < words else ''}>{html.escape(name)}</th>" for n, name in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=word' if n < words else ''}>{_text(cell)}</td>" for n, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{names}</tr>{body}</table>" if body else "<p>None.</p>"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return (
        f"{cell:.4g}" if isinstance(cell, float) else html.escape(f"{cell:,}" if isinstance(cell, int) else str(cell))
    )


def _cell_row(cell: Cell) -> tuple[object, ...]:
    family = (
        f"{cell.family}{'' if cell.check is Check.LEVEL else ', change'}{'' if cell.family.gates else ' (reported)'}"
    )
    return (
        family, _group(cell), cell.outcome, cell.reason, cell.viewers, cell.events, cell.value, cell.reference,
        cell.estimate, cell.low, cell.high, cell.threshold, cell.p_below, cell.p_above, cell.months_held or None,
    )  # fmt: skip


def _group(cell: Cell) -> str:
    return cell.group if cell.members == (cell.group,) else f"{cell.group}: {', '.join(cell.members)}"


def _note_row(one: Note) -> tuple[object, ...]:
    viewers = "too few" if one.viewers is None else one.viewers
    return (one.name, one.dimension, one.group, viewers, one.value, one.low, one.high, one.incumbent, one.flag)


def _spread_row(one: Inequality) -> tuple[object, ...]:
    return (one.side, one.creators, one.gini, one.top_share, one.coverage, one.coverage_10k)


def _tables(rows: Sequence[TableRow]) -> str:
    out = ""
    for dimension, found in groupby(rows, key=lambda row: row.dimension):
        listed = list(found)
        metrics = list(listed[0].values)
        body = [(row.group, row.viewers, *(row.values[one] for one in metrics)) for row in listed]
        out += _rows((dimension, "viewers", *metrics), body, words=1)
    return out


def _forest(cells: Sequence[Cell]) -> Figure:
    sheet = Figure(figsize=(5, 1.1 + 0.32 * len(cells)), layout="constrained")
    axes = sheet.add_subplot()
    for place, cell in enumerate(reversed(cells)):
        colour = _COLOURS[cell.outcome]
        if cell.estimate is None:
            continue
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [place, place], color=colour, linewidth=2)
        axes.plot(cell.estimate, place, "o", color=colour, markerfacecolor=colour if cell.family.gates else "white")
    axes.axvline(cells[0].threshold, color=GREY, linewidth=1, linestyle="--")
    axes.axvline(1.0, color=GREY, linewidth=0.6)
    axes.set_yticks(range(len(cells)), [f"{cell.group} ({cell.viewers:,})" for cell in reversed(cells)], fontsize=8)
    axes.set_ylim(-0.6, len(cells) - 0.4)
    axes.set_title(str(cells[0].family), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return sheet


def _lorenz(sides: Sequence[Inequality]) -> Figure:
    sheet = Figure(figsize=(5, 3.2), layout="constrained")
    axes = sheet.add_subplot()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8)
    for colour, side in zip((BLUE, GREY), (one for one in sides if one.lorenz), strict=False):
        steps = [100 * n / (len(side.lorenz) - 1) for n in range(len(side.lorenz))]
        axes.plot(steps, [100 * one for one in side.lorenz], color=colour, linewidth=1.8, label=side.side)
    axes.set_xlabel("creators, least shown first, %", fontsize=9)
    axes.set_ylabel("exposure, %", fontsize=9)
    if any(side.lorenz for side in sides):
        axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return sheet


def _picture(sheet: Figure, title: str) -> str:
    """An SVG inside the page; the same record gives the same bytes."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "livefeed", "svg.fonttype": "none", "font.family": "sans-serif"}):
        sheet.savefig(drawn, format="svg", metadata={"Date": None})
    body = base64.b64encode(drawn.getvalue()).decode()
    return f"<img alt='{html.escape(title)}' src='data:image/svg+xml;base64,{body}'>"
