"""Small logs of explored places, drawn with known odds from worlds made by hand."""

from dataclasses import replace

import numpy as np

from monitoring.off_policy_log import Floats, LoggedPlaces, Predicted, Support

EPSILON, N = 0.4, 4  # of the stories: 0.6 for the item by merit, 0.1 for each of four in the pool


def odds(choice: int, by_merit: int) -> float:
    """The incumbent puts item 0 and draws from items 1 to 4; a policy that would put another keeps the draws."""
    return (1 - EPSILON) * (choice == by_merit) + (EPSILON / N) * (choice > 0)


def log(
    worth: list[float], *, candidate: int, viewers: int, each: int = 4, seed: int = 1, model: list[float] | None = None
) -> LoggedPlaces:
    """Places of viewers who click on item i with probability worth[i]; the candidate would put one item everywhere.

    `model` are predicted rewards by item.
    """
    rng = np.random.default_rng(seed)
    size = viewers * each
    drawn = rng.random(size) < EPSILON
    rank = rng.integers(0, N, size)
    choice = np.where(drawn, rank + 1, 0)
    reward = (rng.random(size) < np.array(worth)[choice]).astype(np.float64)
    under = {item: np.array([odds(i, item) for i in range(N + 1)]) for item in (0, candidate)}
    support = Support(np.full(size, N + 1), drawn, np.ones(size), np.ones(size), (rank + 0.5) / N)
    guess = None
    if model is not None:
        q = np.array(model)
        guess = Predicted(q[choice], np.full(size, q @ under[candidate]), np.full(size, q @ under[0]))
    return LoggedPlaces(
        np.arange(size) % viewers, np.arange(size), reward, under[0][choice], under[candidate][choice], under[0][choice],
        support, guess,
    )  # fmt: skip


def with_propensity(places: LoggedPlaces, wrong: Floats) -> LoggedPlaces:
    """The same log with other propensities, which the incumbent is also believed to have."""
    return replace(places, propensity=wrong, incumbent=np.clip(wrong, 0.0, 1.0))
