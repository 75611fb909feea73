"""`livefeed bench policies --json`: which policy is worth more, closed-loop, over ten worlds drawn from the prior.

Each policy plays the same ten worlds from their beginning; after a day of warm-up every page it shows is given its exact
value (expected effective watches: rooms for 30 s, media to the end). A gain is the difference between two policies in one
world as a share of the second's value; the interval is Student's over the worlds, so it speaks of worlds, not of viewers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.result import Result, bar
from settings import Settings
from simulator import World, WorldConfig
from simulator.policies import make, rollout
from simulator.worlds import prior

WORLDS, WARM_UP_H, HOURS = 10, 24.0, 48.0
SIZE: dict[str, Any] = {"viewers": 300, "hosts": 800, "creators": 60, "items": 200}
PAIRS = (("oracle", "popularity"), ("popularity", "random"))  # on every page
ROOM_PAIRS = (("repeat", "popularity"), ("oracle", "repeat"))  # on pages of rooms alone


def value(config: WorldConfig, policy: str, *, only: str | None = None) -> float:
    """Expected effective watches of the mean page that the policy shows after the warm-up."""
    world = World(config)
    done = rollout(world, make(policy, world), hours=HOURS, warm_up_h=WARM_UP_H, only=only)
    return done.a_page().effective


def interval(gains: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a gain over worlds, and the ends of its 95 % interval (Student's t)."""
    values = np.array(gains)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Every policy on the same ten worlds, on all pages and on pages of rooms alone."""
    values: dict[tuple[str, str], list[float]] = {}
    for number, config in enumerate(prior(seed, WORLDS)):
        small = replace(config, **SIZE)
        for where, only, pairs in (("all", None, PAIRS), ("rooms", "LIVE", ROOM_PAIRS)):
            for policy in dict.fromkeys(name for pair in pairs for name in pair):
                values.setdefault((where, policy), []).append(value(small, policy, only=only))
        say(f"world {number + 1} of {WORLDS}: " + ", ".join(f"{w} {p} {v[-1]:.3f}" for (w, p), v in values.items()))
    figures: dict[str, float | None] = {f"{w}_{p}_effective_a_page": float(np.mean(v)) for (w, p), v in values.items()}
    for where, pairs in (("all", PAIRS), ("rooms", ROOM_PAIRS)):
        for better, worse in pairs:
            figures |= _gain(f"{where}_{better}_over_{worse}", values[where, better], values[where, worse])
    bars = tuple(
        bar(figures, f"{name}_gain_low", ">", 0.0)
        for name in ("all_oracle_over_popularity", "all_popularity_over_random", "rooms_repeat_over_popularity")
    )
    return Result(bench="policies", figures=figures, baseline={}, bars=bars, seed=seed)


def _gain(name: str, better: Sequence[float], worse: Sequence[float]) -> dict[str, float | None]:
    gains = [one / other - 1.0 for one, other in zip(better, worse, strict=True)]
    mean, low, high = interval(gains)
    worlds = sum(gain > 0 for gain in gains)
    return {
        f"{name}_gain": mean,
        f"{name}_gain_low": low,
        f"{name}_gain_high": high,
        f"{name}_worlds_won": float(worlds),
    }
