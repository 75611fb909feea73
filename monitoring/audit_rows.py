"""What an audit is made of: a month's impressions who and what they were about, as Arrow tables; and what is wrong with them.

`Reranked` is the input for a candidate that has met too few viewers: logged requests put in order again by both models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from monitoring.audit_record import AuditReason, Trouble
from registry import reranked

_ID, _WORD, _NUMBER, _FLAG = pa.string(), pa.string(), pa.float64(), pa.int8()
# Columns by table. Times are epoch seconds, positions and ranks count from 0, flags are 0 or 1.
COLUMNS: Mapping[str, pa.Schema] = {
    # one row an item shown; `predicted` is the click probability that the ranker gave, `propensity` the logging policy's odds
    "impressions": pa.schema([
        ("request_id", _ID), ("user_id", _ID), ("item_id", _ID), ("creator_id", _ID), ("position", _NUMBER),
        ("event_at", _NUMBER), ("release", _WORD), ("predicted", _NUMBER), ("propensity", _NUMBER), ("clicked", _FLAG),
        ("started", _FLAG), ("completed", _FLAG),
    ]),
    "viewers": pa.schema([("user_id", _ID), ("language", _WORD), ("age_band", _WORD), ("gender", _WORD)]),
    # every creator of the catalogue; `size` are followers at the month's start
    "creators": pa.schema([("creator_id", _ID), ("language", _WORD), ("size", _NUMBER), ("joined_at", _NUMBER)]),
    # everything that there ever was; `listed` says what could be shown this month
    "items": pa.schema([
        ("item_id", _ID), ("creator_id", _ID), ("category", _WORD), ("language", _WORD), ("listed", _FLAG),
    ]),
    # what viewers took up before this month, one row a viewer and item
    "history": pa.schema([("user_id", _ID), ("item_id", _ID)]),
    # requests by how many items they were answered with
    "requests": pa.schema([("user_id", _ID), ("results", _NUMBER)]),
    "reranked": reranked.SCHEMA,
}  # fmt: skip
MAY_BE_NULL = frozenset({
    "impressions.predicted", "impressions.propensity", "viewers.language", "viewers.age_band", "viewers.gender",
    "creators.language", "creators.joined_at", "items.category", "items.language", "reranked.clicked",
    "reranked.predicted", "reranked.candidate_rank", "reranked.incumbent_rank",
})  # fmt: skip
# Smallest and largest value; probabilities of nothing shown are 0, so a propensity must lie above it.
RANGES: Mapping[str, tuple[float, float]] = {
    "impressions.position": (0, 1e6), "impressions.predicted": (0, 1), "impressions.propensity": (1e-12, 1),
    "impressions.clicked": (0, 1), "impressions.started": (0, 1), "impressions.completed": (0, 1), "creators.size": (0, 1e12),
    "items.listed": (0, 1), "requests.results": (0, 1e6),
    "reranked.candidate_rank": (0, 1e6), "reranked.incumbent_rank": (0, 1e6),
    "reranked.predicted": (0, 1), "reranked.clicked": (0, 1),
}  # fmt: skip
UNIQUE = {"viewers": ("user_id",), "creators": ("creator_id",), "items": ("item_id",),
          "impressions": ("request_id", "item_id"), "reranked": ("request_id", "item_id")}  # fmt: skip


@dataclass(frozen=True)
class Reranked:
    """Logged requests put in order again: a row a request and item; a rank is null where that side would not show the item.

    Both sides rank the same items by the same rules. `predicted` is the candidate's click probability, `clicked` what the
    viewer did when the item was shown, null where it was not. `card` says what the rows of a file were made of.
    """

    rows: pa.Table
    card: reranked.Card | None = None


@dataclass(frozen=True)
class AuditRows:
    """One month in tables of the columns above; `until` is when it ends, in epoch seconds of event time.

    `requests` is None where nobody logs requests that were answered with nothing: then these are not audited, and it says so.
    """

    until: float
    impressions: pa.Table
    viewers: pa.Table
    creators: pa.Table
    items: pa.Table
    history: pa.Table
    requests: pa.Table | None = None
    reranked: Reranked | None = None

    def tables(self) -> dict[str, pa.Table]:
        """The tables that are there, by name."""
        there = {
            name: getattr(self, name) for name in ("impressions", "viewers", "creators", "items", "history", "requests")
        }
        rows = None if self.reranked is None else self.reranked.rows
        return {name: table for name, table in (there | {"reranked": rows}).items() if table is not None}


def table_of(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """A table of one of the names above from a list a column."""
    schema = COLUMNS[name]
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def wrong_with(rows: AuditRows) -> list[Trouble]:
    """Everything that keeps these rows from being judged; empty when nothing does."""
    out = [trouble for name, table in rows.tables().items() for trouble in _wrong(name, table)]
    if not out and not rows.impressions.num_rows:
        out.append(Trouble(AuditReason.NO_ROWS, "nothing was shown in this month"))
    return out


def _wrong(name: str, table: pa.Table) -> list[Trouble]:
    lacking = [field.name for field in COLUMNS[name] if field.name not in table.column_names]
    if lacking:
        return [Trouble(AuditReason.MISSING_COLUMN, f"the table {name} lacks the column {lacking[0]}")]
    out = [trouble for field in COLUMNS[name] if (trouble := _wrong_column(name, field, table[field.name])) is not None]
    key = UNIQUE.get(name)
    if not out and key and table.num_rows:
        twice = table.num_rows - table.group_by(list(key)).aggregate([]).num_rows
        if twice:
            said = " and ".join(key)
            out.append(Trouble(AuditReason.NOT_UNIQUE, f"the table {name} has {twice} rows with the {said} of another"))
    return out


def _wrong_column(name: str, field: pa.Field, values: pa.ChunkedArray) -> Trouble | None:
    path = f"{name}.{field.name}"
    if values.type != field.type:
        return Trouble(AuditReason.NOT_A_NUMBER, f"the column {path} is of type {values.type}; it must be {field.type}")
    if values.null_count and path not in MAY_BE_NULL:
        return Trouble(AuditReason.MISSING_VALUE, f"the column {path} lacks {values.null_count} values")
    if pa.types.is_floating(field.type):
        odd = pc.sum(pc.invert(pc.is_finite(values))).as_py() or 0
        if odd:
            return Trouble(AuditReason.NOT_A_NUMBER, f"the column {path} has {odd} values that are no numbers")
    if path in RANGES:
        low, high = RANGES[path]
        found = pc.min_max(values).as_py()
        if found["min"] is not None and (found["min"] < low or found["max"] > high):
            said = f"from {found['min']:g} to {found['max']:g}; allowed are {low:g} to {high:g}"
            return Trouble(AuditReason.OUT_OF_RANGE, f"the column {path} has values {said}")
    return None
