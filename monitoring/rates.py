"""How often what was shown was answered, by arm or source: click, completion and like rates with intervals by viewer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from monitoring.stats import RatioSums


class Rate(Struct, frozen=True, kw_only=True):
    """Share of a group's impressions with a positive label; the bounds are NaN below two viewers."""

    group: str
    impressions: int
    viewers: int
    rate: float
    low: float
    high: float


def rates_by(
    groups: Sequence[Any] | npt.NDArray[Any], users: Sequence[Any] | npt.NDArray[Any], labels: npt.ArrayLike
) -> tuple[Rate, ...]:
    """One rate a group, most shown first; arguments are aligned, one entry an impression, labels 0 or 1."""
    names, users, y = np.asarray(groups).astype(str), np.asarray(users).astype(str), np.asarray(labels, np.float64)
    out = [_rate(str(name), users[names == name], y[names == name]) for name in np.unique(names)]
    return tuple(sorted(out, key=lambda rate: -rate.impressions))


def _rate(group: str, users: npt.NDArray[Any], labels: npt.NDArray[np.float64]) -> Rate:
    _, index = np.unique(users, return_inverse=True)
    sums = RatioSums.of(np.bincount(index, weights=labels), np.bincount(index))
    interval = sums.interval()
    return Rate(
        group=group,
        impressions=int(sums.x),
        viewers=int(sums.n),
        rate=interval.estimate,
        low=interval.low,
        high=interval.high,
    )
