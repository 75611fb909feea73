"""Tests that may be looked at again and again: the always-valid one-sided bound, and Lan-DeMets spending.

The clock of both is information (one over the variance of the lift), not time: viewers return, so hours say nothing.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from monitoring.errors import BadPlan

NORMAL = NormalDist()
_NODES = 601  # Simpson's rule over the continuation region; bounds then agree with published ones to four digits
APART = 0.01  # least information between looks: below it the walk's step is finer than the nodes
_FAR = 12.0  # in standard errors: where a bound is looked for at most


def tuning(alpha: float) -> float:
    """Information clock at which the one-sided bound is narrowest, put at the planned variance.

    Waudby-Smith et al., arXiv:2103.06476, eq. 9 with 2 alpha in place of alpha (one side of a two-sided sequence).
    """
    log = -2 * math.log(2 * alpha)
    return log + math.log(log + 1)


def always_valid_z(alpha: float, *, se: float, planned_variance: float) -> float:
    """How many standard errors from the estimate the one-sided bound lies that holds at every look at once.

    Waudby-Smith et al., arXiv:2103.06476, eq. 134; its t rho^2 is here tuning * planned variance / se^2.
    """
    clock = tuning(alpha) * planned_variance / se**2
    return math.sqrt(2 * (clock + 1) / clock * math.log1p(math.sqrt(clock + 1) / (2 * alpha)))


def always_valid_p(z: float, *, alpha: float, se: float, planned_variance: float) -> float:
    """One-sided p valid at every look, of "not below zero", for the score `z`; below `alpha` with the bound below zero.

    The inverse of arXiv:2103.06476, eq. 134, with the tuning held at `alpha`.
    """
    if z >= 0:
        return 1.0
    clock = tuning(alpha) * planned_variance / se**2
    exponent = z * z * clock / (2 * (clock + 1))
    return min(1.0, math.sqrt(clock + 1) / (2 * math.expm1(exponent))) if exponent < 700 else 0.0


def obrien_fleming(fraction: float, alpha: float) -> float:
    """Error spent on one side by that fraction of the information, alpha / 2 in the end.

    Lan and DeMets, "Discrete Sequential Boundaries for Clinical Trials", Biometrika 70 (1983), alpha_1*.
    """
    return 2 - 2 * NORMAL.cdf(NORMAL.inv_cdf(1 - alpha / 4) / math.sqrt(fraction))


def pocock(fraction: float, alpha: float) -> float:
    """Error spent on one side by that fraction of the information. Lan and DeMets (1983), alpha_2*."""
    return alpha / 2 * math.log(1 + (math.e - 1) * fraction)


def lan_demets(fractions: Sequence[float], alpha: float, *, spend: str = "obf") -> list[float]:
    """Bounds on |z| at looks with these fractions of the planned information (in (0, 1], rising), two-sided `alpha`.

    Armitage, McPherson and Rowe, JRSS A 132 (1969): the density of paths not yet stopped, carried from look to look.
    """
    if spend not in ("obf", "pocock"):
        raise BadPlan(f"spending {spend!r} is not known; allowed are 'obf', 'pocock'")
    if not fractions or fractions[0] <= 0 or fractions[-1] > 1 or np.any(np.diff(fractions) < APART * 0.999):
        raise BadPlan(f"information fractions {list(fractions)} must rise within (0, 1], by {APART:g} or more each")
    spent = [(obrien_fleming if spend == "obf" else pocock)(t, alpha) for t in fractions]
    bounds: list[float] = []
    where, mass = np.zeros(1), np.ones(1)  # the walk before the first look
    last_t = last_spent = 0.0
    for t, total in zip(fractions, spent, strict=True):
        step, share = math.sqrt(t - last_t), total - last_spent
        edge = _edge(where, mass, step=step, share=share, far=_FAR * math.sqrt(t))
        bounds.append(edge / math.sqrt(t))
        where, mass = _carry(where, mass, step=step, edge=edge)
        last_t, last_spent = t, total
    return bounds


def _edge(where: np.ndarray, mass: np.ndarray, *, step: float, share: float, far: float) -> float:
    """The upper edge that `share` of the paths cross at this look; `far` when it is too little to find."""

    def beyond(edge: float) -> float:
        return float(mass @ ndtr((where - edge) / step)) - share

    return float(brentq(beyond, 0.0, far, xtol=1e-10)) if beyond(far) < 0 else far


def _carry(where: np.ndarray, mass: np.ndarray, *, step: float, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """The paths still between the edges after this look, as nodes with their probability."""
    nodes = np.linspace(-edge, edge, _NODES)
    simpson = np.full(_NODES, 2.0)
    simpson[1::2], simpson[[0, -1]] = 4.0, 1.0
    weight = simpson * (nodes[1] - nodes[0]) / 3
    density = np.exp(-(((nodes[:, None] - where) / step) ** 2) / 2) @ mass / (step * math.sqrt(2 * math.pi))
    return nodes, weight * density
