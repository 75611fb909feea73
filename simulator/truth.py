"""The truth of every candidate at any moment, and from it the exact value of a page: no sampling, no model.

    u          utility (taste.py)                      p(click | looked at) = sigmoid(u + appeal - offset - group gap)
    d          delight = sigmoid(1.2 (u - 0.4))        p(looked at | position k) = k ** -bias of the placement
    visit      T = min(L, 90 min, what is left of the broadcast), L log-normal around the median of d: E[T], P(T >= 30 s)
    value of a page = sum over positions of p(reached) p(looked at) p(click) E[what follows | click]

In a paired world a page is judged as it was when it was shown, so these are the expectations of what happens (but for a
room that closes while she is on the page, and ids that the world does not know).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, expit, ndtr

from events.schema import Surface
from simulator.behaviour import GIFT_LOG_MEAN, GIFT_SIGMA, HEARTBEAT_S, LONGEST_VISIT_S, completion, visit_median_s
from simulator.catalogue import Thing
from simulator.dials import Rates
from simulator.population import Vector
from simulator.shelf import LIVE, Shelf
from simulator.taste import seen_probability
from simulator.world import World

GIFTS_AFTER_S = 180.0


@dataclass(frozen=True)
class Outlook:
    """Every candidate of one viewer at one moment; arrays are [candidates], everything after `click` is given a click."""

    things: list[Thing]
    row: dict[str, int]  # item id -> row
    utility: Vector
    click: Vector  # given that she looks at it
    watch_s: Vector  # expected seconds played or watched
    effective: Vector  # probability of 30 s or more, of rooms; of media: of playing to the end
    liked: Vector  # media
    followed: Vector  # host followed, creator subscribed to
    gifts: Vector  # expected coins


class PageValue(NamedTuple):
    """Expected figures of one page."""

    clicks: float
    watch_s: float
    effective: float
    followed: float
    gifts: float


class Truth:
    """The truth of a world as it stands."""

    def __init__(self, world: World) -> None:
        self._world, self._config = world, world.config

    def of(
        self, user_id: str, at: float, *, among: Sequence[Thing] | None = None, context_item_id: str | None = None,
        felt_at: float | None = None,
    ) -> Outlook:  # fmt: skip
        """All candidates of a viewer at epoch second `at`, or these alone; KeyError for a viewer who is not in the world.

        `felt_at` takes drifting interests, hours and shocks of another moment: what a stale model would know at best.
        """
        shelf, viewer = self._world.shelf(at) if among is None else Shelf(among), self._world.viewers[user_id]
        memory = self._world.memories[user_id]
        playing = self._world.thing(context_item_id) if context_item_id else None
        mood = self._world.moods.of(viewer, memory, at, playing=playing, felt_at=felt_at)
        utility = shelf.utilities(viewer, memory, at, pulls=self._config.pulls, mood=mood)
        click = expit(utility + shelf.appeal - self._config.click_offset - mood.click_gap)
        return self._follows(shelf, utility, click, at=at, generosity=viewer.generosity)

    def _follows(self, shelf: Shelf, utility: Vector, click: Vector, *, at: float, generosity: float) -> Outlook:
        rates, delight = self._config.rates, expit(1.2 * (utility - 0.4))
        watch_s, effective = np.zeros(len(utility)), np.zeros(len(utility))
        liked, followed, gifts = np.zeros(len(utility)), np.zeros(len(utility)), np.zeros(len(utility))
        live, media = shelf.live, np.flatnonzero(shelf.kind != LIVE)
        left = np.clip(shelf.until_at[live] - at, 1.0, LONGEST_VISIT_S)
        visits = _Visits(visit_median_s(delight[live], rates), left, rates.visit_sigma)
        watch_s[live], effective[live] = visits.mean_s(0.0), visits.longer_than(HEARTBEAT_S)
        followed[live] = rates.followed * delight[live] * effective[live]
        a_gift = 1.0 + np.exp(GIFT_LOG_MEAN + GIFT_SIGMA**2 / 2)
        gifts[live] = rates.gifts * delight[live] * generosity * visits.mean_s(GIFTS_AFTER_S) / 60.0 * a_gift
        plays = _Plays(delight[media], shelf.duration_s[media], rates)
        watch_s[media], effective[media] = plays.mean_s(), plays.completed
        pleased = plays.pleased()
        liked[media], followed[media] = rates.liked * pleased, rates.subscribed * pleased
        return Outlook(shelf.things, shelf.row, utility, click, watch_s, effective, liked, followed, gifts)

    def page_value(self, outlook: Outlook, item_ids: Sequence[str], surface: Surface = Surface.HOME) -> PageValue:
        """The expected figures of showing these items in this order; KeyError for one that is not on."""
        config = self._config
        bias = {
            Surface.HOME: config.position_bias, Surface.PLAYBACK: config.position_bias_playback,
            Surface.COMMENT: config.position_bias_comment,
        }[surface]  # fmt: skip
        rows = np.array([outlook.row[item] for item in item_ids], dtype=np.int64)
        clicks = np.array([seen_probability(position, bias) for position in range(len(rows))]) * outlook.click[rows]
        stays = np.concatenate([[1.0], np.cumprod(1.0 - clicks * config.change.page_left_after_click)[:-1]])
        clicks = clicks * stays[: len(rows)]
        after = (outlook.watch_s, outlook.effective, outlook.followed, outlook.gifts)
        return PageValue(float(clicks.sum()), *(float(clicks @ column[rows]) for column in after))


class _Visits:
    """Visits of log-normal length around `median` with spread `sigma`, cut at `most` seconds; arrays [rooms]."""

    def __init__(self, median: Vector, most: Vector, sigma: float) -> None:
        self._log, self._most, self._sigma = np.log(median), most, sigma

    def longer_than(self, seconds: float) -> Vector:
        """P(T >= seconds)."""
        return np.where(self._most >= seconds, 1.0 - ndtr((np.log(seconds) - self._log) / self._sigma), 0.0)

    def mean_s(self, beyond: float) -> Vector:
        """E[(T - beyond)+]: what min(L, most) has beyond `beyond`, from the log-normal's partial expectations."""
        return np.where(self._most > beyond, self._cut_mean(self._most) - self._cut_mean(beyond), 0.0)

    def _cut_mean(self, cut: Vector | float) -> Vector:
        """E[min(L, cut)]."""
        if np.ndim(cut) == 0 and cut == 0.0:
            return np.zeros(len(self._log))
        z = (np.log(cut) - self._log) / self._sigma
        below = np.exp(self._log + self._sigma**2 / 2) * ndtr(z - self._sigma)
        return np.asarray(below + cut * (1.0 - ndtr(z)))


class _Plays:
    """Plays of media of `length` seconds by a viewer of that delight; arrays [items]."""

    def __init__(self, delight: Vector, length: Vector, rates: Rates) -> None:
        self._delight, self._length = delight, length
        self.completed = completion(delight, length, rates=rates)

    def mean_s(self) -> Vector:
        """E[seconds played]: U(0.91, 1) of it to the end, else 0.9 times a Beta(0.7 + delight, 1.6) share."""
        stopped = 0.9 * (0.7 + self._delight) / (2.3 + self._delight)
        return np.asarray(self._length * (0.955 * self.completed + (1.0 - self.completed) * stopped))

    def pleased(self) -> Vector:
        """E[delight squared as it counts for likes]: a tenth of it when less than 30 % was played."""
        beyond = 1.0 - betainc(0.7 + self._delight, 1.6, 0.3 / 0.9)
        played = self.completed + (1.0 - self.completed) * beyond
        return np.asarray(self._delight**2 * (played + 0.01 * (1.0 - played)))
