"""Statistics of a comparison: addable sums for ratio metrics, and the paired bootstrap by viewer. Pure numpy.

A viewer's rows depend on each other, so the viewer is the unit everywhere: an interval over rows would be too narrow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Weights by unit (how often a unit was drawn) -> the statistic; NaN where it is not defined for that draw.
Statistic = Callable[[Ints], float]
MAX_UNDEFINED = 0.05  # a bootstrap with more undefined draws than this has no interval


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class RatioSums:
    """Sufficient sums of a ratio metric sum(y) / sum(x) over independent units; sums of disjoint units add with `+`."""

    n: float = 0.0
    y: float = 0.0
    x: float = 0.0
    yy: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    @staticmethod
    def of(y: npt.ArrayLike, x: npt.ArrayLike) -> "RatioSums":
        """Sums over units given each unit's numerator and denominator, e.g. clicks and impressions by viewer."""
        a, b = np.asarray(y, np.float64), np.asarray(x, np.float64)
        return RatioSums(float(len(a)), *(float(s) for s in (a.sum(), b.sum(), a @ a, b @ b, a @ b)))

    def __add__(self, other: "RatioSums") -> "RatioSums":
        return RatioSums(
            self.n + other.n, self.y + other.y, self.x + other.x,
            self.yy + other.yy, self.xx + other.xx, self.xy + other.xy,
        )  # fmt: skip

    @property
    def ratio(self) -> float:
        """sum(y) / sum(x); NaN without a denominator."""
        return self.y / self.x if self.x else math.nan

    @property
    def variance(self) -> float:
        """Variance of `ratio` by the delta method; NaN below two units or without a denominator.

        Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, eq. 3-4.
        """
        if self.n < 2 or not self.x:
            return math.nan
        n, mean_y, mean_x = self.n, self.y / self.n, self.x / self.n
        var_y = (self.yy - n * mean_y**2) / (n - 1)
        var_x = (self.xx - n * mean_x**2) / (n - 1)
        cov = (self.xy - n * mean_y * mean_x) / (n - 1)
        spread = var_y / mean_x**2 - 2 * mean_y * cov / mean_x**3 + mean_y**2 * var_x / mean_x**4
        return max(spread, 0.0) / n  # rounding may push a constant ratio's spread just below zero

    @property
    def possible(self) -> bool:
        """Whether numbers of viewers can have these sums: finite, not negative, and no square sum below its mean's."""
        values = (self.n, self.y, self.x, self.yy, self.xx, self.xy)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            return False
        room = 1 + 1e-9  # rounding of sums of millions
        return (
            self.y**2 <= self.n * self.yy * room
            and self.x**2 <= self.n * self.xx * room
            and self.xy**2 <= self.xx * self.yy * room
        )

    def interval(self, *, level: float = 0.95) -> Interval:
        """The ratio with its normal interval."""
        half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(self.variance)
        return Interval(self.ratio, self.ratio - half, self.ratio + half)


@dataclass(frozen=True)
class Moments:
    """Sums and products of several numbers a unit (products: upper triangle, row by row); disjoint units add with `+`."""

    n: float
    sums: tuple[float, ...]
    products: tuple[float, ...]

    @staticmethod
    def of(*columns: npt.ArrayLike) -> "Moments":
        """Sums over units, one column a number."""
        v = np.stack([np.asarray(column, np.float64) for column in columns])
        upper = (v @ v.T)[np.triu_indices(len(v))]
        return Moments(float(v.shape[1]), tuple(v.sum(1).tolist()), tuple(upper.tolist()))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.n + other.n,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.products, other.products, strict=True)),
        )

    @property
    def possible(self) -> bool:
        """Whether every number is finite and the sizes agree."""
        k = len(self.sums)
        agree = len(self.products) == k * (k + 1) // 2
        return agree and all(map(math.isfinite, (self.n, *self.sums, *self.products)))

    def mean(self) -> Floats:
        """Mean of each number, shape (k,); needs a unit."""
        return np.array(self.sums) / self.n

    def covariance(self) -> Floats:
        """Sample covariance of the numbers, shape (k, k); needs two units."""
        k = len(self.sums)
        square = np.zeros((k, k))
        square[np.triu_indices(k)] = self.products
        square += np.triu(square, 1).T
        mean = self.mean()
        return (square - self.n * np.outer(mean, mean)) / (self.n - 1)


def difference(treatment: RatioSums, control: RatioSums, *, level: float = 0.95) -> Interval:
    """Treatment's ratio minus control's, for two groups of different units."""
    estimate = treatment.ratio - control.ratio
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(treatment.variance + control.variance)
    return Interval(estimate, estimate - half, estimate + half)


def bootstrap(statistic: Statistic, units: int, *, resamples: int, seed: int, level: float = 0.95) -> Interval:
    """Percentile interval of a statistic over `units` redrawn with replacement; NaN bounds when it is undefined too often.

    Pairing comes from the caller: a statistic that is a difference of two scores on the same draw is paired.
    """
    rng = np.random.default_rng(seed)
    estimate = statistic(np.ones(units, np.int64))
    draws = np.array(
        [statistic(np.bincount(rng.integers(0, units, units), minlength=units)) for _ in range(resamples)], np.float64
    )
    known = draws[np.isfinite(draws)]
    if not math.isfinite(estimate) or len(known) < (1 - MAX_UNDEFINED) * resamples:
        return Interval(estimate, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


class WeightedAuc:
    """Area under the ROC curve of fixed scores under changing row weights: sorted once, O(rows) a call, ties half."""

    def __init__(self, labels: npt.ArrayLike, scores: npt.ArrayLike) -> None:
        y, s = np.asarray(labels, bool), np.asarray(scores, np.float64)
        self._order = np.argsort(s, kind="stable")
        self._positive = y[self._order]
        ordered = s[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(s) else np.zeros(0, np.int64)

    def __call__(self, weights: npt.NDArray[Any]) -> float:
        """The AUC with each row counted `weights` times; NaN when only one class has weight."""
        if not len(self._order):
            return math.nan
        w = weights[self._order].astype(np.float64)
        positive = np.add.reduceat(np.where(self._positive, w, 0.0), self._starts)
        negative = np.add.reduceat(np.where(self._positive, 0.0, w), self._starts)
        total = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative
        return float(positive @ (below + negative / 2) / total) if total else math.nan


def auc_difference(
    users: npt.NDArray[Any], labels: npt.ArrayLike, scores: npt.ArrayLike, baseline: npt.ArrayLike
) -> tuple[Statistic, int]:
    """The paired statistic AUC(scores) - AUC(baseline) over redrawn users, and how many users there are."""
    names, index = np.unique(users, return_inverse=True)
    ours, theirs = WeightedAuc(labels, scores), WeightedAuc(labels, baseline)

    def statistic(weights: Ints) -> float:
        by_row = weights[index]
        return ours(by_row) - theirs(by_row)

    return statistic, len(names)


def recall_difference(positives: npt.ArrayLike, hits: npt.ArrayLike, baseline_hits: npt.ArrayLike) -> Statistic:
    """The paired statistic (hits - baseline hits) / positives over redrawn users; one row a user."""
    total = np.asarray(positives, np.float64)
    gain = np.asarray(hits, np.float64) - np.asarray(baseline_hits, np.float64)

    def statistic(weights: Ints) -> float:
        found = float(weights @ total)
        return float(weights @ gain) / found if found else math.nan

    return statistic
