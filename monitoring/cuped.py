"""Ratio metrics over four numbers a viewer: CUPED with what the viewer did before, and the first day against the last.

Moments are over (y, x, y before, x before, is new): a viewer without a pre-period has zeros there and 1 at the end.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from monitoring.lift import Lift
from monitoring.stats import Floats, Moments

COLUMNS = ("y", "x", "y_before", "x_before", "is_new")
DAYS = ("y_first", "x_first", "y_last", "x_last")
NORMAL = NormalDist()


@dataclass(frozen=True)
class Cuped:
    """The adjusted lift, and how far adjusting moved the difference of the two ratios, with that shift's error."""

    lift: Lift
    shift: float
    shift_se: float

    @property
    def p_shift(self) -> float:
        """Two-sided p of "the arms did not differ before"; 1 when nothing was adjusted."""
        return 2 * NORMAL.cdf(-abs(self.shift) / self.shift_se) if self.shift_se > 0 else 1.0


def cuped(treatment: Moments, control: Moments) -> Cuped:
    """The lift with each ratio regressed on the pre-period's ratio and on being new.

    Deng, Xu, Kohavi and Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment
    Data", WSDM 2013, eq. 4 and appendix B (ratio metrics by the delta method); theta comes from both arms together.
    """
    pooled = treatment + control
    theta, centre = _theta(pooled), _covariates(pooled)
    ratios, variances, shifts, shift_variances = [], [], [], []
    for arm in (treatment, control):
        spread = arm.covariance() / arm.n
        outcome, before = _gradients(arm)
        moved = float(theta @ (_covariates(arm) - centre))
        adjusted = outcome - theta @ before
        ratios.append(arm.sums[0] / arm.sums[1] - moved)
        variances.append(max(float(adjusted @ spread @ adjusted), 0.0))
        shifts.append(-moved)
        shift_variances.append(max(float((theta @ before) @ spread @ (theta @ before)), 0.0))
    found = Lift(ratios[0], variances[0], ratios[1], variances[1])
    return Cuped(found, shifts[0] - shifts[1], math.sqrt(sum(shift_variances)))


def _theta(pooled: Moments) -> Floats:
    """Coefficients of (ratio before, share of new viewers), shape (2,); 0 for what does not vary."""
    outcome, before = _gradients(pooled)
    spread = pooled.covariance()
    return np.asarray(
        np.linalg.pinv(before @ spread @ before.T, rcond=1e-10, hermitian=True) @ before @ spread @ outcome
    )


def _gradients(arm: Moments) -> tuple[Floats, Floats]:
    """Derivatives by the five means: of y / x, shape (5,), and of the two covariates, shape (2, 5)."""
    y, x, y0, x0, _ = arm.mean().tolist()
    outcome = np.array([1 / x, -y / x**2, 0.0, 0.0, 0.0])
    before = np.zeros((2, 5))
    before[1, 4] = 1.0
    if x0 > 0:
        before[0, 2:4] = 1 / x0, -y0 / x0**2
    return outcome, before


def _covariates(arm: Moments) -> Floats:
    _, _, y0, x0, new = arm.mean().tolist()
    return np.array([y0 / x0 if x0 > 0 else 0.0, new])


@dataclass(frozen=True)
class Fading:
    """The lift on the first and on the last day, and the error of their difference (the same viewers may be in both)."""

    first: float
    last: float
    se: float

    @property
    def p(self) -> float:
        """Two-sided p of "both days have the same lift"; NaN without a spread."""
        return 2 * NORMAL.cdf(-abs(self.last - self.first) / self.se) if self.se > 0 else math.nan


def fading(treatment: Moments, control: Moments) -> Fading:
    """Last day's lift against the first day's; moments over (y first, x first, y last, x last).

    The delta method of Deng, Knoblich and Lu (KDD 2018) on T_last / C_last - T_first / C_first, viewers paired.
    """
    ratios, gradients = [], []
    for arm in (treatment, control):
        y1, x1, y2, x2 = arm.mean().tolist()
        if not (x1 > 0 and x2 > 0):
            return Fading(math.nan, math.nan, math.nan)
        ratios.append((y1 / x1, y2 / x2))
        gradients.append(np.array([[1 / x1, -y1 / x1**2, 0, 0], [0, 0, 1 / x2, -y2 / x2**2]]))
    (t1, t2), (c1, c2) = ratios
    if not (c1 > 0 and c2 > 0):
        return Fading(math.nan, math.nan, math.nan)
    slopes = (np.array([-1 / c1, 1 / c2]), np.array([t1 / c1**2, -t2 / c2**2]))
    variance = 0.0
    for arm, gradient, slope in zip((treatment, control), gradients, slopes, strict=True):
        turned = slope @ gradient
        variance += float(turned @ arm.covariance() @ turned) / arm.n
    return Fading(t1 / c1 - 1, t2 / c2 - 1, math.sqrt(max(variance, 0.0)))
