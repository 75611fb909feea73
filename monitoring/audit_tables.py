"""Rates by group as they are, unpooled, through fairlearn's MetricFrame: one row a viewer, since viewers are the units."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from monitoring.audit_record import AuditConfig, TableRow, finite
from monitoring.audit_viewers import Counts, Grouping

ALL, SMALLEST, LARGEST_GAP = "everybody", "smallest / largest", "largest - smallest"


def group_tables(dimension: str, by: Grouping, counts: Mapping[str, Counts], *, config: AuditConfig) -> list[TableRow]:
    """Every metric of every group, of everybody, and the two summaries; too small groups show nothing."""
    met = np.any([one.x > 0 for one in counts.values()], axis=0)
    people = np.bincount(by.place[met], minlength=len(by.names))
    large = [name for name, n in zip(by.names, people.tolist(), strict=True) if n >= config.suppress_below]
    frames = {metric: _frame(one, by) for metric, one in counts.items()}
    rows = [
        TableRow(
            dimension=dimension, group=name, viewers=n if name in large else None,
            values={m: (_of(frame.by_group, name) if name in large else None) for m, frame in frames.items()},
        )
        for name, n in zip(by.names, people.tolist(), strict=True)
        if n
    ]  # fmt: skip
    overall = {metric: finite(float(frame.overall)) for metric, frame in frames.items()}
    rows.append(TableRow(dimension=dimension, group=ALL, viewers=int(met.sum()), values=overall))
    shown = {metric: frame.by_group[frame.by_group.index.isin(large)].dropna() for metric, frame in frames.items()}
    for label, summary in ((SMALLEST, _ratio), (LARGEST_GAP, _gap)):
        values = {metric: summary(one.to_numpy(np.float64)) for metric, one in shown.items()}
        rows.append(TableRow(dimension=dimension, group=label, viewers=None, values=values))
    return rows


def _frame(counts: Counts, by: Grouping) -> Any:
    from fairlearn.metrics import MetricFrame

    # a Series: fairlearn takes an array of one viewer for one of no dimension
    names = pd.Series(np.asarray(by.names, dtype=object)[by.place], name="group")
    return MetricFrame(metrics=_rate, y_true=counts.y, y_pred=counts.x, sensitive_features=names)


def _rate(y: Any, x: Any) -> float:
    return float(y.sum() / x.sum()) if x.sum() else math.nan


def _of(by_group: Any, name: str) -> float | None:
    return finite(float(by_group[name]))


def _ratio(values: Any) -> float | None:
    return float(values.min() / values.max()) if len(values) > 1 and values.max() > 0 else None


def _gap(values: Any) -> float | None:
    return float(values.max() - values.min()) if len(values) > 1 else None
