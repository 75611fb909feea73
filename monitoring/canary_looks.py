"""From rows by viewer and hour to cumulated looks: a returning viewer updates his own row, he is not a new one.

One pass over the sorted rows: what a row adds to a sum of squares is (after)^2 - (before)^2 of its viewer's running total,
so the sums by viewer at every hour are cumulated sums of what the rows add.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.canary_plan import HOUR_S, ArmLook, ExperimentPlan, HourLook, Looks
from monitoring.errors import BadPlan
from monitoring.stats import Moments, RatioSums

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ViewerHours:
    """Columns of one length, a row for what a viewer did in an hour in an arm; order and repeated rows do not matter."""

    viewer: Ints  # codes from 0
    arm: Ints  # index into the plan's weights, in their order
    hour: Ints  # 1 for the first hour of the experiment
    counts: Mapping[str, Floats]  # by the names of numerators and denominators
    newest_at: Floats  # epoch seconds of the row's newest event
    before: Mapping[str, Floats] = field(default_factory=dict)  # the viewer's counts in the pre-period; NaN or 0: none
    groups: Mapping[str, tuple[Ints, tuple[str, ...]]] = field(default_factory=dict)  # dimension -> code a row, names


@dataclass(frozen=True)
class Running:
    """Rows sorted by viewer and arm, then hour, with what the arms' sums need."""

    rows: ViewerHours
    unit: Ints  # index of (viewer, arm), a row
    first: npt.NDArray[np.bool_]  # the row that a viewer enters his arm with
    arms: int
    hours: int

    def by_hour(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sums by arm and hour of what each row adds, cumulated over hours; shape (arms, hours)."""
        cell = self.rows.arm * self.hours + self.rows.hour - 1
        sums = np.bincount(cell, weights=values, minlength=self.arms * self.hours)
        return np.asarray(np.cumsum(sums.reshape(self.arms, self.hours), axis=1))

    def adds(self, numerator: str, denominator: str) -> list[Floats]:
        """What each row adds to the six sums (n, y, x, yy, xx, xy) of a ratio by viewer."""
        y, x = self.rows.counts[numerator], self.rows.counts[denominator]
        after_y, after_x = self._total(y), self._total(x)
        xy = after_y * after_x - (after_y - y) * (after_x - x)
        return [self.first.astype(np.float64), y, x, y * (2 * after_y - y), x * (2 * after_x - x), xy]

    def _total(self, values: Floats) -> Floats:
        """The viewer's total up to and with each row."""
        total = np.cumsum(values)
        start = np.flatnonzero(self.first)
        return np.asarray(total - (total[start] - values[start])[self.unit])


def sort_rows(rows: ViewerHours, *, arms: int, hours: int) -> Running:
    """Rows in order, those after the last hour left out; BadPlan for an hour before the first or an arm that is none."""
    if len(rows.hour) and (rows.hour.min() < 1 or rows.arm.min() < 0 or rows.arm.max() >= arms):
        raise BadPlan(
            f"rows have hour {rows.hour.min()} or arm {rows.arm.max()}; hours count from 1, arms to {arms - 1}"
        )
    key = (rows.viewer * arms + rows.arm) * (hours + 1) + np.minimum(rows.hour, hours + 1) - 1
    order = np.argsort(key, kind="stable")
    order = order[rows.hour[order] <= hours]
    kept = ViewerHours(
        rows.viewer[order], rows.arm[order], rows.hour[order], {k: v[order] for k, v in rows.counts.items()},
        rows.newest_at[order], {k: v[order] for k, v in rows.before.items()},
        {k: (codes[order], names) for k, (codes, names) in rows.groups.items()},
    )  # fmt: skip
    pair = kept.viewer * arms + kept.arm
    first = np.ones(len(pair), bool)
    first[1:] = pair[1:] != pair[:-1]
    return Running(kept, np.cumsum(first) - 1, first, arms, hours)


def make_looks(
    plan: ExperimentPlan, rows: ViewerHours, *, hours: int, missing: tuple[int, ...] = (),
    share: Mapping[int, float] | None = None, answered: Mapping[int, float] | None = None,
) -> Looks:  # fmt: skip
    """Looks at hours 1 to `hours`; `missing` names hours with incomplete data, `share` the canary's viewers by hour.

    `answered` is by hour what the canary's line answered of its impressions; what is not given is the whole.
    A planned count that the rows lack leaves its metric out of every look, which the gate holds on.
    """
    running = sort_rows(rows, arms=len(plan.weights), hours=hours)
    there = [m for m in plan.metrics if {m.numerator, m.denominator} <= rows.counts.keys()]
    adds = {m.name: running.adds(m.numerator, m.denominator) for m in there}
    sums = {name: np.stack([running.by_hour(add) for add in of], axis=-1) for name, of in adds.items()}
    viewers, newest, both = running.by_hour(running.first), _newest(running), _in_both(running)
    looks = []
    for hour in range(1, hours + 1):
        parts = _parts(plan, running, adds, hour) if plan.config.due(hour) or plan.config.early(hour) else {}
        arms = {
            name: ArmLook(
                viewers=int(viewers[a, hour - 1]), newest_at=_known(newest[a, hour - 1]),
                metrics={metric: RatioSums(*of[a, hour - 1].tolist()) for metric, of in sums.items()}, **parts.get(a, {}),
            )
            for a, name in enumerate(plan.weights)
        }  # fmt: skip
        looks.append(
            HourLook(
                hour=hour, at=plan.started_at + hour * HOUR_S, arms=arms, in_both=int(both[hour - 1]),
                missing_hours=tuple(h for h in missing if h <= hour), canary_share=(share or {}).get(hour, 1.0),
                answered=(answered or {}).get(hour, 1.0),
            )
        )  # fmt: skip
    return Looks(plan, tuple(looks))


def _known(at: float) -> float | None:
    return float(at) if np.isfinite(at) else None


def _newest(running: Running) -> Floats:
    """Newest event time by arm up to each hour, shape (arms, hours); -inf before the first."""
    newest = np.full((running.arms, running.hours), -np.inf)
    np.maximum.at(newest, (running.rows.arm, running.rows.hour - 1), running.rows.newest_at)
    return np.asarray(np.maximum.accumulate(newest, axis=1))


def _in_both(running: Running) -> Ints:
    """Viewers seen in more than one arm up to each hour, shape (hours,)."""
    viewer, hour = running.rows.viewer[running.first], running.rows.hour[running.first]
    second = np.lexsort((hour, viewer))
    viewer, hour = viewer[second], hour[second]
    again = np.zeros(len(viewer), bool)
    again[1:] = viewer[1:] == viewer[:-1]
    again[2:] &= viewer[2:] != viewer[:-2]  # a third arm is not a third viewer
    return np.cumsum(np.bincount(hour[again] - 1, minlength=running.hours))


def _parts(
    plan: ExperimentPlan, running: Running, adds: Mapping[str, list[Floats]], hour: int
) -> dict[int, dict[str, Any]]:
    """Pre-period, days and groups of each arm at a decision."""
    metric = plan.deciding
    until = running.rows.hour <= hour
    out: dict[int, dict[str, Any]] = {
        arm: {"segments": {group: of[arm] for group, of in _groups(running, adds, until).items()}}
        for arm in range(running.arms)
    }
    if metric.name not in adds:
        return out
    units = running.first & until
    arm_of = running.rows.arm[units]
    y, x = running.rows.counts[metric.numerator], running.rows.counts[metric.denominator]
    day = min(plan.config.day_hours, hour // 2)
    first, last = running.rows.hour <= day, until & (running.rows.hour > hour - day)
    columns = {"days": [_by_unit(running, v, rows, units) for rows in (first, last) for v in (y, x)]}
    pre = [running.rows.before.get(name) for name in (metric.numerator, metric.denominator)]
    if pre[0] is not None and pre[1] is not None:
        y0, x0 = (np.nan_to_num(column[units]) for column in pre if column is not None)
        whole = [_by_unit(running, v, until, units) for v in (y, x)]
        columns["before"] = [*whole, np.where(x0 > 0, y0, 0.0), x0, (x0 <= 0).astype(np.float64)]
    for arm in range(running.arms):
        here = arm_of == arm
        for part, of in columns.items():
            out[arm][part] = {metric.name: Moments.of(*(column[here] for column in of))}
    return out


def _by_unit(running: Running, values: Floats, rows: npt.NDArray[np.bool_], units: npt.NDArray[np.bool_]) -> Floats:
    """Totals over `rows` of each viewer that has entered, in the order of the rows they entered with."""
    totals = np.bincount(running.unit, weights=np.where(rows, values, 0.0))
    return np.asarray(totals[running.unit[units]])


def _groups(
    running: Running, adds: Mapping[str, list[Floats]], until: npt.NDArray[np.bool_]
) -> dict[str, list[dict[str, RatioSums]]]:
    """Group -> by arm -> metric -> the six sums."""
    out: dict[str, list[dict[str, RatioSums]]] = {}
    for dimension, (codes, names) in running.rows.groups.items():
        cell = running.rows.arm * len(names) + codes
        size = running.arms * len(names)
        for metric, of in adds.items():
            sums = [np.bincount(cell, weights=np.where(until, add, 0.0), minlength=size) for add in of]
            table = np.stack(sums, axis=-1).reshape(running.arms, len(names), 6)
            for code, name in enumerate(names):
                arms = out.setdefault(f"{dimension}={name}", [{} for _ in range(running.arms)])
                for arm in range(running.arms):
                    arms[arm][metric] = RatioSums(*table[arm, code].tolist())
    return out
