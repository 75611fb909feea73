"""What changes under everybody's feet, whatever a policy does: drifting interests, hours, groups and shocks from outside.

All of it is a function of seed and time alone; only fatigue and the item just played come from the viewer's own past.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.catalogue import Thing
from simulator.config import WorldConfig
from simulator.population import AGE_BANDS, CATEGORIES, CONTENT_TYPES, DAY, GENDERS, Vector, Viewer, local_hour
from simulator.streams import stream
from simulator.taste import Memory, Mood

DRIFT_STEP_S = 6 * 3_600.0
OLDER = AGE_BANDS[3:]  # the bands whom `group_click_gap` concerns
Matrix = npt.NDArray[np.float64]


class Shock(NamedTuple):
    """Another module of the app pushes a category or a content type for a while."""

    from_at: float  # epoch seconds
    until_at: float
    category: int | None
    content_type: str | None
    size: float  # added utility


def shocks_of_day(config: WorldConfig, day: int) -> list[Shock]:
    """The shocks that begin on UTC day `day` (days since 1970): two in three of a category, 6 to 48 hours long."""
    if config.change.shocks_per_day == 0:
        return []
    rng, out = stream(config.seed, "shocks", day), []
    for _ in range(int(rng.poisson(config.change.shocks_per_day))):
        at, lasts = day * DAY + float(rng.uniform(0.0, DAY)), float(rng.uniform(6.0, 48.0)) * 3_600.0
        category, kind = int(rng.integers(len(CATEGORIES))), str(rng.choice(CONTENT_TYPES))
        size, of_type = config.change.shock_size * float(rng.uniform(0.5, 1.5)), bool(rng.random() < 1 / 3)
        out.append(Shock(at, at + lasts, None if of_type else category, kind if of_type else None, size))
    return out


@dataclass
class _Drift:
    step: int
    interests: Matrix  # [viewers, categories], what was added to where they began


class Moods:
    """The moods of a world's viewers at any epoch second."""

    def __init__(self, config: WorldConfig, viewers: list[Viewer]) -> None:
        self._config, self._change = config, config.change
        self._start = config.start_at.timestamp()
        self._shape = (len(viewers), len(CATEGORIES))
        self._drift = _Drift(0, np.zeros(self._shape))
        self._shocks: dict[int, list[Shock]] = {}
        self._peaks = stream(config.seed, "hours of categories").uniform(0.0, 24.0, size=len(CATEGORIES))
        self._groups = self._group_tastes(viewers)

    def of(
        self, viewer: Viewer, memory: Memory, at: float, *, playing: Thing | None = None, felt_at: float | None = None
    ) -> Mood:
        """What the moment adds for a viewer; `playing` is the item whose playback page she is on.

        With `felt_at`, interests, hours and shocks are those of that moment, her own past and the page those of `at`.
        """
        change, match = self._change, self._config.pulls.match
        felt_at = at if felt_at is None else felt_at
        bonus = match * (self._interests(felt_at)[viewer.index] + self._groups[viewer.index])
        if change.hour_taste > 0:
            hours = local_hour(felt_at, viewer.language) - self._peaks
            bonus = bonus + change.hour_taste * np.cos(2.0 * np.pi * hours / 24.0)
        if change.fatigue > 0:
            for category in memory.plays:
                bonus[category] -= change.fatigue * math.log1p(memory.tired(category, at))
        if change.context > 0 and playing is not None:
            for category, weight in playing.topics:
                bonus[category] += change.context * weight
        by_type = dict.fromkeys(CONTENT_TYPES, 0.0)
        for shock in self.shocks(felt_at):
            if shock.category is not None:
                bonus[shock.category] += shock.size
            elif shock.content_type is not None:
                by_type[shock.content_type] += shock.size
        gap = change.group_click_gap if viewer.age_band in OLDER else 0.0
        return Mood(bonus, by_type, viewer.status_taste, gap)

    def shocks(self, at: float) -> list[Shock]:
        """The shocks that are on at epoch second `at`."""
        today = int(at // DAY)
        for day in range(today - 2, today + 1):
            if day not in self._shocks:
                self._shocks[day] = shocks_of_day(self._config, day)
        near = (shock for day in range(today - 2, today + 1) for shock in self._shocks[day])
        return [shock for shock in near if shock.from_at <= at < shock.until_at]

    def _interests(self, at: float) -> Matrix:
        """How far interests have drifted: an Ornstein-Uhlenbeck process from 0 in steps of six hours."""
        if self._change.interest_drift == 0:
            return self._drift.interests
        step = max(int((at - self._start) // DRIFT_STEP_S), 0)
        if step < self._drift.step:
            self._drift = _Drift(0, np.zeros(self._shape))
        keeps = math.exp(-DRIFT_STEP_S / DAY / self._change.interest_days)
        pushes = math.sqrt(1.0 - keeps**2) * self._change.interest_drift
        while self._drift.step < step:
            number = self._drift.step + 1
            pushed = stream(self._config.seed, "interest drift", number).normal(0.0, pushes, size=self._shape)
            self._drift = _Drift(number, keeps * self._drift.interests + pushed)
        return self._drift.interests

    def _group_tastes(self, viewers: list[Viewer]) -> Matrix:
        """What belonging to an age band and a gender adds to interests, [viewers, categories]."""
        if self._change.group_taste == 0:
            return np.zeros(self._shape)
        rng, sigma = stream(self._config.seed, "group taste"), self._change.group_taste
        ages: dict[str, Vector] = {band: rng.normal(0.0, sigma, size=len(CATEGORIES)) for band in AGE_BANDS}
        genders: dict[str, Vector] = {word: rng.normal(0.0, sigma, size=len(CATEGORIES)) for word in GENDERS}
        return np.array([ages[one.age_band] + genders[one.gender] for one in viewers])
