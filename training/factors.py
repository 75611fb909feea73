"""Matrix factorisation of implicit feedback, and each item's nearest items by their factors.

Alternating least squares on confidences 1 + alpha x weight (Hu, Koren and Volinsky, "Collaborative Filtering for Implicit
Feedback Datasets", ICDM 2008), each side solved by a few conjugate-gradient steps from where it stood (Takács, Pilászy and
Tikk, "Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative Filtering", RecSys 2011).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.data import Rows
from training.dials import require
from training.errors import Diverged

AT_ONCE = 200_000  # weights whose factors are gathered together: 2 x 26 MB at 32 factors
ROWS_AT_ONCE = 256  # items compared with all others together: 51 MB at 50,000 items
Factors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FactorsConfig:
    """Dials of the factorisation."""

    factors: int = 32
    rounds: int = 10  # each solves viewers, then items
    steps: int = 3  # of conjugate gradient a side and round
    alpha: float = 10.0  # confidence of a choice of weight 1, over that of no choice
    ridge: float = 1.0
    min_viewers: int = 10  # an item with fewer has factors that say more of these viewers than of it
    most: int = 50_000  # items, by viewers, that are compared all with all: time grows with the square

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        require(self, positive=("factors", "rounds", "steps", "alpha", "ridge", "min_viewers", "most"))


def item_factors(weights: sparse.csr_array, config: FactorsConfig, *, seed: int) -> Factors:
    """Factors [items, factors] of a matrix [viewers, items]; Diverged when one is not a number."""
    by_viewer, by_item = sparse.csr_array(weights), sparse.csr_array(weights.T)
    draw = np.random.default_rng(seed)
    viewers, items = (draw.normal(scale=0.1, size=(n, config.factors)).astype(np.float32) for n in by_viewer.shape)
    for _ in range(config.rounds):
        viewers = solved(by_viewer, viewers, items, config)
        items = solved(by_item, items, viewers, config)
    if not np.isfinite(items).all():
        raise Diverged(f"item factors are not all numbers after {config.rounds} rounds; lower alpha {config.alpha}")
    return items


def solved(weights: sparse.csr_array, ours: Factors, theirs: Factors, config: FactorsConfig) -> Factors:
    """Our factors [n, f] nearer to the least squares given theirs [m, f]; every row takes its own gradient steps."""
    gram = theirs.T @ theirs + config.ridge * np.eye(theirs.shape[1], dtype=np.float32)
    row = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))

    def times(x: Factors) -> Factors:
        """(gram + sum of alpha w y yT) x, row by row."""
        met = np.empty(weights.nnz, np.float32)
        for start in range(0, weights.nnz, AT_ONCE):
            part = slice(start, start + AT_ONCE)
            met[part] = np.einsum("nf,nf->n", x[row[part]], theirs[weights.indices[part]])
        own = sparse.csr_array((config.alpha * weights.data * met, weights.indices, weights.indptr), weights.shape)
        return np.asarray(x @ gram + own @ theirs, np.float32)

    wanted = sparse.csr_array((1.0 + config.alpha * weights.data, weights.indices, weights.indptr), weights.shape)
    x, rest = ours, np.asarray(wanted @ theirs - times(ours), np.float32)
    direction, size = rest, np.einsum("nf,nf->n", rest, rest)
    for _ in range(config.steps):
        ahead = times(direction)
        length = _over(size, np.einsum("nf,nf->n", direction, ahead))
        x, rest = x + length * direction, rest - length * ahead
        smaller = np.einsum("nf,nf->n", rest, rest)
        direction, size = rest + _over(smaller, size) * direction, smaller
    return x


def _over(top: Factors, bottom: Factors) -> Factors:
    """Quotients as a column; 0 where a row has arrived and there is nothing left to divide by."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)[:, None]


def near_by_factors(factors: Factors, viewers_of: Rows, *, k: int, config: FactorsConfig) -> tuple[Rows, Rows, Factors]:
    """Item, neighbour and cosine, [pairs] each: at most `k` a listed item, among items with viewers enough."""
    listed = np.flatnonzero(viewers_of >= config.min_viewers)
    listed = np.sort(listed[np.argsort(-viewers_of[listed], kind="stable")[: config.most]])
    lengths = np.linalg.norm(factors[listed], axis=1, keepdims=True)
    unit = factors[listed] / np.maximum(lengths, np.float32(1e-12))
    k = min(k, len(listed) - 1)
    if k <= 0:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0, np.float32)
    near, cosine = np.empty((len(listed), k), np.int64), np.empty((len(listed), k), np.float32)
    for start in range(0, len(listed), ROWS_AT_ONCE):
        part = np.arange(start, min(start + ROWS_AT_ONCE, len(listed)))
        scores = unit[part] @ unit.T
        scores[np.arange(len(part)), part] = -np.inf  # nothing is its own neighbour
        near[part] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        cosine[part] = np.take_along_axis(scores, near[part], axis=1)
    towards = (cosine > 0).ravel()
    return np.repeat(listed, k)[towards], listed[near.ravel()][towards], cosine.ravel()[towards]
