"""Sample ratio: did the arms get the viewers that their weights say? A mismatch means that the comparison is broken.

Weights are those configured (95 to 5, not half and half). NumPy arrays work: counts have shape (..., arms).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, gammaln

Floats = npt.NDArray[np.float64]


def sequential_p(counts: npt.ArrayLike, weights: npt.ArrayLike, *, strength: float = 100.0) -> Floats:
    """p of "viewers fall by the weights" that holds at every look; counts (..., arms) cumulated, shape (...).

    Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022, eq. 5-6: one over the Bayes
    factor of a Dirichlet centred on the weights; `strength` is the Dirichlet's total, about how many viewers it counts as.
    """
    n, w = np.asarray(counts, np.float64), np.asarray(weights, np.float64)
    prior = strength * w
    log_factor = (
        math.lgamma(strength) - gammaln(strength + n.sum(-1))
        + (gammaln(prior + n) - gammaln(prior)).sum(-1) - (n * np.log(w)).sum(-1)
    )  # fmt: skip
    return np.asarray(np.exp(np.minimum(0.0, -log_factor)))


def final_p(counts: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """p of the same by Pearson's chi-squared, for one look alone; counts (..., arms), shape (...); NaN without viewers.

    Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019, section 3.
    """
    n, w = np.asarray(counts, np.float64), np.asarray(weights, np.float64)
    expected = n.sum(-1, keepdims=True) * w
    with np.errstate(invalid="ignore"):
        square = ((n - expected) ** 2 / expected).sum(-1)
    return np.asarray(chdtrc(n.shape[-1] - 1, square))
