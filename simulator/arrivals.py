"""When viewers come: a daily and weekly rhythm of their own time zone, late joiners, and breaks after sessions that bored.

That somebody thinks of coming is the same under every policy; what a policy changes is whether she is on a break then.
"""

import math

import numpy as np
import numpy.typing as npt

from simulator.config import WorldConfig
from simulator.population import DAY, LANGUAGES, Viewer
from simulator.streams import stream, uniform

ASK_WITHIN_S = 20.0  # feeds are asked in the first seconds of a tick, before any room's lease could run out
PEAK_HOUR = 21.5
BUDGET_MEDIAN_S, BUDGET_SIGMA = 1_500.0, 0.7
PLEASED_S = 300.0  # seconds watched in a session that please by 1 - 1/e
Floats = npt.NDArray[np.float64]


class Arrivals:
    """Who comes in a tick, how late within it and for how long."""

    def __init__(self, config: WorldConfig, viewers: list[Viewer]) -> None:
        self._config = config
        self._activity = np.array([one.activity for one in viewers])
        self._shift = np.array([LANGUAGES[one.language][2] for one in viewers])
        self._joins_at = np.array([one.joins_at for one in viewers])
        self._away_until = np.full(len(viewers), -math.inf)

    def thinking_of_it(self, now: float, until: float) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """Who would come in [now, until); and for all viewers the second within the tick and the seconds she has.

        A function of seed and time alone.
        """
        rng, size = stream(self._config.seed, "arrivals", int(now)), len(self._activity)
        rates = self._activity * self._config.sessions_per_day * self._waves(now) * (until - now) / DAY
        comes = (rng.random(size) < 1.0 - np.exp(-rates)) & (self._joins_at <= now)
        jitter = rng.uniform(1.0, min(ASK_WITHIN_S, until - now), size=size)
        stays = rng.lognormal(np.log(BUDGET_MEDIAN_S), BUDGET_SIGMA, size=size)
        return np.flatnonzero(comes), jitter, stays

    def at_home(self, viewers: npt.NDArray[np.int64], now: float) -> npt.NDArray[np.int64]:
        """Those of the viewers who are not on a break."""
        return viewers[self._away_until[viewers] <= now]

    def leaves(self, viewer: int, at: float, *, session: int, watched_s: float) -> float:
        """A session is over at epoch second `at`: the days she now stays away, 0 for most."""
        bored = math.exp(-watched_s / PLEASED_S)
        if uniform(self._config.seed, "leaves", viewer, session) >= self._config.change.leaving * bored:
            return 0.0
        days = -self._config.change.away_days * math.log1p(-uniform(self._config.seed, "stays away", viewer, session))
        self._away_until[viewer] = at + days * DAY
        return days

    def _waves(self, now: float) -> Floats:
        """Rate of coming by viewer, relative to her mean."""
        hours = (now / 3_600.0 + self._shift) % 24.0
        waves: Floats = 1.0 + self._config.change.day_swing * np.cos(2.0 * np.pi * (hours - PEAK_HOUR) / 24.0)
        if self._config.change.weekend == 0:
            return waves
        weekday = ((now / 3_600.0 + self._shift) // 24.0 + 3) % 7  # 1970 began on a Thursday; Monday is 0
        lift = 1.0 + self._config.change.weekend
        week = np.where(weekday >= 5, lift, 1.0) * 7.0 / (5.0 + 2.0 * lift)  # the week's mean stays
        return waves * week
