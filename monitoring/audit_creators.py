"""Creators: what share of the viewers' attention each group was given, against its share of merit and of the catalogue.

Merit is engagement where the place was drawn for: each such answer counts by 1 / propensity, so a group that is seldom shown
is not held to deserve little. Clicks on what a ranker chose would say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from monitoring.audit_cells import FamilyCells, Members, Size, judge_changes, judge_ratios, pooled, too_little
from monitoring.audit_record import (
    UNKNOWN,
    AuditConfig,
    AuditReason,
    AuditRecord,
    Cell,
    Family,
    Inequality,
    Note,
    Trouble,
    finite,
)  # fmt: skip
from monitoring.audit_rows import AuditRows
from monitoring.audit_stats import Ratio, share_change, share_to_share
from monitoring.audit_viewers import Grouping, Listed, Shown, codes, grouping, numbers, totals
from monitoring.stats import Floats, Ints, Moments, RatioSums

DAY_S = 86_400.0
MERIT, CATALOGUE = "exposure_to_merit", "exposure_to_catalogue"
# A ranker gives most of the attention to those who please most: by size only the change against the incumbent gates.
LEVEL_GATES = frozenset({"language", "newcomer"})
SAMPLE = 10_000  # requests, for coverage that does not grow with traffic


def creator_groups(rows: AuditRows, config: AuditConfig) -> dict[str, Grouping]:
    """Creators by language, by size (equal parts by followers, ties together) and by how new they are."""
    table = rows.creators
    size, joined = numbers(table["size"]), numbers(table["joined_at"])
    rank = np.searchsorted(np.sort(size), size, side="left") / max(len(size), 1)
    fifth = np.minimum((rank * config.size_groups).astype(np.int64), config.size_groups - 1)
    age = (rows.until - joined) / DAY_S
    newcomer = np.where(np.isnan(age), UNKNOWN, np.where(age < config.newcomer_days, "new", "established"))
    return {
        "language": grouping([word or UNKNOWN for word in table["language"].to_pylist()]),
        "size": grouping([f"size {one + 1} of {config.size_groups}" for one in fifth.tolist()]),
        "newcomer": grouping(newcomer.tolist()),
    }


@dataclass(frozen=True)
class Merit:
    """Engagement on explored places, a row an impression: weighted by 1 / propensity, and whether it was clicked."""

    viewer: Ints
    creator: Ints
    worth: Floats
    clicked: Floats


def explored(rows: Shown) -> Merit:
    """The impressions whose place was drawn for, whoever served them: 0 < propensity < 1.

    Horvitz and Thompson, JASA 47 (1952): dividing by the odds of being drawn undoes that they differ.
    """
    known = np.nan_to_num(rows.propensity, nan=1.0)
    here = (known < 1.0) & (rows.creator >= 0)
    return Merit(rows.viewer[here], rows.creator[here], rows.clicked[here] / known[here], rows.clicked[here])


def judge_creators(
    dimension: str, by: Grouping, *, candidate: Listed, incumbent: Listed, merit: Merit, catalogue: Floats,
    viewers: int, config: AuditConfig, before: AuditRecord | None,
) -> FamilyCells:  # fmt: skip
    """One dimension's cells: exposure against merit and its change (gating), against the catalogue (reported)."""
    gates = dimension in LEVEL_GATES
    family = Family("creator", dimension, MERIT, gates)
    ours, theirs = (_by_viewer(one.viewer, one.creator, one.weight, by, viewers) for one in (candidate, incumbent))
    worth = _by_viewer(merit.viewer, merit.creator, merit.worth, by, viewers)
    met = int((ours.sum(1) > 0).sum())
    if not worth.sum():
        text = f"{family}: no answer on an explored place, so that merit is not known"
        return FamilyCells((), (Trouble(AuditReason.NO_EXPLORATION, text),), {})
    sizes = _sizes(by, merit, met)
    members = pooled(sizes, config)
    troubles = too_little(family, sizes, members=members, config=config)
    if troubles:
        return FamilyCells((), troubles, members)
    ours, theirs, worth = (_merged(one, by, members) for one in (ours, theirs, worth))
    judged = {name: Size(met, sum(sizes[one].events for one in inside)) for name, inside in members.items()}
    ratios = {name: share_to_share(_moments(ours, worth, place=place)) for place, name in enumerate(members)}
    cells = judge_ratios(family, ratios, sizes=judged, members=members, config=config, before=before)
    if theirs.sum():
        changes = {name: share_change(_moments(ours, theirs, worth, place=place)) for place, name in enumerate(members)}
        change = Family("creator", dimension, MERIT)
        cells += judge_changes(change, changes, sizes=judged, members=members, config=config)
    shares = _merged(_by_group(catalogue, by)[None, :], by, members)[0]
    cells += _to_catalogue(dimension, ours, shares / shares.sum(), sizes=judged, members=members, config=config)
    return FamilyCells(cells, (), members)


def _to_catalogue(
    dimension: str, ours: Floats, shares: Floats, *, sizes: Mapping[str, Size], members: Members, config: AuditConfig
) -> tuple[Cell, ...]:
    """Exposure share over catalogue share, which is known without error."""
    ratios = {}
    for place, name in enumerate(members):
        share = RatioSums.of(ours[:, place], ours.sum(1))
        ratios[name] = Ratio(share.ratio, float(shares[place]), share.variance, 0.0)
    family = Family("creator", dimension, CATALOGUE, gates=False)
    return judge_ratios(family, ratios, sizes=sizes, members=members, config=config)


def _sizes(by: Grouping, merit: Merit, met: int) -> dict[str, Size]:
    """Viewers who were shown anything, and the answers that a group's explored places would get at the common rate."""
    rate = float(merit.clicked.mean()) if len(merit.clicked) else 0.0
    places = np.bincount(by.place[merit.creator], minlength=len(by.names))
    return {name: Size(met, float(places[n]) * rate) for n, name in enumerate(by.names)}


def _by_viewer(viewer: Ints, creator: Ints, values: Floats, by: Grouping, viewers: int) -> Floats:
    """Sums by viewer and group, shape (viewers, groups); rows of creators that nobody knows are left out."""
    here, width = creator >= 0, len(by.names)
    place = viewer[here] * width + by.place[creator[here]]
    return totals(place, values[here], viewers * width).reshape(viewers, width)


def _by_group(values: Floats, by: Grouping) -> Floats:
    return totals(by.place, values, len(by.names))


def _merged(sums: Floats, by: Grouping, members: Members) -> Floats:
    """Columns added up to the groups as judged."""
    place = {name: n for n, name in enumerate(by.names)}
    return np.stack([sums[:, [place[one] for one in inside]].sum(1) for inside in members.values()], axis=1)


def _moments(*sides: Floats, place: int) -> Moments:
    """Each side's column of a group beside the sum of its groups, over viewers who have anything on any side."""
    columns = [one for side in sides for one in (side[:, place], side.sum(1))]
    here = np.any([column > 0 for column in columns], axis=0)
    return Moments.of(*(column[here] for column in columns))


def catalogue_counts(rows: AuditRows) -> Floats:
    """How many things each creator had in the month's catalogue."""
    owner = codes(rows.items["creator_id"], rows.creators["creator_id"].combine_chunks())
    here = (owner >= 0) & (numbers(rows.items["listed"]) > 0)
    return np.bincount(owner[here], minlength=rows.creators.num_rows).astype(np.float64)


def inequality(name: str, attention: Listed, creators: int) -> Inequality:
    """How a side's attention is spread over all creators of the catalogue; Nones when there was none."""
    here = attention.creator >= 0
    exposure = np.sort(totals(attention.creator[here], attention.weight[here], creators))
    total = float(exposure.sum())
    if not total:
        return Inequality(side=name, creators=creators, gini=None, top_share=None, coverage=None, coverage_10k=None)
    curve = np.r_[0.0, np.cumsum(exposure) / total]
    marks = np.interp(np.linspace(0, creators, 21), np.arange(creators + 1), curve)
    top = max(1, round(creators / 100))
    return Inequality(
        side=name, creators=creators, gini=gini(exposure), top_share=float(exposure[-top:].sum() / total),
        coverage=float((exposure > 0).mean()), coverage_10k=_coverage(attention, creators), lorenz=tuple(marks.tolist()),
    )  # fmt: skip


def gini(values: Floats) -> float:
    """Gini's coefficient: 0 when all have the same, near 1 when one has all. Dorfman, Rev. Econ. Stat. 61 (1979)."""
    rising, n = np.sort(values), len(values)
    return float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * rising.sum()))


def _coverage(attention: Listed, creators: int) -> float | None:
    """Share of creators expected to be shown in SAMPLE of the requests drawn without replacement; None of fewer requests.

    Hurlbert, "The Nonconcept of Species Diversity", Ecology 52 (1971): rarefaction.
    """
    here = attention.creator >= 0
    requests = len(np.unique(attention.request))
    if requests < SAMPLE:
        return None
    pairs = np.unique(attention.request[here].astype(np.int64) * creators + attention.creator[here])
    shown_in = np.bincount(pairs % creators, minlength=creators)
    left = requests - shown_in
    some = left >= SAMPLE  # else every sample has a request that shows this creator
    log_none = (
        gammaln(left[some] + 1) - gammaln(left[some] - SAMPLE + 1) - gammaln(requests + 1)
        + gammaln(requests - SAMPLE + 1)
    )  # fmt: skip
    return float((np.sum(1 - np.exp(log_none)) + np.sum(~some)) / creators)


def by_creator(dimension: str, by: Grouping, attention: Listed, catalogue: Floats) -> list[Note]:
    """Exposure over catalogue share with creators as the units: how far it hangs on a few of them. For the page."""
    here = attention.creator >= 0
    exposure = np.bincount(attention.creator[here], weights=attention.weight[here], minlength=len(catalogue))
    if not exposure.sum():
        return []
    scaled = catalogue * exposure.sum() / max(catalogue.sum(), 1.0)
    out = []
    for place, name in enumerate(by.names):
        mine = by.place == place
        one = RatioSums.of(exposure[mine], scaled[mine]).interval()
        out.append(
            Note(
                name="exposure_by_creators", dimension=dimension, group=name, viewers=int(mine.sum()),
                value=finite(one.estimate), low=finite(one.low), high=finite(one.high),
            )
        )  # fmt: skip
    return out
