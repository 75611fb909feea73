"""The audit's record: every number with its interval, threshold and reason. audit.json is made of it, and the page."""

import glob
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from monitoring.canary_plan import Audit
from monitoring.dials import CHANCE, PART, POSITIVE, SOME, Allowed, check_dials
from monitoring.errors import BadPlan, BadRecord
from registry.errors import BadReranked
from registry.reranked import Card, month_days
from registry.verdict import Outcome

POOLED, UNKNOWN = "pooled", "unknown"
_ALLOWED = {
    "four_fifths": PART, "alpha": CHANCE, "worsened": PART, "min_events": SOME, "held_months": Allowed(2, 12),
    "suppress_below": SOME, "traffic_viewers": SOME, "newcomer_days": POSITIVE, "size_groups": Allowed(2),
    "session_gap_s": POSITIVE, "return_hours": POSITIVE, "bins": Allowed(2), "smoothing": PART, "min_history": SOME,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """The dials of a bias audit; saved whole in its record."""

    four_fifths: float = (
        0.80  # the line: 29 CFR 1607.4(D), a convention of US hiring, as an effect size and not as a test
    )
    alpha: float = 0.05  # one-sided, over all cells of one dimension and metric together (Holm)
    worsened: float = 0.05  # points of a ratio that a candidate may lose against the incumbent
    min_viewers: int = 1_000  # smaller groups are judged together; below it equal groups often end undecided
    min_events: int = 100  # numerator events that the platform's rate would give the group; fewer are judged together
    held_months: int = 2  # months in a row in which a cell may not stay undecided: then it blocks
    suppress_below: int = 20  # viewers; groups below it show no numbers
    traffic_viewers: int = 10_000  # a candidate that met fewer is audited on re-ranked requests
    newcomer_days: float = 90.0  # creators who joined later than this before the month's end
    size_groups: int = 5  # creators by followers, smallest first
    session_gap_s: float = 1_800.0
    return_hours: float = 24.0  # a session counts as returned from when another begins within this
    calibration: tuple[float, float] = (0.9, 1.1)  # predicted over observed clicks outside of it is flagged
    bins: int = 10  # of equal mass, for the expected calibration error
    smoothing: float = 0.01  # of a page's distribution towards the history's (Steck 2018)
    min_history: int = 5  # items a viewer must have had before her history says what she likes

    def __post_init__(self) -> None:
        check_dials("an audit", self, _ALLOWED | {"min_viewers": Allowed(max(self.suppress_below, 2))})
        low, high = self.calibration
        if not 0 < low < 1 < high < math.inf:
            raise BadPlan(f"calibration {low} to {high} of an audit is not allowed: below and above 1, and above 0")


class AuditReason(StrEnum):
    """Why a cell, or a whole audit, came out as it did."""

    PROVED_ABOVE = "proved_above"
    PROVED_BELOW = "proved_below"
    INTERVAL_COVERS = "interval_covers"
    HELD_AGAIN = "held_again"
    WORSENED = "worsened"
    NOT_WORSENED = "not_worsened"
    WORSENING_UNCLEAR = "worsening_unclear"
    # what an audit cannot be made of
    NO_ROWS = "no_rows"
    MISSING_TABLE = "missing_table"
    MISSING_COLUMN = "missing_column"
    MISSING_VALUE = "missing_value"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    NOT_UNIQUE = "not_unique"
    TOO_FEW_VIEWERS = "too_few_viewers"
    TOO_FEW_EVENTS = "too_few_events"
    ATTRIBUTE_UNKNOWN = "attribute_unknown"
    NO_EXPLORATION = "no_exploration"
    NOT_MEASURED = "not_measured"
    ONLY_ONE_GROUP = "only_one_group"


class Check(StrEnum):
    """What a cell holds against what."""

    LEVEL = "level"  # the group's rate over the rest's, or its share of exposure over its share of merit or catalogue
    CHANGE = "change"  # that ratio under the candidate minus under the incumbent


class Family(Struct, frozen=True):
    """Cells that are judged together: one side's metric by one dimension. What does not gate is only reported."""

    side: str  # "consumer" or "creator"
    dimension: str
    metric: str
    gates: bool = True

    def __str__(self) -> str:
        return f"{self.side} {self.metric} by {self.dimension}"


class Cell(Struct, frozen=True, kw_only=True):
    """One group of one family; None where a number could not be computed.

    `value` and `reference` are the two sides of the ratio (of a change: the ratio under candidate and incumbent), `low` and
    `high` simultaneous bounds. `members` are the groups judged as this one.
    """

    check: Check
    family: Family
    group: str
    members: tuple[str, ...]
    viewers: int
    events: float
    value: float | None
    reference: float | None
    estimate: float | None
    low: float | None
    high: float | None
    threshold: float
    p_below: float
    p_above: float
    outcome: Outcome
    reason: AuditReason
    months_held: int = 0  # in a row, this one included

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What names the same cell in another month."""
        return (self.check, self.family.side, self.family.dimension, self.family.metric, self.group)


class Trouble(Struct, frozen=True):
    """Something that was not, or could not be judged; it holds the audit unless it says otherwise."""

    reason: AuditReason
    text: str
    holds: bool = True


class Note(Struct, frozen=True, kw_only=True):
    """A reported number of one group: never gates; hidden (None) where the group is too small to show."""

    name: str
    dimension: str
    group: str
    viewers: int | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    incumbent: float | None = None
    flag: str = ""  # empty: nothing to say


class Inequality(Struct, frozen=True, kw_only=True):
    """How exposure is spread over the creators of the catalogue, under one side."""

    side: str
    creators: int
    gini: float | None
    top_share: float | None  # of exposure, to the 1 % of creators with the most
    coverage: float | None  # share of creators shown at all
    coverage_10k: float | None  # expected in 10,000 requests; None when there were fewer
    lorenz: tuple[float, ...] = ()  # cumulative exposure share at 0, 5, ... 100 % of creators, least shown first


class TableRow(Struct, frozen=True, kw_only=True):
    """Rates of one group as they are, unpooled; `viewers` and all values are None where the group is too small to show."""

    dimension: str
    group: str
    viewers: int | None
    values: dict[str, float | None]


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One month's audit of one line."""

    line: str
    month: str  # "2027-01"
    at: float  # epoch seconds of event time: when what it judges ends, however late it is judged
    source: str  # "traffic" or "reranked"
    outcome: Outcome
    reasons: tuple[AuditReason, ...]
    sentence: str
    config: AuditConfig
    cells: tuple[Cell, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    notes: tuple[Note, ...] = ()
    inequality: tuple[Inequality, ...] = ()
    tables: tuple[TableRow, ...] = ()
    releases: tuple[str, ...] = ()
    incumbents: tuple[str, ...] = ()
    reranked: Card | None = None  # what the re-ranked requests were made of, where they were judged

    @property
    def audit(self) -> Audit:
        """What the canary's gate asks for."""
        return Audit(self.line, self.outcome, self.at)


def finite(value: float) -> float | None:
    """The number; None for NaN and infinities, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def record_path(out: Path, line: str, month: str) -> Path:
    """Where a line's record of a month lies; BadRecord when a name would leave the folder."""
    if not line or "/" in line or line.startswith("."):
        raise BadRecord(
            f"line {line!r} cannot name an audit's file: it must not be empty, have a slash or begin with a dot"
        )
    return out / f"audit-{line}-{month}.json"


def write_record(record: AuditRecord, out: Path) -> Path:
    """Put the record into the folder `out`, whole or not at all, and return its file."""
    path = record_path(out, record.line, record.month)
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".{path.name}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def read_record(out: Path, line: str, month: str) -> AuditRecord | None:
    """A line's record of a month; None where there is none, BadRecord when it cannot be read."""
    path = record_path(out, line, month)
    try:
        return msgspec.json.decode(path.read_bytes(), type=AuditRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadRecord(f"audit record {path} cannot be read: {error}") from None


def newest_audit(out: Path, line: str, *, report: Callable[[str], None]) -> Audit | None:
    """The line's audit of the newest month that has a record; undecided where that record cannot be read, None without any.

    Falling back to an older month's would let a damaged file pass what the audit in it may have failed.
    """
    for path in sorted(out.glob(f"audit-{glob.escape(line)}-????-??.json"), reverse=True):
        month = path.stem[-7:]
        try:
            _, end = month_days(month)
        except BadReranked:
            continue  # no record: the name has no month
        try:
            record = read_record(out, line, month)
            if record is not None and (record.line, record.month) == (line, month):
                return record.audit
            error = "it is not of the line and month that its name says"
        except BadRecord as unreadable:
            error = str(unreadable)
        report(f"the newest audit {path} counts as undecided: {error}")
        return Audit(line, Outcome.UNDECIDED, datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp())
    return None


def concluded(
    cells: Iterable[Cell], troubles: Iterable[Trouble]
) -> tuple[Outcome, tuple[AuditReason, ...], str]:  # fmt: skip
    """FAIL for one gating cell that fails, else UNDECIDED for whatever was not decided, PASS when all was proved."""
    held = [one for one in troubles if one.holds]
    gating = [cell for cell in cells if cell.family.gates]
    failed = [cell for cell in gating if cell.outcome is Outcome.FAIL]
    open_ = [cell for cell in gating if cell.outcome is Outcome.UNDECIDED and cell.check is Check.LEVEL]
    if failed:
        reasons = tuple(dict.fromkeys(cell.reason for cell in failed))
        return Outcome.FAIL, reasons, _listed([_said(cell) for cell in failed])
    if held or open_:
        reasons = tuple(dict.fromkeys([*(one.reason for one in held), *(cell.reason for cell in open_)]))
        return Outcome.UNDECIDED, reasons, _listed([*(one.text for one in held), *map(_said, open_)])
    levels = [cell for cell in gating if cell.check is Check.LEVEL]
    if not levels:
        return Outcome.UNDECIDED, (AuditReason.NOT_MEASURED,), "no group could be compared with another"
    return Outcome.PASS, (AuditReason.PROVED_ABOVE,), f"{len(levels)} cells are proved above their line"


def _said(cell: Cell) -> str:
    what = f"{cell.family}, {cell.group}"
    estimate = "not computable" if cell.estimate is None else f"{cell.estimate:.3g}"
    bounds = " to ".join("unbounded" if one is None else f"{one:.3g}" for one in (cell.low, cell.high))
    match cell.reason:
        case AuditReason.WORSENED:
            return f"{what}: changed by {estimate} ({bounds}), proved below {cell.threshold:g}"
        case AuditReason.HELD_AGAIN:
            return f"{what}: {estimate} ({bounds}), undecided for {cell.months_held} months in a row"
        case AuditReason.PROVED_BELOW:
            return f"{what}: {estimate} ({bounds}), proved below {cell.threshold:g}"
        case _:
            return f"{what}: {estimate} ({bounds}), not decided against {cell.threshold:g}"


def _listed(sentences: list[str]) -> str:
    more = f"; and {len(sentences) - 3} more" if len(sentences) > 3 else ""
    return "; ".join(sentences[:3]) + more
