"""Reported by group, gating nothing: whether clicks come as predicted and pages look like histories, how popular they are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pyarrow as pa

from monitoring.audit_record import AuditConfig, Note, finite
from monitoring.audit_rows import AuditRows
from monitoring.audit_viewers import Flags, Grouping, Listed, Predicted, codes, grouping, totals
from monitoring.stats import Floats, Ints, RatioSums

AXES = ("category", "language")
LEVEL = 0.95  # of intervals that are only reported


def calibration_notes(
    dimension: str, by: Grouping, rows: Predicted, *, viewers: int, config: AuditConfig
) -> list[Note]:
    """Predicted over observed clicks (simultaneous intervals, flagged where proved outside) and the calibration error."""
    sums = [totals(rows.viewer, one, viewers) for one in (rows.predicted, rows.clicked)]
    met = totals(rows.viewer, np.ones_like(rows.clicked), viewers) > 0
    level = 1 - 2 * config.alpha / max(len(by.names), 1)  # Bonferroni, one-sided alpha each way
    out = []
    for place, name in enumerate(by.names):
        here = met & (by.place == place)
        one = RatioSums.of(sums[0][here], sums[1][here])
        out.append(_noted("calibration", dimension, name, one, config=config, level=level))
        mine = (by.place == place)[rows.viewer]
        error = expected_error(rows.predicted[mine], rows.clicked[mine], config.bins)
        out.append(_shown_note("calibration_error", dimension, name, int(one.n), error, config=config))
    return out


def expected_error(predicted: Floats, clicked: Floats, bins: int) -> float:
    """Mean absolute gap of predicted and observed rate over bins of equal mass; NaN of nothing.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    if not len(predicted):
        return math.nan
    order = np.argsort(predicted, kind="stable")
    gaps = predicted[order] - clicked[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(gaps))


def divergence(
    history: tuple[Ints, Ints], listed: Listed, classes: Grouping, *, viewers: int, config: AuditConfig
) -> Floats:
    """Steck's KL(p || q~) by viewer, in nats: history against pages, over the items' classes; NaN where either is too little.

    Steck, "Calibrated Recommendations", RecSys 2018, eq. 2-3 and 6: q~ = (1 - smoothing) q + smoothing p.
    """
    width = len(classes.names)
    who, item = history
    cell, count = np.unique(who * width + classes.place[item], return_counts=True)
    owner = cell // width
    enough = totals(owner, count.astype(float), viewers)
    p = count / enough[owner]
    here = listed.item >= 0
    place, inverse = np.unique(listed.viewer[here] * width + classes.place[listed.item[here]], return_inverse=True)
    given = totals(inverse, listed.weight[here], len(place))
    total = totals(listed.viewer[here], listed.weight[here], viewers)
    at = np.searchsorted(place, cell)
    found = np.append(place, -1)[at] == cell
    q = np.where(found, np.append(given, 0.0)[at] / np.where(total[owner] > 0, total[owner], 1.0), 0.0)
    smooth = (1 - config.smoothing) * q + config.smoothing * p
    kl = totals(owner, p * np.log(p / smooth), viewers)
    kl[(enough < config.min_history) | (total == 0)] = math.nan
    return np.maximum(kl, 0.0)


@dataclass(frozen=True)
class Tastes:
    """Viewers' histories and the classes of items: what pages are held against."""

    who: Ints
    item: Ints
    classes: Mapping[str, Grouping]
    popularity: Floats  # by item: share of the viewers with a history who took it up

    @staticmethod
    def of(rows: AuditRows, viewers: pa.Array) -> "Tastes":
        """From the month's tables; history of people or items that are not there is left out."""
        who = codes(rows.history["user_id"], viewers)
        item = codes(rows.history["item_id"], rows.items["item_id"].combine_chunks())
        here = (who >= 0) & (item >= 0)
        pairs = np.unique(who[here] * max(rows.items.num_rows, 1) + item[here])
        who, item = pairs // max(rows.items.num_rows, 1), pairs % max(rows.items.num_rows, 1)
        classes = {axis: grouping([word or "unknown" for word in rows.items[axis].to_pylist()]) for axis in AXES}
        fans = np.bincount(item, minlength=rows.items.num_rows) / max(len(np.unique(who)), 1)
        return Tastes(who, item, classes, fans)


def taste_notes(
    dimension: str, by: Grouping, *, tastes: Tastes, ours: Listed, theirs: Listed, viewers: int, config: AuditConfig
) -> list[Note]:
    """Group means of the divergence by category and language, and the popularity lift, beside the incumbent's."""
    out = []
    for axis, classes in tastes.classes.items():
        sides = [
            divergence((tastes.who, tastes.item), one, classes, viewers=viewers, config=config)
            for one in (ours, theirs)
        ]
        out += _means(f"divergence_{axis}", dimension, by, sides, config)
    sides_lift = [_popularity(tastes, one, viewers) for one in (ours, theirs)]
    for place, name in enumerate(by.names):
        sums = [_of_group(y, x, by.place == place) for y, x in sides_lift]
        out.append(_noted("popularity_ratio", dimension, name, sums[0], config=config, incumbent=sums[1].ratio))
    return out


def _popularity(tastes: Tastes, listed: Listed, viewers: int) -> tuple[Floats, Floats]:
    """Mean popularity of what a viewer was shown, and of her history; NaN where either is nothing.

    Abdollahpouri et al., "The Unfairness of Popularity Bias in Recommendation", RMSE 2019: group average popularity.
    """
    here = listed.item >= 0
    worth = tastes.popularity[listed.item[here]] * listed.weight[here]
    with np.errstate(invalid="ignore"):
        given = totals(listed.viewer[here], worth, viewers) / totals(listed.viewer[here], listed.weight[here], viewers)
        liked = tastes.popularity[tastes.item]
        had = totals(tastes.who, liked, viewers) / totals(tastes.who, np.ones_like(liked), viewers)
    return given, had


def _of_group(y: Floats, x: Floats, mine: Flags) -> RatioSums:
    here = mine & np.isfinite(y) & np.isfinite(x)
    return RatioSums.of(y[here], x[here])


def _means(name: str, dimension: str, by: Grouping, sides: list[Floats], config: AuditConfig) -> list[Note]:
    out = []
    for place, group in enumerate(by.names):
        sums = [_of_group(one, np.ones_like(one), by.place == place) for one in sides]
        out.append(_noted(name, dimension, group, sums[0], config=config, incumbent=sums[1].ratio))
    return out


def _noted(
    name: str, dimension: str, group: str, sums: RatioSums, *, config: AuditConfig, level: float = LEVEL,
    incumbent: float = math.nan,
) -> Note:  # fmt: skip
    """A ratio with its interval; nothing but its name where too few viewers are behind it."""
    if sums.n < config.suppress_below:
        return Note(name=name, dimension=dimension, group=group, viewers=None)
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(sums.variance) if sums.x else math.nan
    low, high = sums.ratio - half, sums.ratio + half
    flag = ""
    if name == "calibration":
        least, most = config.calibration
        flag = "over-predicted" if low > most else "under-predicted" if high < least else ""
    return Note(
        name=name, dimension=dimension, group=group, viewers=int(sums.n), value=finite(sums.ratio), low=finite(low),
        high=finite(high), incumbent=finite(incumbent), flag=flag,
    )  # fmt: skip


def _shown_note(name: str, dimension: str, group: str, n: int, value: float, *, config: AuditConfig) -> Note:
    if n < config.suppress_below:
        return Note(name=name, dimension=dimension, group=group, viewers=None)
    return Note(name=name, dimension=dimension, group=group, viewers=n, value=finite(value))
