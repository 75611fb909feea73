"""The reward model of the doubly robust estimate: ridge logistic regression, cross-fitted over viewers. Pure numpy.

    predicted = cross_fitted(shown, reward, viewer=viewer, expect=expect)

`expect(model, rows)` asks a model for its mean prediction under target and incumbent over the choices of some places. A wrong
model costs precision, never validity; one that has seen the viewer's own rewards would cost validity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from monitoring.errors import BadPlaces
from monitoring.off_policy_log import Floats, Ints, Predicted


@dataclass(frozen=True)
class ModelConfig:
    """The model's dials."""

    ridge: float = 1.0  # times the squared weights of standardised features; the intercept is free
    folds: int = 2  # parts of the viewers; each part is predicted by the model of the others
    rows: int = 20_000  # most places to learn from: more hardly move a handful of weights
    steps: int = 8  # Newton steps; it has converged after five or six
    seed: int = 7


DEFAULT = ModelConfig()


@dataclass(frozen=True)
class RewardModel:
    """Expected reward, 0..1, as a logistic function of k features."""

    mean: Floats  # [k]
    scale: Floats  # [k]
    weight: Floats  # [k + 1], the intercept first

    def __call__(self, features: Floats) -> Floats:
        """Of rows [..., k]."""
        slope = self.weight[1:] / self.scale
        return np.asarray(expit(features @ slope + (self.weight[0] - self.mean @ slope)))


Expect = Callable[[RewardModel, Ints], tuple[Floats, Floats]]  # -> target's and incumbent's, [rows] each


def fit(features: Floats, reward: Floats, *, config: ModelConfig = DEFAULT) -> RewardModel:
    """Fit rewards in [0, 1] to features [places, k] by Newton's method; a feature that never varies gets no weight."""
    if not len(reward) or not (np.isfinite(features).all() and np.isfinite(reward).all()):
        raise BadPlaces(f"a reward model of {len(reward)} places is not possible; needed are some, all numbers finite")
    if reward.min() < 0 or reward.max() > 1:
        raise BadPlaces(
            f"rewards from {reward.min():g} to {reward.max():g} are not allowed; a model needs them in [0, 1]"
        )
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    x = np.column_stack([np.ones(len(reward)), (features - mean) / scale])
    penalty = np.diag(np.r_[1e-6, np.full(features.shape[1], config.ridge)])
    rate = (reward.sum() + 0.5) / (len(reward) + 1)
    weight = np.r_[np.log(rate / (1 - rate)), np.zeros(features.shape[1])]
    for _ in range(config.steps):
        p = expit(x @ weight)
        curvature = (x.T * np.maximum(p * (1 - p), 1e-9)) @ x + penalty
        step = np.linalg.solve(curvature, x.T @ (reward - p) - penalty @ weight)
        weight = weight + np.clip(step, -2.0, 2.0)
    return RewardModel(mean, scale, weight)


def cross_fitted(
    shown: Floats, reward: Floats, *, viewer: npt.NDArray[Any], expect: Expect, config: ModelConfig = DEFAULT
) -> Predicted:
    """Predictions for every place by a model of other viewers; `shown` are the features of what was shown, [places, k]."""
    rng = np.random.default_rng(config.seed)
    names, number = np.unique(viewer, return_inverse=True)
    if len(names) < config.folds:
        raise BadPlaces(f"{len(names)} viewers cannot be cut into {config.folds} folds; each needs one")
    part = rng.permutation(len(names))[number] % config.folds
    out = Predicted(*(np.full(len(reward), np.nan) for _ in range(3)))
    for fold in range(config.folds):
        own, others = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        if len(others) > config.rows:
            others = rng.choice(others, config.rows, replace=False)
        model = fit(shown[others], reward[others], config=config)
        out.shown[own] = model(shown[own])
        out.target[own], out.incumbent[own] = expect(model, own)
    return out
