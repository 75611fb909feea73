"""Off-policy estimates: what a policy would earn at the explored places, and how much more than the incumbent.

    snips(places).difference          # self-normalised inverse propensity scores
    doubly_robust(places).difference  # with a reward model; unbiased when propensities or model are right
    ips(places), naive(places)        # to compare with: not normalised, and what a table of click rates would say

With w = probability under a policy / propensity, each policy's value is a mean over places of IPS: w r; SNIPS: w r, over
the mean of w; DR: E[q] + w (r - q). The difference is estimated as one number, place by place (Jeunen and Ustimenko,
arXiv 2405.10024, as summarised by its abstract): where both policies choose alike it has no noise at all. Intervals come
from influences added up by viewer, since a viewer's places depend on each other, and are corrected for skewness: a click of
great weight is rare, so a log without one yet looks both worse and surer than it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from monitoring.errors import BadPlaces, NothingToCompare
from monitoring.off_policy_log import Floats, LoggedPlaces


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, and how much each viewer pulled it."""

    value: float
    se: float  # NaN below two viewers
    influence: Floats  # [viewers], in the value's unit; adds up to 0

    @property
    def effective_viewers(self) -> float:
        """How many viewers carry the error: (sum of squared influences)^2 / sum of their fourth powers; NaN without any."""
        squares = self.influence**2
        total = float((squares**2).sum())
        return float(squares.sum()) ** 2 / total if total > 0 else math.nan

    def bounds(self, level: float) -> tuple[float, float]:
        """The two-sided interval, leaning to where rare rewards of great weight may still come from.

        Hall, "On the removal of skewness by transformation", JRSS B 54 (1992): with g the influences' skewness over the
        root of their number, T + g T^2 / 3 + g^2 T^3 / 27 + g / 6 of the score T is normal to second order.
        """
        if not self.se > 0:
            return (self.value, self.value) if self.se == 0 else (math.nan, math.nan)
        squares = float((self.influence**2).sum())
        g = float((self.influence**3).sum()) / squares**1.5
        edge = NormalDist().inv_cdf((1 + level) / 2)
        low, high = (_score(z, g) for z in (edge, -edge))
        return self.value - low * self.se, self.value - high * self.se


def _score(z: float, g: float) -> float:
    """The score T whose transformed value is z."""
    return 3.0 / g * (math.cbrt(1.0 + g * (z - g / 6.0)) - 1.0) if abs(g) > 1e-6 else z


@dataclass(frozen=True)
class Comparison:
    """Both policies' values a place, and the target's less the incumbent's."""

    method: str
    target: Estimate
    incumbent: Estimate
    difference: Estimate


def weights(places: LoggedPlaces) -> tuple[Floats, Floats]:
    """How much more often than the log the target and the incumbent would show each row, [places] each."""
    return places.target / places.propensity, places.incumbent / places.propensity


def ips(places: LoggedPlaces) -> Comparison:
    """Inverse propensity scores (Horvitz and Thompson 1952)."""
    one, other = weights(places)
    return _means("ips", places, one * places.reward, other * places.reward)


def doubly_robust(places: LoggedPlaces) -> Comparison:
    """Doubly robust (Dudik, Langford and Li, ICML 2011); BadPlaces without predicted rewards."""
    if places.predicted is None:
        raise BadPlaces(
            "places without predicted rewards have no doubly robust estimate; give `predicted`, or use snips"
        )
    (one, other), q = weights(places), places.predicted
    missed = places.reward - q.shown
    return _means("doubly_robust", places, q.target + one * missed, q.incumbent + other * missed)


def snips(places: LoggedPlaces) -> Comparison:
    """Self-normalised inverse propensity scores (Swaminathan and Joachims, NIPS 2015), variance by the delta method."""
    _some(places)
    values, terms = [], []
    for weight in weights(places):
        mean = float(weight.mean())
        value = float(weight @ places.reward) / len(places) / mean if mean > 0 else math.nan
        values.append(value)
        terms.append(weight * (places.reward - value) / (mean if mean > 0 else math.nan))
    return _comparison("snips", places, values, terms)


def naive(places: LoggedPlaces) -> Comparison:
    """Mean reward of the places that show the target's likely choice, against that of the incumbent's: not an answer.

    It is what the difference of two click rates in the log says, and differs from the truth by how such places differ.
    """
    _some(places)
    values, terms = [], []
    for odds in (places.target, places.incumbent):
        likely = (odds > 0.5).astype(np.float64)
        share = float(likely.mean()) or math.nan
        value = float(likely @ places.reward) / len(places) / share
        values.append(value)
        terms.append(likely * (places.reward - value) / share)
    return _comparison("naive", places, values, terms)


def disagreement(one: Comparison, other: Comparison) -> float:
    """The score of the difference between two methods' differences on the same places; NaN where it has no error."""
    gap = one.difference.value - other.difference.value
    pulled = one.difference.influence - other.difference.influence
    se = math.sqrt(float(pulled @ pulled))
    return gap / se if se > 0 else math.nan if gap else 0.0


Method = Callable[[LoggedPlaces], Comparison]


def _some(places: LoggedPlaces) -> None:
    if not len(places):
        raise NothingToCompare("the log has no explored places; an estimate needs one")


def _means(method: str, places: LoggedPlaces, one: Floats, other: Floats) -> Comparison:
    _some(places)
    values = [float(one.mean()), float(other.mean())]
    return _comparison(method, places, values, [one - values[0], other - values[1]])


def _comparison(method: str, places: LoggedPlaces, values: list[float], terms: list[Floats]) -> Comparison:
    def estimate(value: float, term: Floats) -> Estimate:
        # The number of places is a sum over viewers too: terms are centred on the value, so a viewer with many of them
        # counts as the delta method says (Deng, Knoblich and Lu, KDD 2018).
        influence = places.by_viewer(term) / len(places)
        n = places.viewers
        se = math.sqrt(n / (n - 1) * float(influence @ influence)) if n > 1 else math.nan
        return Estimate(value, se, influence)

    return Comparison(
        method, estimate(values[0], terms[0]), estimate(values[1], terms[1]),
        estimate(values[0] - values[1], terms[0] - terms[1]),
    )  # fmt: skip
