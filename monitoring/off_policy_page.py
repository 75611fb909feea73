"""What off-policy evaluation said of a release in shadow: a part of the canary's page, all of it while there is no more."""

import html
from pathlib import Path

from events.clock import utc
from monitoring.off_policy_gate import Judged
from monitoring.off_policy_lake import OffPolicyRecord
from registry.verdict import Outcome

_HEAD = ("reward", "method", "candidate", "incumbent", "difference", "standard error", "low", "high")
_MEANS = {
    Outcome.FAIL: "The log speaks against it: it ended before a viewer met it.",
    Outcome.UNDECIDED: "The log could not tell: nothing was checked before viewers met it.",
    Outcome.PASS: "Nothing in the log speaks against it; what is better the canary decides.",
}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2430;max-width:1200px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:.92em} td,th{padding:.3em .7em;text-align:right;border-bottom:1px solid #e6e9ee}
td.word,th.word{text-align:left} .said{padding:.6em 1em;border-left:6px solid #8a8f98;background:#f4f5f7}
"""


def write_shadow_page(record: OffPolicyRecord, path: Path) -> Path:
    """Write the page of a canary of which nothing but its shadow phase was judged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"Canary {html.escape(record.phase.id)}: shadow phase"
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
    path.write_text(f"{page}<h1>{title}</h1>{to_section(record)}</html>", encoding="utf-8")
    return path


def to_section(record: OffPolicyRecord) -> str:
    """The verdict, its reasons and every number, as HTML to stand in a page."""
    one, read, phase = record.verdict, record.read, record.phase
    texts = "".join(f"<li>{html.escape(text)}</li>" for text in one.texts)
    span = f"from {utc(phase.since):%Y-%m-%d %H:%M} to {utc(phase.until):%Y-%m-%d %H:%M} UTC of event time"
    places = f"{read.explored:,} explored places, {html.escape(phase.release)} chose at {read.scored:,} of them"
    left_out = f"; {read.laid_anew:,} laid anew, {read.without_dice:,} without their dice"
    return (
        f"<h2>In shadow: off-policy evaluation</h2><p class='said'><b>{one.outcome}</b>, because: "
        f"{html.escape(', '.join(one.reasons))}<br>{_MEANS[one.outcome]}</p><ul>{texts}</ul>"
        f"<p>The log {span}: {places}{left_out}.{_overlap(record)}</p>{_numbers(one.judged)}"
    )


def _overlap(record: OffPolicyRecord) -> str:
    seen = record.verdict.overlap
    if seen is None:
        return ""
    return (
        f" {seen.viewers:,} viewers; the choices differ at {seen.differing:.1%} of the places, "
        f"for which {seen.ess_difference:,.0f} effective rows speak."
    )


def _numbers(judged: tuple[Judged, ...]) -> str:
    if not judged:
        return "<p>No estimate was made.</p>"
    head = "".join(f"<th{' class=word' if n < 2 else ''}>{name}</th>" for n, name in enumerate(_HEAD))
    return f"<table><tr>{head}</tr>{''.join(map(_row, judged))}</table>"


def _row(one: Judged) -> str:
    words = "".join(f"<td class='word'>{html.escape(text)}</td>" for text in (one.reward, one.method))
    values = (one.target, one.incumbent, one.difference, one.se, one.low, one.high)
    return f"<tr>{words}{''.join(f'<td>{_shown(value)}</td>' for value in values)}</tr>"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
