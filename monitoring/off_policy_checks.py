"""Can the log answer at all: overlap, effective sample size, and whether the propensities are what really happened.

Right propensities make some sums known beforehand, whatever the rewards: over many places, for any f of the choices,
E[f(shown) / p(shown)] is the sum of f over the choices. Five such f are tested, clustered by viewer, on the whole log once
(looking again as it grows needs a smaller alpha). Noticed are: odds too high or low, an epsilon that was not the one in
use, odds given to the wrong rows, a target choice that cannot really be drawn, draws that lean to one end of the pool. Not
noticed is what keeps all five sums: odds swapped between places of equal pools (harmless), draws uneven in the middle of the
pool, a cause that moves both the dice and the clicks.
"""

import math
from statistics import NormalDist

import numpy as np
from msgspec import Struct

from monitoring.off_policy import weights
from monitoring.off_policy_log import Floats, LoggedPlaces, Support


class KnownSum(Struct, frozen=True):
    """One sum that right propensities make zero: its mean a place, score and two-sided p."""

    name: str
    mean: float
    z: float
    p: float


class Overlap(Struct, frozen=True):
    """How much of the target's policy the log can speak of."""

    places: int
    viewers: int
    covered: float  # mean probability of the target on what might have been shown
    differing: float  # share of places where what was shown has other odds under the target than under the incumbent
    least_propensity: float
    largest_weight: float  # of the target's; a place shown once may count for so many
    ess: float  # Kish: (sum w)^2 / sum w^2 of the target's weights
    ess_difference: float  # rows that speak for what only one of the two policies would show, the scarcer side's


def overlap(places: LoggedPlaces) -> Overlap:
    """Of places whose propensities are within (0, 1]; needs a place and its support."""
    assert places.support is not None
    one, other = weights(places)
    apart = one - other
    return Overlap(
        places=len(places),
        viewers=places.viewers,
        covered=float(places.support.covered.mean()),
        differing=float((np.abs(apart) > 1e-9).mean()),
        least_propensity=float(places.propensity.min()),
        largest_weight=float(one.max()),
        ess=kish(one),
        ess_difference=min(kish(np.maximum(apart, 0.0)), kish(np.maximum(-apart, 0.0))),
    )


def kish(weight: Floats) -> float:
    """How many rows of equal weight know as much; 0 when none has any."""
    squares = float((weight * weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def known_sums(places: LoggedPlaces) -> list[KnownSum]:
    """Every known sum against what the log has; needs support."""
    assert places.support is not None
    return [
        _known_sum(name, terms, places)
        for name, terms in _terms(places, places.support, 1.0 / places.propensity).items()
    ]


def broken(found: list[KnownSum], *, alpha: float) -> list[KnownSum]:
    """Those that cannot be luck at `alpha` for all together (Bonferroni); a p that is not a number is one of them."""
    return [one for one in found if not one.p >= alpha / len(found)]


def _terms(places: LoggedPlaces, support: Support, inverse: Floats) -> dict[str, Floats]:
    """Terms with mean zero where the propensities are right, [places] each."""
    terms = {
        "by_merit": ~support.drawn * inverse - 1.0,
        "choices": support.drawn * inverse - (support.choices - 1),
        "target": places.target * inverse - support.covered,
        "incumbent": places.incumbent * inverse - support.incumbent_covered,
    }
    if support.rank is not None:
        terms["rank"] = np.where(support.drawn, support.rank - 0.5, 0.0)
    return terms


def _known_sum(name: str, terms: Floats, places: LoggedPlaces) -> KnownSum:
    sums = places.by_viewer(np.where(np.abs(terms) < 1e-9, 0.0, terms))  # rounding of exact equality is not evidence
    total, squares = float(sums.sum()), float(sums @ sums)
    z = total / math.sqrt(squares) if squares > 0 else 0.0 if squares == 0 else math.nan
    p = 2.0 * NormalDist().cdf(-abs(z)) if math.isfinite(z) else math.nan
    return KnownSum(name, total / len(places), z, p)
