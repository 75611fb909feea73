"""What viewers did during a canary, hour by hour, from the offline tables: numpy columns, no Spark.

A click counts for the arm of the impression it answers, in the hour it was made, within a click's attribution window. Starts,
completions and visits count for the arm a viewer was first seen in, from then on, with or without the feed: a canary may
move what people do outside of it. An item started twice by a viewer counts once, and so does its completion.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from events.clock import utc
from events.topics import ENGAGEMENT, IMPRESSION, IMPRESSIONS, TOPICS
from features.definitions import STARTS
from features.labels import EFFECTIVE_WATCH_S, OBJECTIVES
from features.offline_tables import days, need_table, open_table
from monitoring.canary_looks import ViewerHours
from monitoring.canary_plan import HOUR_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
CLICK, COMPLETIONS = "feed_clicked", ("media_completed", "watch_heartbeat", "room_left")
CLICK_S = next(one.attribute_s for one in OBJECTIVES if one.name == "click")
VISIT_GAP_S = 1_800.0  # after so long without a sign of life the next is a new visit
COUNTS = ("clicks", "impressions", "completions", "starts", "items", "sessions")


@dataclass(frozen=True)
class Span:
    """Hours 1 to `hours` of event time from `start`, epoch seconds."""

    start: float
    hours: int

    @property
    def end(self) -> float:
        """Epoch seconds, not included."""
        return self.start + self.hours * HOUR_S

    @property
    def dates(self) -> list[date]:
        """The event dates it touches."""
        return days(utc(self.start).date(), utc(max(self.end - 1e-6, self.start)).date())

    @property
    def inside(self) -> pc.Expression:
        """The rows whose event time lies in it."""
        return (pc.field("event_at") >= utc(self.start)) & (pc.field("event_at") < utc(self.end))

    def hour(self, at: Floats) -> Ints:
        """The hour of each time, from 1."""
        return np.asarray(((at - self.start) // HOUR_S).astype(np.int64) + 1)


@dataclass(frozen=True)
class Seen:
    """What happened in a span: the rows by viewer and hour, the viewers by code, and all traffic by hour, shape (hours,)."""

    rows: ViewerHours
    viewers: pa.Array
    traffic: Floats  # impressions of any arm
    by_release: (
        Floats  # the same by arm (all that nobody asked for come last) and release: shape (arms + 1, releases, hours)
    )
    releases: tuple[str, ...]
    engagement: Floats  # events of viewers who were shown something


def seen_in(lake: Path, span: Span, *, arms: Sequence[str] | None = None) -> Seen:
    """Read a span; with `arms` only their viewers, else everybody as one arm. NoTable before the first impression."""
    shown = _Shown.read(lake, span, arms)
    acts = _Acts.read(lake, span, shown.viewers)
    width = len(arms) if arms is not None else 1
    hour = span.hour(shown.at)
    traffic = np.bincount(hour - 1, minlength=span.hours).astype(float)
    names = tuple(map(str, shown.releases.to_pylist()))
    cell = (np.where(shown.arm < 0, width, shown.arm) * len(names) + shown.release) * span.hours + hour - 1
    by_release = np.bincount(cell, minlength=(width + 1) * len(names) * span.hours).astype(float)
    by_release = by_release.reshape(width + 1, len(names), span.hours)
    engagement = np.bincount(span.hour(acts.at) - 1, minlength=span.hours).astype(float)
    rows = _Tally(span, width).rows(_counted(shown, acts))
    return Seen(rows, shown.viewers, traffic, by_release, names, engagement)


@dataclass(frozen=True)
class _Shown:
    """Impressions, each item of a request once; `arm` is -1 for arms that nobody asked for."""

    viewers: pa.Array
    requests: pa.Array
    items: pa.Array
    releases: pa.Array
    viewer: Ints
    arm: Ints
    release: Ints
    at: Floats
    key: Ints  # of (request, item), rising

    @staticmethod
    def read(lake: Path, span: Span, arms: Sequence[str] | None) -> "_Shown":
        table = need_table(lake, TOPICS[IMPRESSIONS].table, made_by="the collector")
        names = ["request_id", "item_id", "user_id", "arm", "release", "event_at"]
        rows = table.read(span.dates, names, where=span.inside & (pc.field("type") == IMPRESSION))
        (viewers, viewer), (requests, request), (items, item), (releases, release) = (
            coded(pc.fill_null(rows[name], "")) for name in ("user_id", "request_id", "item_id", "release")
        )
        at, key = seconds(rows["event_at"]), request * max(len(items), 1) + item
        first = np.argsort(at, kind="stable")
        key, place = np.unique(key[first], return_index=True)
        kept = first[place]
        arm = np.zeros(len(at), np.int64) if arms is None else index_in(rows["arm"], pa.array(arms, pa.large_string()))
        return _Shown(viewers, requests, items, releases, viewer[kept], arm[kept], release[kept], at[kept], key)

    def first(self) -> tuple[Floats, Ints]:
        """When each viewer was first shown something in an arm, and in which; infinity and -1 for never."""
        at, arm = np.full(len(self.viewers), np.inf), np.full(len(self.viewers), -1, np.int64)
        ours = np.flatnonzero(self.arm >= 0)
        late = ours[np.argsort(-self.at[ours], kind="stable")]  # the earliest is written last
        at[self.viewer[late]], arm[self.viewer[late]] = self.at[late], self.arm[late]
        return at, arm


@dataclass(frozen=True)
class _Acts:
    """What viewers of the span did in it, in no order; `viewer` is known."""

    kind: pa.ChunkedArray
    viewer: Ints
    item: pa.ChunkedArray  # media item or room
    request: pa.ChunkedArray
    at: Floats
    watched: Flags  # long enough, where it says so

    @staticmethod
    def read(lake: Path, span: Span, viewers: pa.Array) -> "_Acts":
        table = need_table(lake, TOPICS[ENGAGEMENT].table, made_by="the collector")
        names = ["type", "user_id", "item_id", "room_id", "request_id", "event_at", "watched_s"]
        wanted = pc.field("type").isin([CLICK, *STARTS, *COMPLETIONS])
        rows = table.read(span.dates, names, where=span.inside & wanted)
        viewer = index_in(rows["user_id"], viewers)
        rows, viewer = rows.filter(pa.array(viewer >= 0)), viewer[viewer >= 0]
        long = pc.fill_null(pc.greater_equal(rows["watched_s"], EFFECTIVE_WATCH_S), False)
        watched = pc.or_(pc.not_equal(rows["type"], "room_left"), long)
        item = pc.coalesce(rows["item_id"], rows["room_id"])
        return _Acts(rows["type"], viewer, item, rows["request_id"], seconds(rows["event_at"]), flags(watched))

    def of(self, *kinds: str) -> Ints:
        """Places of the events of these types, earliest first."""
        found = np.flatnonzero(flags(pc.is_in(self.kind, pa.array(kinds))))
        return found[np.argsort(self.at[found], kind="stable")]


@dataclass(frozen=True)
class _Count:
    """Things of one name: whose, in which arm, when."""

    names: tuple[str, ...]
    viewer: Ints
    arm: Ints
    at: Floats


def _counted(shown: _Shown, acts: _Acts) -> list[_Count]:
    ours = shown.arm >= 0
    first_at, first_arm = shown.first()
    impressions = _Count(("impressions",), shown.viewer[ours], shown.arm[ours], shown.at[ours])
    since = acts.at >= first_at[acts.viewer]
    started, completed = _items(acts, since)
    items = [
        _Count(names, acts.viewer[one], first_arm[acts.viewer[one]], acts.at[one])
        for names, one in ((("starts", "items"), started), (("completions",), completed))
    ]
    return [impressions, _clicks(shown, acts), *items, _visits(impressions, acts, since, first_arm)]


def _clicks(shown: _Shown, acts: _Acts) -> _Count:
    """The first click on each impression of an arm, within a click's window."""
    clicks = acts.of(CLICK)
    request, item = index_in(acts.request.take(clicks), shown.requests), index_in(acts.item.take(clicks), shown.items)
    key = np.where((request >= 0) & (item >= 0), request * max(len(shown.items), 1) + item, -1)
    row = np.minimum(np.searchsorted(shown.key, key), max(len(shown.key) - 1, 0))
    met = np.flatnonzero(shown.key[row] == key) if len(shown.key) else np.zeros(0, np.int64)
    row, at = row[met], acts.at[clicks[met]]
    fine = (shown.arm[row] >= 0) & (at >= shown.at[row]) & (at <= shown.at[row] + CLICK_S)
    row, place = np.unique(row[fine], return_index=True)  # clicks come earliest first
    return _Count(("clicks",), shown.viewer[row], shown.arm[row], at[fine][place])


def _items(acts: _Acts, since: Flags) -> tuple[Ints, Ints]:
    """The first start of each viewer and item, and the first completion of what was started."""
    names, item = coded(acts.item)
    key = acts.viewer * max(len(names), 1) + item
    started = acts.of(*STARTS)
    started = started[since[started]]
    pairs, place = np.unique(key[started], return_index=True)
    completed = acts.of(*COMPLETIONS)
    completed = completed[since[completed] & acts.watched[completed] & np.isin(key[completed], pairs)]
    return started[place], completed[np.unique(key[completed], return_index=True)[1]]


def _visits(impressions: _Count, acts: _Acts, since: Flags, first_arm: Ints) -> _Count:
    """Signs of life that come first or after a long gap."""
    viewer = np.concatenate([impressions.viewer, acts.viewer[since]])
    at = np.concatenate([impressions.at, acts.at[since]])
    order = np.lexsort((at, viewer))
    viewer, at = viewer[order], at[order]
    begins = np.ones(len(viewer), bool)
    begins[1:] = (viewer[1:] != viewer[:-1]) | (np.diff(at) > VISIT_GAP_S)
    return _Count(("sessions",), viewer[begins], first_arm[viewer[begins]], at[begins])


@dataclass(frozen=True)
class _Tally:
    """Counts by viewer, arm and hour."""

    span: Span
    arms: int

    def rows(self, counted: Sequence[_Count]) -> ViewerHours:
        """One row a viewer, arm and hour in which there was anything."""
        cells = [(one.viewer * self.arms + one.arm) * self.span.hours + self.span.hour(one.at) - 1 for one in counted]
        every = np.unique(np.concatenate(cells))
        counts: dict[str, Floats] = {name: np.zeros(len(every)) for name in COUNTS}
        newest = np.full(len(every), -np.inf)
        for one, cell in zip(counted, cells, strict=True):
            row = np.searchsorted(every, cell)
            for name in one.names:
                counts[name] = np.bincount(row, minlength=len(every)).astype(float)
            np.maximum.at(newest, row, one.at)
        unit, hour = every // self.span.hours, every % self.span.hours + 1
        return ViewerHours(unit // self.arms, unit % self.arms, hour, counts, newest)


def newest_impression(lake: Path) -> float | None:
    """Event time of the newest stored impression, epoch seconds; None where there is none yet."""
    table = open_table(lake, TOPICS[IMPRESSIONS].table)
    for day in sorted(table.rows, reverse=True) if table is not None else ():
        assert table is not None
        newest = pc.max(table.read([day], ["event_at"])["event_at"]).as_py()
        if newest is not None:
            return float(newest.timestamp())
    return None


def traffic_since(lake: Path, since: float, *, hours: int = 24) -> dict[tuple[str, str], int]:
    """Impressions by arm and release from then on, for at most so many hours; empty where there is no table."""
    table, span = open_table(lake, TOPICS[IMPRESSIONS].table), Span(since, hours)
    if table is None:
        return {}
    rows = table.read(span.dates, ["arm", "release"], where=span.inside & (pc.field("type") == IMPRESSION))
    counted = rows.group_by(["arm", "release"]).aggregate([([], "count_all")]).to_pylist()
    return {(str(one["arm"]), str(one["release"])): int(one["count_all"]) for one in counted}


def coded(values: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """Distinct values, and which of them each one is."""
    coded = pc.cast(values, pa.large_string()).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return coded.dictionary, np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int64)


def index_in(values: Any, among: Collection[Any]) -> Ints:
    """Which of `among` each value is, -1 for none of them."""
    found = pc.index_in(pc.cast(values, pa.large_string()), value_set=among)
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def seconds(values: pa.ChunkedArray) -> Floats:
    """Epoch seconds of a column of times."""
    return np.asarray(pc.cast(values, pa.int64())).astype(np.float64) / 1e6


def flags(values: Any) -> Flags:
    """An Arrow column of truth values as numpy."""
    return np.asarray(values).astype(bool)
