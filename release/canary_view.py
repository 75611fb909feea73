"""A canary as the gate wants to see it: looks with groups, what viewers did before, missing hours, the canary's traffic."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from events.clock import utc
from events.topics import ENGAGEMENT, IMPRESSION, IMPRESSIONS, PROFILES, TOPICS
from features.offline_tables import open_table
from monitoring.canary_looks import Floats, Ints, ViewerHours, make_looks
from monitoring.canary_plan import HOUR_S, STANDARD, ExperimentPlan, Looks
from monitoring.power import planned_variance
from monitoring.stats import RatioSums
from release.canary_rows import CLICK, Flags, Seen, Span, coded, index_in, seconds, seen_in

UNKNOWN = "unknown"  # a group like any other
DAY_HOURS = 24
QUIET = (
    10.0  # impressions of an hour (of the day, on average; of the canary's arm), below which it says nothing of its own
)
DEAF = 500.0  # impressions in an hour, from which on nobody reacting means that reactions are not being stored


def look_at(lake: Path, plan: ExperimentPlan, *, hours: int, exposed_at: float, before_days: int) -> Looks:
    """Looks at hours 1 to `hours`; the pre-period is the days before `exposed_at`, when the canary met its first viewer."""
    span = Span(plan.started_at, hours)
    seen = seen_in(lake, span, arms=tuple(plan.weights))
    before = _Before.read(lake, seen.viewers, until=exposed_at, days_back=before_days)
    viewer = seen.rows.viewer
    rows = ViewerHours(
        viewer, seen.rows.arm, seen.rows.hour, seen.rows.counts, seen.rows.newest_at,
        {name: column[viewer] for name, column in before.counts.items()},
        {name: (code[viewer], names) for name, (code, names) in groups(lake, plan.segments, seen.viewers, span).items()},
    )  # fmt: skip
    share, answered = _shares(seen, plan), _answered(seen, plan)
    return make_looks(plan, rows, hours=hours, missing=_missing(seen, span, before), share=share, answered=answered)


def planned_variances(
    lake: Path, *, until: float, hours: int, canary_share: float, control_share: float
) -> dict[str, float]:
    """The variance of each metric's lift to expect after so many hours, from as many before `until`.

    BadPlan when the tables do not have a pre-period that varies, NoTable when there is none.
    """
    seen = seen_in(lake, Span(until - hours * HOUR_S, hours))
    viewers = len(seen.viewers)
    totals = {name: np.bincount(seen.rows.viewer, counts, viewers) for name, counts in seen.rows.counts.items()}
    return {
        metric: planned_variance(
            RatioSums.of(totals[y], totals[x]), canary=canary_share * viewers, control=control_share * viewers
        )
        for metric, y, x, _ in STANDARD
    }


class _Before:
    """The pre-period: clicks and impressions by viewer, and impressions by hour of day."""

    def __init__(self, counts: Mapping[str, Floats], by_hour_of_day: Floats, days_seen: int) -> None:
        self.counts, self._by_hour, self._days = counts, by_hour_of_day, days_seen

    @staticmethod
    def read(lake: Path, viewers: pa.Array, *, until: float, days_back: int) -> "_Before":
        span = Span(until - days_back * DAY_HOURS * HOUR_S, days_back * DAY_HOURS)
        counts: dict[str, Floats] = {}
        by_hour, seen = np.zeros(DAY_HOURS), 0
        for name, topic, kind in (("impressions", IMPRESSIONS, IMPRESSION), ("clicks", ENGAGEMENT, CLICK)):
            table = open_table(lake, TOPICS[topic].table)
            counts[name] = np.zeros(len(viewers))
            if table is None:
                continue
            rows = table.read(span.dates, ["user_id", "event_at"], where=span.inside & (pc.field("type") == kind))
            code = index_in(rows["user_id"], viewers)
            counts[name] = np.bincount(code[code >= 0], minlength=len(viewers)).astype(float)
            if kind == IMPRESSION:
                hour = seconds(rows["event_at"]).astype(np.int64) // int(HOUR_S)
                by_hour = np.bincount(hour % DAY_HOURS, minlength=DAY_HOURS).astype(float)
                seen = len(np.unique(hour // DAY_HOURS))
        return _Before(counts, by_hour, seen)

    def expects(self, at: float) -> bool:
        """Whether an hour at this time of day has impressions; yes where nothing is known."""
        return not self._days or bool(self._by_hour[int(at // HOUR_S % DAY_HOURS)] / self._days >= QUIET)


def _missing(seen: Seen, span: Span, before: _Before) -> tuple[int, ...]:
    """Hours that must have had data and have none, or much of one kind and none of the other."""
    return tuple(
        hour + 1
        for hour in range(span.hours)
        if (not seen.traffic[hour] and before.expects(span.start + hour * HOUR_S))
        or (seen.traffic[hour] >= DEAF and not seen.engagement[hour])
    )


def _shares(seen: Seen, plan: ExperimentPlan) -> dict[int, float]:
    """Of all viewers, whom the canary is meant to answer, by hour; an hour without impressions has what it had last.

    Assigned and not observed: else an arm that shows nothing would look like one that is off. Impressions in no arm of the
    experiment are those of a pin: then everybody has the canary, or nobody.
    """
    others = seen.by_release[-1]
    pinned, to_canary = others.sum(0), others[_ours(seen, plan)].sum(0)
    share, out = plan.weights[plan.canary], {}
    for hour, every in enumerate(seen.traffic.tolist(), 1):
        if every:
            share = (plan.weights[plan.canary] * (every - pinned[hour - 1]) + to_canary[hour - 1]) / every
        out[hour] = float(min(share, 1.0))
    return out


def _answered(seen: Seen, plan: ExperimentPlan) -> dict[int, float]:
    """Of the canary's impressions, what its line answered: the lower of so far and, where it had some, of that hour."""
    arm = seen.by_release[list(plan.weights).index(plan.canary)]
    every, ours = arm.sum(0), arm[_ours(seen, plan)].sum(0)
    so_far = np.divide(np.cumsum(ours), np.cumsum(every), out=np.ones(len(every)), where=np.cumsum(every) > 0)
    now = np.divide(ours, every, out=np.ones(len(every)), where=every >= QUIET)
    return dict(enumerate(np.minimum(so_far, now).tolist(), 1))


def _ours(seen: Seen, plan: ExperimentPlan) -> Flags:
    """Which releases are the canary's."""
    return np.array([plan.is_canary(one) for one in seen.releases], bool)


def groups(
    lake: Path, dimensions: tuple[str, ...], viewers: pa.Array, span: Span
) -> dict[str, tuple[Ints, tuple[str, ...]]]:
    """By dimension: the group of each viewer by what her last profile before the start says, and the groups' names."""
    table = open_table(lake, TOPICS[PROFILES].table)
    if table is None or not dimensions:
        return {name: (np.zeros(len(viewers), np.int64), (UNKNOWN,)) for name in dimensions}
    until = utc(span.start)
    known = (pc.field("type") == "viewer_profile") & (pc.field("event_at") < until)
    wanted = [day for day in table.rows if day <= until.date() + timedelta(days=1)]
    rows = table.read(wanted, ["user_id", "event_at", *dimensions], where=known).sort_by("event_at")
    code = index_in(rows["user_id"], viewers)
    last = np.full(len(viewers), -1, np.int64)
    last[code[code >= 0]] = np.flatnonzero(code >= 0)  # the latest is written last
    return {name: _group(rows[name], last) for name in dimensions}


def _group(values: pa.ChunkedArray, last: Ints) -> tuple[Ints, tuple[str, ...]]:
    names, code = coded(pc.fill_null(values, UNKNOWN))
    words = [str(one) for one in names.to_pylist()]
    unknown = words.index(UNKNOWN) if UNKNOWN in words else len(words)
    by_viewer = code[last] if len(code) else np.full(len(last), unknown, np.int64)
    every = words if UNKNOWN in words else [*words, UNKNOWN]
    return np.where(last >= 0, by_viewer, unknown).astype(np.int64), tuple(every)
