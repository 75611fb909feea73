"""Figures as Dagster shows them: numbers as they are, records as tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from monitoring.rates import rates_by

if TYPE_CHECKING:
    from features.training_input import Samples
    from monitoring.skew import SkewRecord
    from registry.verdict import Verdict

Metadata = dict[str, Any]


def plain(values: Mapping[str, Any], *, prefix: str = "") -> Metadata:
    """Nested figures flattened to `a.b`; what could not be computed is said, since a number would be a lie."""
    out: Metadata = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out |= plain(value, prefix=f"{prefix}{name}.")
        elif value is None or (isinstance(value, float) and not math.isfinite(value)):
            out[f"{prefix}{name}"] = "not computable"
        elif isinstance(value, (bool, int, float, str)):
            out[f"{prefix}{name}"] = value
        else:
            out[f"{prefix}{name}"] = str(value)
    return out


def table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Records with the same fields as a table; an empty table says so in its one row."""
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records or [dg.TableRecord({"rows": "none"})], schema=None if records else _NOTHING)


def rates_table(samples: "Samples") -> dg.TableMetadataValue:
    """Click rate of every source with its 95 % interval by viewer."""
    rates = rates_by(samples.source, samples.user_id, samples.click)
    return table(
        {
            "source": rate.group,
            "impressions": rate.impressions,
            "viewers": rate.viewers,
            "click_rate": rate.rate,
            "low": rate.low,
            "high": rate.high,
        }
        for rate in rates
    )


def evidence_table(verdict: "Verdict") -> dg.TableMetadataValue:
    """Every comparison of a verdict."""
    return table({name: getattr(row, name) for name in row.__struct_fields__} for row in verdict.evidence)


def skew_table(record: "SkewRecord") -> dg.TableMetadataValue:
    """Every feature of a skew record, the worst first."""
    said = ("name", "equal_rate", "settled", "distance", "ks_p", "missing", "reason")
    return table({"outcome": str(row.outcome)} | {name: getattr(row, name) for name in said} for row in record.features)


_NOTHING = dg.TableSchema(columns=[dg.TableColumn("rows", "string")])


def _cell(value: Any) -> str | int | float | bool:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, (bool, int)):
        return value
    return ", ".join(map(str, value)) if _listed(value) else str(value)  # also of a StrEnum, which Dagster cannot store


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
