"""Months of a platform with twelve languages, as the sums that the audit judges; viewers are drawn, or sums of very many.

A small group's viewers are drawn one by one out of a crowd of 400,000. Sums of more than EXACT of them are drawn from their
joint normal limit, whose mean and covariance are the crowd's: a month of 700,000 viewers costs a millisecond.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from monitoring.stats import Floats, Moments, RatioSums

LANGUAGES, SMALLEST, LARGEST = 12, 100, 400_000
EXACT = 3_000
CROWD = 400_000
CTR, PER_VIEWER = 0.113, 30.0


@dataclass(frozen=True)
class Habits:
    """How unlike each other viewers are: activity ~ Gamma(shape), own click rate ~ Beta(mean CTR, concentration)."""

    shape: float
    concentration: float


# Squared coefficients of variation of a viewer's clicks about her due near 1.1 and 2.7: measured with each run.
HABITS: Mapping[str, Habits] = {"mild": Habits(0.85, 20.0), "strong": Habits(1.15, 5.0)}


class Crowd:
    """Viewers with their clicks and impressions; `draw` gives the sums of n of them."""

    def __init__(self, clicks: Floats, impressions: Floats) -> None:
        y, x = clicks, impressions
        self._rows: Floats = np.stack([y, x, y * y, x * x, x * y], axis=1)
        self._mean = self._rows.mean(0)
        self._root = np.linalg.cholesky(np.cov(self._rows.T) + 1e-9 * np.eye(5))
        rate = y.sum() / x.sum()
        self.cv2 = float(np.mean((y - rate * x) ** 2) / y.mean() ** 2)

    @staticmethod
    def of(rng: np.random.Generator, habits: Habits) -> "Crowd":
        """Viewers with these habits."""
        activity = rng.gamma(habits.shape, (PER_VIEWER - 1) / habits.shape, CROWD)
        x = 1 + rng.poisson(activity)
        own = rng.beta(CTR * habits.concentration, (1 - CTR) * habits.concentration, CROWD)
        return Crowd(rng.binomial(x, own).astype(np.float64), x.astype(np.float64))

    def thinned(self, rng: np.random.Generator, ratio: float) -> "Crowd":
        """The same viewers with each click kept by chance: their rate is `ratio` times this crowd's, not another draw's."""
        return Crowd(rng.binomial(self._rows[:, 0].astype(np.int64), ratio).astype(np.float64), self._rows[:, 1])

    def draw(self, rng: np.random.Generator, n: int) -> RatioSums:
        """Sums of n viewers drawn with replacement."""
        if n <= EXACT:
            total = self._rows[rng.integers(0, CROWD, n)].sum(0)
        else:
            total = n * self._mean + np.sqrt(n) * (self._root @ rng.standard_normal(5))
        return RatioSums(float(n), *map(float, total))


def sizes() -> dict[str, int]:
    """Viewers by language, from 100 to 400,000 in equal steps of the logarithm."""
    steps = np.geomspace(SMALLEST, LARGEST, LANGUAGES)
    return {f"l{n:02d}": round(size) for n, size in enumerate(steps.tolist())}


def month(
    rng: np.random.Generator, crowd: Crowd, viewers: Mapping[str, int], *, other: Mapping[str, Crowd] | None = None
) -> dict[str, RatioSums]:
    """One month's sums by language; `other` says which languages are of another crowd."""
    unlike = other or {}
    return {name: unlike.get(name, crowd).draw(rng, n) for name, n in viewers.items()}


def beside(candidate: RatioSums, incumbent: RatioSums) -> Moments:
    """Both sides' sums of one group as the audit keeps them, its viewers split between the sides."""
    one, two = candidate, incumbent
    products = (one.yy, one.xy, 0.0, 0.0, one.xx, 0.0, 0.0, two.yy, two.xy, two.xx)
    return Moments(one.n + two.n, (one.y, one.x, two.y, two.x), products)
