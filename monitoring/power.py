"""What a canary can see: detectable effects, the viewers it needs, and the variance to plan with before it starts."""

import math
from statistics import NormalDist

from monitoring.errors import BadPlan
from monitoring.stats import RatioSums

NORMAL = NormalDist()


def reach(*, alpha: float = 0.05, power: float = 0.8) -> float:
    """Standard errors that an effect must measure to be found with that power, two-sided: 2.80 by default.

    van Belle, "Statistical Rules of Thumb", 2nd ed., section 2.1: z(1 - alpha/2) + z(power).
    """
    return NORMAL.inv_cdf(1 - alpha / 2) + NORMAL.inv_cdf(power)


def detectable(se: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest lift found with that power at this standard error of the lift."""
    return reach(alpha=alpha, power=power) * se


def relative_variance(sums: RatioSums) -> float:
    """The squared coefficient of variation of one viewer: variance of the ratio over its square, times viewers."""
    return sums.n * sums.variance / sums.ratio**2 if sums.ratio else math.nan


def planned_variance(pre_period: RatioSums, *, canary: float, control: float) -> float:
    """The variance of the lift to expect with so many viewers in each arm, from a pre-period as long as the canary.

    BadPlan when the pre-period has no spread to plan with.
    """
    spread = relative_variance(pre_period)
    if not (math.isfinite(spread) and spread > 0 and canary > 0 and control > 0):
        raise BadPlan(
            f"a variance cannot be planned from {pre_period.n:g} viewers for arms of {canary:g} and {control:g}; "
            "the pre-period needs two viewers that differ, and each arm some"
        )
    return spread * (1 / canary + 1 / control)


def viewers_needed(spread: float, *, effect: float, share: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Canary viewers needed to find a relative `effect` at that share of traffic; `spread` as of relative_variance."""
    if not (effect and 0 < share < 1):
        raise BadPlan(f"effect {effect:g} at share {share:g} is not allowed: an effect but 0, a share between 0 and 1")
    return math.ceil(spread * (1 + share / (1 - share)) * (reach(alpha=alpha, power=power) / effect) ** 2)
