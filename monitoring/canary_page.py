"""A canary as one page that needs nothing beside it: what was decided and why, lift and bounds over time, every number.

Drawn from the log alone, so an old canary can be drawn again.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from events.clock import utc
from monitoring.canary_gate import Action, Decision
from monitoring.canary_log import Entry
from monitoring.canary_plan import ExperimentPlan, MetricPlan, Role
from monitoring.errors import BadRecord
from registry.verdict import Evidence

BLUE, RED, GREEN, GREY = "#2563a8", "#b3341f", "#2f7d4f", "#8a8f98"
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2430;max-width:1200px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin-bottom:.2em} h2{font-size:1.1em;margin:1.8em 0 .4em} p{max-width:56em}
table{border-collapse:collapse;font-size:.92em} td,th{padding:.3em .7em;text-align:right;border-bottom:1px solid #e6e9ee}
td.word,th.word{text-align:left} .said{padding:.6em 1em;border-left:6px solid #8a8f98;background:#f4f5f7}
.promote{border-color:#2f7d4f} .rollback,.hold{border-color:#b3341f} .end,.extend{border-color:#b8860b}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(360px,1fr));gap:1em} img{width:100%} small{color:#5d6673}
"""
_ABOUT = (
    "Lifts are relative, canary over control, viewers as units. The dark line is the lift so far with the interval that one "
    "look alone would have; the red line is the upper bound that holds at every look, and harm is proved where it falls "
    "below zero. The dashed line is where the decision is due, and only the numbers there decide on a promotion; the dotted "
    "line is the gain that it needs, or the loss that a guard must exclude. Hours shaded red were held."
)
_COLUMNS = (
    "step", "metric", "canary", "control", "estimate", "standard error", "low", "high", "threshold", "p", "n",
)  # fmt: skip


def write_page(entries: Sequence[Entry], path: Path, *, before: str = "") -> Path:
    """Write the page of one canary's log, with the HTML of what came `before` it; BadRecord when the log is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_html(entries, before=before), encoding="utf-8")
    return path


def to_html(entries: Sequence[Entry], *, before: str = "") -> str:
    """The whole page."""
    if not entries:
        raise BadRecord("a canary without decisions has no page; judge a look first")
    plan, last = entries[-1].judged.plan, entries[-1].decision
    plots = "".join(
        f"<figure>{_picture(_draw(plan, metric, entries), metric.name)}</figure>" for metric in plan.metrics
    )
    title = f"Canary {html.escape(plan.id)} of line {html.escape(plan.line)}"
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f"{_said(last)}<p>{html.escape(_planned(plan))}</p><h2>Lift over time</h2><p>{_ABOUT}</p>"
        f"<div class='plots'>{plots}</div><h2>Numbers of the last look</h2>{_numbers(last)}"
        f"<h2>Decisions</h2>{_history(entries)}{before}</html>"
    )


def _said(last: Decision) -> str:
    reasons = ", ".join(last.verdict.reasons)
    return (
        f"<p class='said {last.action}'><b>{last.action}</b>, verdict {last.verdict.outcome}, because: {html.escape(reasons)}"
        f"<br>{html.escape(last.text)}</p>"
    )


def _planned(plan: ExperimentPlan) -> str:
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in plan.weights.items())
    config = plan.config
    return (
        f"Started {utc(plan.started_at):%Y-%m-%d %H:%M} UTC of event time; viewers by weights {weights}; decision after "
        f"{config.hours} h, at the latest after {config.max_hours} h; {plan.deciding.name} must gain, a lift of "
        f"{config.mde:.1%} must be detectable, guards may lose {config.margin:.1%}."
    )


def _numbers(last: Decision) -> str:
    head = "".join(f"<th{' class=word' if i < 2 else ''}>{name}</th>" for i, name in enumerate(_COLUMNS))
    rows = "".join(map(_row, last.verdict.evidence))
    return f"<table><tr>{head}</tr>{rows}</table>" if rows else "<p>None: the look could not be judged.</p>"


def _row(one: Evidence) -> str:
    words = "".join(f"<td class='word'>{html.escape(text)}</td>" for text in (one.check or "offline", one.metric))
    values = (
        one.candidate, one.baseline, one.estimate, one.se, one.low, one.high, one.threshold, one.p,
    )  # fmt: skip
    cells = "".join(f"<td>{'' if value is None else f'{value:.4g}'}</td>" for value in values)
    return f"<tr>{words}{cells}<td>{one.n:,}</td></tr>"


def _history(entries: Sequence[Entry]) -> str:
    """One row for each run of looks with the same action and reasons."""
    runs: list[list[Entry]] = []
    for entry in entries:
        said = (entry.decision.action, entry.decision.verdict.reasons)
        if runs and (runs[-1][-1].decision.action, runs[-1][-1].decision.verdict.reasons) == said:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    rows = "".join(map(_run, runs))
    head = "<th class=word>hours</th><th class=word>action</th><th class=word>said</th><th class=word>input of the last</th>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _run(run: Sequence[Entry]) -> str:
    first, last = run[0].decision, run[-1].decision
    hours = str(first.hour) if first.hour == last.hour else f"{first.hour} to {last.hour}"
    cells = (hours, str(last.action), last.text)
    body = "".join(f"<td class='word'>{html.escape(cell)}</td>" for cell in cells)
    return f"<tr>{body}<td class='word'><small>{run[-1].hash[:12]}</small></td></tr>"


def _draw(plan: ExperimentPlan, metric: MetricPlan, entries: Sequence[Entry]) -> Figure:
    sheet = Figure(figsize=(5, 3.3), layout="constrained")
    axes = sheet.add_subplot()
    seen = {entry.decision.hour: one for entry in entries if (one := _harm(entry.decision, metric.name)) is not None}
    hours = list(seen)
    config = plan.config
    needed = 100 * (config.practical_share * config.mde if metric.role is Role.DECIDES else -config.margin)
    lifts = [100 * (one.estimate or 0.0) for one in seen.values()]
    half = [196 * (one.se or 0.0) for one in seen.values()]
    if hours:
        low, high = ([e + sign * h for e, h in zip(lifts, half, strict=True)] for sign in (-1, 1))
        bounds = [float("nan") if one.high is None else 100 * one.high for one in seen.values()]
        axes.fill_between(hours, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(hours, lifts, color=BLUE, linewidth=1.8, label="lift")
        axes.plot(hours, bounds, color=RED, linewidth=1.4, label="upper bound at all looks")
        axes.errorbar(hours[-1:], lifts[-1:], yerr=half[-1:], fmt="o", color=BLUE, markersize=4)
        axes.plot(hours[-1:], bounds[-1:], "v", color=RED, markersize=4)
        shown = [value for value in (*lifts, *bounds, low[-1], high[-1], 0.0, needed) if math.isfinite(value)]
        room = 0.08 * (max(shown) - min(shown)) + 0.5
        axes.set_ylim(min(shown) - room, max(shown) + room)
        axes.legend(fontsize=8, frameon=False)
    axes.axhline(needed, color=GREEN, linewidth=0.9, linestyle=":")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axvline(plan.config.hours, color=GREY, linewidth=1, linestyle="--")
    for entry in entries:
        if entry.decision.action is Action.HOLD:
            axes.axvspan(entry.decision.hour - 0.5, entry.decision.hour + 0.5, color="#fbe3df", linewidth=0)
    axes.set_xlim(0, max(plan.config.hours, entries[-1].decision.hour) + 1)
    axes.set_title(f"{metric.name} ({metric.role})", loc="left", fontsize=11)
    axes.set_xlabel("hours of event time", fontsize=9)
    axes.set_ylabel("lift, %", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return sheet


def _harm(decision: Decision, metric: str) -> Evidence | None:
    return next((one for one in decision.verdict.evidence if one.check == "harm" and one.metric == metric), None)


def _picture(sheet: Figure, title: str) -> str:
    """An SVG inside the page; the same log gives the same bytes."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "livefeed", "svg.fonttype": "none", "font.family": "sans-serif"}):
        sheet.savefig(drawn, format="svg", metadata={"Date": None})
    body = base64.b64encode(drawn.getvalue()).decode()
    return f"<img alt='{html.escape(title)}' src='data:image/svg+xml;base64,{body}'>"
