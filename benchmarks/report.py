"""benchmarks/report.html: the last results as one plain page."""

import html
from collections.abc import Sequence
from pathlib import Path

from benchmarks.result import Bar, Result

_STYLE = "body{font:15px system-ui;margin:2em;max-width:60em} td{padding:.2em .8em} .no{color:#b00} .yes{color:#070}"
_HEAD = f"<!doctype html><meta charset='utf-8'><title>Livefeed benchmarks</title><style>{_STYLE}</style>"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.4g}"


def _rows(values: dict[str, float | None], kind: str) -> str:
    return "".join(f"<tr><td>{kind}</td><td>{html.escape(n)}</td><td>{_number(v)}</td></tr>" for n, v in values.items())


def _bar(bar: Bar) -> str:
    said = "holds" if bar.holds else "does not hold"
    text = f"{html.escape(bar.name)} = {_number(bar.value)}, bar {html.escape(bar.op)} {bar.bound:g}: {said}"
    return f"<li class='{'yes' if bar.holds else 'no'}'>{text}</li>"


def _section(result: Result) -> str:
    bars = "".join(map(_bar, result.bars))
    table = _rows(result.figures, "figure") + _rows(result.baseline, "baseline")
    foot = f"seed {result.seed}, version {html.escape(result.version)}"
    return f"<h2>{html.escape(result.bench)}</h2><ul>{bars}</ul><table>{table}</table><p>{foot}</p>"


def write_report(results: Sequence[Result], path: Path) -> None:
    """One section a benchmark."""
    path.write_text(f"{_HEAD}<h1>Livefeed benchmarks</h1>{''.join(map(_section, results))}", encoding="utf-8")
