"""The skew record as files: skew.json for machines, skew.html for people; Evidently's distributions.html lies beside them."""

import html
from pathlib import Path

import msgspec

from features.history import Report
from monitoring.skew import AGES, DEFAULT, FeatureSkew, SkewConfig, SkewRecord, measure_skew

_STYLE = (
    "body{font:14px system-ui;margin:2em} td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd} "
    "td:first-child,td.said{text-align:left} .fail{background:#fdd} .undecided{background:#ffd}"
)
_HEAD = f"<!doctype html><meta charset='utf-8'><title>Skew of features</title><style>{_STYLE}</style>"
PAGE, RECORD = "skew.html", "skew.json"
_COLUMNS = ("feature", "outcome", "equal (settled)", "95 % interval", *AGES, "distance", "KS p", "missing", "why")


def report_skew(lake: Path, out: Path, *, config: SkewConfig = DEFAULT, report: Report | None = None) -> SkewRecord:
    """Measure the newest impressions and leave the three files in the folder `out`."""
    record = measure_skew(lake, out, config=config, report=report)
    write_skew(record, out)
    return record


def write_skew(record: SkewRecord, out: Path) -> None:
    """Write the record and its page into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    (out / PAGE).write_text(to_html(record), encoding="utf-8")


def read_skew(out: Path) -> SkewRecord:
    """The record that `write_skew` left in a folder."""
    return msgspec.json.decode((out / RECORD).read_bytes(), type=SkewRecord)


def to_html(record: SkewRecord) -> str:
    """One page: the sentence, and a row a feature with its equality by age."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _COLUMNS)
    rows = "".join(map(_row, record.features))
    said = f"<p class='{record.outcome}'><b>{record.outcome}</b>: {html.escape(record.sentence)}</p>"
    about = (
        "<p>Logged with the impression against recomputed from history: share of equal values, by the time since anything "
        "last happened to what the feature describes. <a href='distributions.html'>Distributions</a></p>"
    )
    return f"{_HEAD}<h1>Skew of {record.sampled} impressions</h1>{said}{about}<table><tr>{head}</tr>{rows}</table>"


def _row(one: FeatureSkew) -> str:
    interval = "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
    ages = [f"{age.equal / age.rows:.3f} ({age.rows})" if age.rows else "" for age in one.ages]
    cells = [one.name, str(one.outcome), _number(one.equal_rate), interval, *ages, _number(one.distance),
             _number(one.ks_p), str(one.missing)]  # fmt: skip
    body = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f"<tr class='{one.outcome}'>{body}<td class='said'>{html.escape(one.reason)}</td></tr>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
