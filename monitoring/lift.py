"""The lift of a ratio metric, treatment over control, with its tests; and Holm's correction. Pure floats.

Every test and every bound comes from one pivot (Fieller's), so a p-value and the bound beside it never disagree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from monitoring.stats import RatioSums

NORMAL = NormalDist()


@dataclass(frozen=True)
class Lift:
    """Two independent ratios with their variances; `estimate` is treatment / control - 1."""

    treatment: float
    treatment_variance: float
    control: float
    control_variance: float

    @property
    def estimate(self) -> float:
        """Relative lift, 0.05 is five per cent more; NaN when the control's ratio is 0."""
        return self.treatment / self.control - 1 if self.control else math.nan

    @property
    def se(self) -> float:
        """Standard error of `estimate` by the delta method; NaN when the control's ratio is 0.

        Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 3.
        """
        if not self.control:
            return math.nan
        ratio = self.treatment / self.control
        return math.sqrt(self.treatment_variance + ratio**2 * self.control_variance) / abs(self.control)

    def z(self, *, null: float = 0.0) -> float:
        """Standard score against "the lift is `null`"; with 0 it is the score of the plain difference.

        Fieller, "Some Problems in Interval Estimation", JRSS B 16 (1954): T - (1 + null) C is a difference of means.
        """
        variance = self.treatment_variance + (1 + null) ** 2 * self.control_variance
        return (self.treatment - (1 + null) * self.control) / math.sqrt(variance) if variance > 0 else math.nan

    def bound(self, z: float) -> float:
        """The null lift whose score is -z: an upper bound for z > 0, a lower one for z < 0; NaN when unbounded.

        Fieller (1954): the root of (T - r C)^2 = z^2 (var T + r^2 var C).
        """
        square = z * z
        lead = self.control**2 - square * self.control_variance
        inside = (self.treatment * self.control) ** 2 - lead * (self.treatment**2 - square * self.treatment_variance)
        if not lead > 0 or not inside >= 0:
            return math.nan
        return (self.treatment * self.control + math.copysign(math.sqrt(inside), z)) / lead - 1

    def p_two_sided(self) -> float:
        """p of "no difference", looked at once; NaN without a variance."""
        z = self.z()
        return 2 * NORMAL.cdf(-abs(z)) if math.isfinite(z) else math.nan


def lift(treatment: RatioSums, control: RatioSums) -> Lift:
    """The lift of two groups of different viewers."""
    return Lift(treatment.ratio, treatment.variance, control.ratio, control.variance)


def p_non_inferior(one: Lift, *, margin: float) -> float:
    """One-sided p of "worse than -margin" (relative, 0.05 is five per cent): small means shown to be not inferior.

    FDA, "Non-Inferiority Clinical Trials" (2016), section III: the bound of the interval against the margin.
    """
    return 1 - NORMAL.cdf(one.z(null=-margin))


def p_worse_than(one: Lift, *, floor: float) -> float:
    """One-sided p of "the lift is `floor` or more" (floor -0.1: lost at most ten per cent): small means proved worse."""
    return NORMAL.cdf(one.z(null=floor))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given; every one must be a number.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist. 6 (1979).
    """
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = worst
    return adjusted
