"""Viewers as the units of an audit: their groups, and what each of them did, side by side under candidate and incumbent."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.audit_record import UNKNOWN, AuditConfig
from monitoring.audit_rows import COLUMNS, AuditRows
from monitoring.stats import Floats, Ints, Moments, RatioSums

Flags = npt.NDArray[np.bool_]
RERANKED = "reranked"  # source of evidence: not traffic
DIMENSIONS = ("language", "age_band", "gender")
CROSS = " x "


class Grouping(NamedTuple):
    """A dimension of viewers or creators: each one's group as a place in `names`; every group has somebody."""

    names: tuple[str, ...]
    place: Ints


class Counts(NamedTuple):
    """One metric by viewer: numerator and denominator under the candidate, and under the incumbent."""

    y: Floats
    x: Floats
    incumbent_y: Floats
    incumbent_x: Floats


class Predicted(NamedTuple):
    """Predictions that came true or not, a row each: whose, what was predicted (no NaN), whether it was clicked."""

    viewer: Ints
    predicted: Floats
    clicked: Floats


class Listed(NamedTuple):
    """What one side put before viewers, a row a place: request, viewer, item and creator (-1: unknown), weight."""

    request: Ints
    viewer: Ints
    item: Ints
    creator: Ints
    weight: Floats


class Evidence(NamedTuple):
    """What both sides are compared by, whether they served the month or were asked about it afterwards."""

    source: str
    counts: dict[str, Counts]
    ours: Listed
    theirs: Listed
    predicted: Predicted


@dataclass(frozen=True)
class Shown:
    """Impressions as arrays, a row each: indexes of viewer, item and creator (-1: in no table), and what came of it."""

    request: Ints
    viewer: Ints
    item: Ints
    creator: Ints
    at: Floats
    weight: Floats  # of the position: 1 / log2(1 + rank), rank from 1
    predicted: Floats  # NaN where the ranker gave nothing
    propensity: Floats  # NaN where unknown
    clicked: Floats
    started: Floats
    completed: Floats
    candidate: Flags
    incumbent: Flags


def codes(values: pa.ChunkedArray, known: pa.Array) -> Ints:
    """Index of each value among the known ones, -1 where it is not."""
    found = pc.fill_null(pc.index_in(values, value_set=known), -1)
    return np.asarray(found.to_numpy(), np.int64)


def numbers(values: pa.ChunkedArray) -> Floats:
    """Values as floats, NaN for null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def totals(owner: Ints, values: Floats, size: int) -> Floats:
    """Sums of values by owner, shape (size,)."""
    return np.asarray(np.bincount(owner, weights=values, minlength=size), np.float64)


def unique(values: pa.ChunkedArray) -> pa.Array:
    """Each value once, sorted."""
    found = pc.unique(values)
    return found.take(pc.sort_indices(found))


def position_weight(rank: Floats) -> Floats:
    """How much a place is worth; `rank` counts from 0.

    The discount 1 / log(1 + place) of Burges et al., "Learning to Rank using Gradient Descent", ICML 2005, with base 2.
    """
    return 1.0 / np.log2(2.0 + rank)


def shown(rows: AuditRows, viewers: pa.Array, *, candidate: Collection[str], incumbent: Collection[str]) -> Shown:
    """The month's impressions; which side served each follows from its release."""
    table = rows.impressions
    release = table["release"]
    sides = [
        np.asarray(pc.is_in(release, value_set=pa.array(sorted(one), pa.string()))) for one in (candidate, incumbent)
    ]
    columns = {name: numbers(table[name]) for name in ("predicted", "propensity", "clicked", "started", "completed")}
    return Shown(
        request=codes(table["request_id"], unique(table["request_id"])), viewer=codes(table["user_id"], viewers),
        item=codes(table["item_id"], rows.items["item_id"].combine_chunks()),
        creator=codes(table["creator_id"], rows.creators["creator_id"].combine_chunks()), at=numbers(table["event_at"]),
        weight=position_weight(numbers(table["position"])), candidate=sides[0], incumbent=sides[1], **columns,
    )  # fmt: skip


def traffic(rows: Shown, viewers: int, *, until: float, config: AuditConfig) -> Evidence:
    """What both sides' impressions of the month say."""
    known = rows.candidate & ~np.isnan(rows.predicted)
    return Evidence(
        "traffic", engagement(rows, viewers, until=until, config=config), _listed(rows, rows.candidate),
        _listed(rows, rows.incumbent), Predicted(rows.viewer[known], rows.predicted[known], rows.clicked[known]),
    )  # fmt: skip


def reranked(rows: AuditRows, viewers: pa.Array) -> Evidence:
    """What both sides' orders of the logged requests say: clicks by the worth of the place that each would have given."""
    table = rows.reranked.rows if rows.reranked is not None else COLUMNS["reranked"].empty_table()
    who = codes(table["user_id"], viewers)
    item = codes(table["item_id"], rows.items["item_id"].combine_chunks())
    creator = codes(table["creator_id"], rows.creators["creator_id"].combine_chunks())
    request = codes(table["request_id"], unique(table["request_id"]))
    weights = [position_weight(numbers(table[name])) for name in ("candidate_rank", "incumbent_rank")]
    clicked, predicted = numbers(table["clicked"]), numbers(table["predicted"])
    columns = []
    for weight in weights:
        here = ~np.isnan(weight) & ~np.isnan(clicked)
        for value in (weight * clicked, weight):
            columns.append(totals(who[here], value[here], len(viewers)))
    sides = [_where(Listed(request, who, item, creator, weight), ~np.isnan(weight)) for weight in weights]
    known = ~np.isnan(predicted) & ~np.isnan(clicked)
    predictions = Predicted(who[known], predicted[known], clicked[known])
    return Evidence(RERANKED, {"clicks_by_place": Counts(*columns)}, sides[0], sides[1], predictions)


def _listed(rows: Shown, side: Flags) -> Listed:
    return _where(Listed(rows.request, rows.viewer, rows.item, rows.creator, rows.weight), side)


def _where(listed: Listed, here: Flags) -> Listed:
    return Listed(
        listed.request[here], listed.viewer[here], listed.item[here], listed.creator[here], listed.weight[here]
    )


def groupings(rows: AuditRows, viewers: pa.Array) -> dict[str, Grouping]:
    """The three attributes and their pairs; a pair of which one has a single group says nothing new and is left out."""
    place = codes(viewers, rows.viewers["user_id"].combine_chunks())
    single = {name: grouping(_words(rows.viewers[name], place)) for name in DIMENSIONS}
    crossed = {
        f"{one}{CROSS}{other}": _crossed(single[one], single[other])
        for one, other in combinations(DIMENSIONS, 2)
        if len(single[one].names) > 1 and len(single[other].names) > 1
    }
    return single | crossed


def grouping(words: Collection[Any]) -> Grouping:
    """A group for each word that occurs."""
    names, index = np.unique(np.asarray(words, dtype=str), return_inverse=True)
    return Grouping(tuple(map(str, names)), index.astype(np.int64))


def _words(column: pa.ChunkedArray, place: Ints) -> list[str]:
    """The word at each place, `unknown` where it is null, empty, or nobody knows the viewer."""
    said = [word or UNKNOWN for word in column.to_pylist()]
    return [said[at] if at >= 0 else UNKNOWN for at in place.tolist()]


def _crossed(one: Grouping, other: Grouping) -> Grouping:
    both = one.place * len(other.names) + other.place
    found, index = np.unique(both, return_inverse=True)
    names = [f"{one.names[at // len(other.names)]}{CROSS}{other.names[at % len(other.names)]}" for at in found.tolist()]
    return Grouping(tuple(names), index.astype(np.int64))


def engagement(rows: Shown, viewers: int, *, until: float, config: AuditConfig) -> dict[str, Counts]:
    """What viewers did with what both sides showed them: click rate, completion, depth of sessions, return to another."""
    ours, theirs = (_one_side(rows, side, viewers, until, config) for side in (rows.candidate, rows.incumbent))
    return {name: Counts(*ours[name], *theirs[name]) for name in ours}


def _one_side(
    rows: Shown, side: Flags, viewers: int, until: float, config: AuditConfig
) -> dict[str, tuple[Floats, Floats]]:
    who = rows.viewer[side]

    def total(values: Floats) -> Floats:
        return totals(who, values[side], viewers)

    begun = np.maximum(rows.started, rows.completed)  # a completion whose start was lost was begun all the same
    sessions, eligible, returned = _sessions(who, rows.at[side], viewers, until, config)
    return {
        "ctr": (total(rows.clicked), total(np.ones_like(rows.clicked))),
        "completion_rate": (total(rows.completed), total(begun)),
        "session_depth": (total(begun), sessions),
        "session_return": (returned, eligible),
    }


def _sessions(who: Ints, at: Floats, viewers: int, until: float, config: AuditConfig) -> tuple[Floats, Floats, Floats]:
    """Sessions by viewer, those whose time to return was over by `until`, and those of them that another one followed."""
    order = np.lexsort((at, who))
    who, at = who[order], at[order]
    breaks = (np.diff(who) != 0) | (np.diff(at) > config.session_gap_s)
    first = np.flatnonzero(np.r_[True, breaks]) if len(who) else np.zeros(0, np.int64)
    last = np.r_[first[1:] - 1, len(who) - 1] if len(who) else first
    owner, ended = who[first], at[last]
    reach = config.return_hours * 3_600.0
    following = np.r_[owner[1:] == owner[:-1], False] if len(owner) else np.zeros(0, bool)
    gap = np.r_[at[first[1:]] - ended[:-1], np.inf] if len(owner) else ended
    eligible = ended + reach <= until
    back = eligible & following & (gap <= reach)
    sessions, could, did = (totals(owner, one.astype(float), viewers) for one in (np.ones(len(owner)), eligible, back))
    return sessions, could, did


def answered(rows: AuditRows, viewers: pa.Array) -> Counts | None:
    """Requests answered with something; None where nobody logs the others. Sides are not told apart."""
    if rows.requests is None:
        return None
    who = codes(rows.requests["user_id"], viewers)
    some = (numbers(rows.requests["results"]) > 0).astype(float)
    y, x = (totals(who, one, len(viewers)) for one in (some, np.ones(len(who))))
    none = np.zeros(len(viewers))
    return Counts(y, x, none, none)


def level_sums(counts: Counts, by: Grouping) -> dict[str, RatioSums]:
    """Sums of the candidate's side by group, over viewers who met it."""
    met = counts.x > 0
    return {
        name: RatioSums.of(counts.y[here], counts.x[here])
        for place, name in enumerate(by.names)
        if (here := (by.place == place) & met).any()
    }


def change_sums(counts: Counts, by: Grouping) -> dict[str, Moments]:
    """Moments of both sides by group, over viewers who met either; groups as `level_sums` has them."""
    met = (counts.x > 0) | (counts.incumbent_x > 0)
    return {
        name: Moments.of(*(column[here] for column in counts))
        for place, name in enumerate(by.names)
        if (here := (by.place == place) & met).any()
    }


def met_by(rows: Shown, side: Flags) -> int:
    """How many viewers a side met."""
    return len(np.unique(rows.viewer[side]))
