"""`livefeed bench controls --json`: four gains that a method has where its cause is, and must not have where it is not.

    freshness   ranking by interests and shocks of now, not of yesterday           null: no-drift
    position    item click rates per look, not per impression (rank correlation)   null: no-position-bias
    waiting     follows and gifts counted after 15 minutes too                     null: no-delay
    grouping    a click model that knows the viewer's age group (log loss)         null: no-group-bias

Each is measured in ten worlds of the prior and in their null twins; Student's interval over worlds. Clicks, impressions and
delays are those that a popularity feed logged; only what a method could not know is taken from the truth.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from benchmarks.policies import interval
from benchmarks.result import Result, bar
from events import schema as s
from settings import Settings
from simulator import World, WorldConfig
from simulator.feed import FeedItem
from simulator.moods import OLDER
from simulator.policies import Overheard, Policy, PolicyFeed, make
from simulator.taste import seen_probability
from simulator.truth import Truth
from simulator.worlds import NULLS, prior

WORLDS, HOURS, WINDOW_S = 10, 48.0, 900.0
DAY_S = 86_400.0
SIZE: dict[str, Any] = {"viewers": 400, "hosts": 600, "creators": 60, "items": 120}
LEAST_SHOWN = 20  # impressions of an item whose click rate is judged
CAUSES = {
    "freshness": "no-drift", "position": "no-position-bias", "waiting": "no-delay", "grouping": "no-group-bias",
}  # fmt: skip


class Shown(NamedTuple):
    """One impression with what the truth says of it."""

    request_id: str
    item_id: str
    position: int
    looked: float  # probability that its position is looked at
    click: float  # probability of a click given a look
    log_odds: float  # the same without any group's gap
    older: bool


class Witness(PolicyFeed):
    """A feed that keeps its impressions beside the truth, and what yesterday's moods would have cost each page."""

    def __init__(self, policy: Policy, world: World) -> None:
        super().__init__(policy, world)
        self._witnessed, self._truth = world, Truth(world)
        self.shown: list[Shown] = []
        self.clicked: set[tuple[str, str]] = set()
        self.fresh = self.stale = 0.0
        self._entered: dict[tuple[str, str], datetime] = {}
        self.late = self.acts = 0

    def hear(self, event: s.Event) -> None:
        """Note clicks, and how long after entering a follow or gift came."""
        super().hear(event)
        if isinstance(event, s.FeedClicked):
            self.clicked.add((event.request_id, event.item_id))
        elif isinstance(event, s.RoomEntered) and event.request_id:
            self._entered[event.request_id, event.room_id] = event.event_at
        elif isinstance(event, s.StreamerFollowed | s.GiftSent) and event.request_id:
            entered = self._entered.get((event.request_id, event.room_id))
            self.acts += entered is not None
            self.late += entered is not None and (event.event_at - entered).total_seconds() > WINDOW_S

    def ask(self, user_id: str, **about: Any) -> list[FeedItem]:
        """The policy's page, kept beside the truth."""
        page = super().ask(user_id, **about)
        world, now = self._witnessed, about["now"]
        outlook = self._truth.of(user_id, now, context_item_id=about.get("context_item_id"))
        older = world.viewers[user_id].age_band in OLDER
        gap = world.config.change.group_click_gap if older else 0.0
        bias = _bias(world.config, about["surface"])
        for item in page:
            click = float(outlook.click[outlook.row[item.item_id]])
            looked = seen_probability(item.position, bias)
            odds = float(special.logit(click)) + gap
            self.shown.append(Shown(item.request_id, item.item_id, item.position, looked, click, odds, older))
        yesterday = self._truth.of(user_id, now, context_item_id=about.get("context_item_id"), felt_at=now - DAY_S)
        names = [one.item_id for one in outlook.things]
        for ranked_by in (outlook, yesterday):
            best = [names[row] for row in np.argsort(-ranked_by.click, kind="stable")[: about["limit"]]]
            worth = self._truth.page_value(outlook, best, about["surface"]).clicks
            self.fresh += worth if ranked_by is outlook else 0.0
            self.stale += worth if ranked_by is yesterday else 0.0
        return page


def _bias(config: WorldConfig, surface: s.Surface) -> float:
    return {
        s.Surface.HOME: config.position_bias, s.Surface.PLAYBACK: config.position_bias_playback,
        s.Surface.COMMENT: config.position_bias_comment,
    }[surface]  # fmt: skip


def freshness(log: Witness) -> float:
    """Clicks that today's moods win over yesterday's, as a share."""
    return log.fresh / log.stale - 1.0


def position(log: Witness) -> float:
    """Rank correlation with the true click probability: of clicks per look less that of clicks per impression."""
    of: dict[str, list[Shown]] = defaultdict(list)
    for one in log.shown:
        of[one.item_id].append(one)
    rows = []
    for shown in of.values():
        if len(shown) >= LEAST_SHOWN:
            clicks = sum((one.request_id, one.item_id) in log.clicked for one in shown)
            truth, looks = float(np.mean([one.click for one in shown])), sum(one.looked for one in shown)
            rows.append((truth, clicks / len(shown), clicks / looks))
    truth, plain, by_look = np.array(rows).T
    return float(stats.spearmanr(truth, by_look).statistic - stats.spearmanr(truth, plain).statistic)


def waiting(log: Witness) -> float:
    """Share of follows and gifts that a window of 15 minutes misses."""
    return log.late / max(log.acts, 1)


def grouping(log: Witness) -> float:
    """Log loss (nats an impression) that an age group's own log-odds saves on later pages, fitted on earlier ones.

    Each page counts down to its first click: until then she has not left it, so the probability is exact.
    """
    over: set[str] = set()
    rows: list[tuple[float, float, bool, bool]] = []
    for one in log.shown:
        if one.request_id not in over:
            clicked = (one.request_id, one.item_id) in log.clicked
            rows.append((one.log_odds, one.looked, one.older, clicked))
            if clicked:
                over.add(one.request_id)
    odds, looked, older, clicks = np.array(rows, dtype=float).T
    half = len(rows) // 2

    def loss(shift: float, part: slice) -> float:
        chance = looked[part] * special.expit(odds[part] + shift * older[part])
        return float(-np.mean(np.log(np.where(clicks[part] > 0, chance, 1.0 - chance))))

    fitted = float(
        optimize.minimize_scalar(lambda shift: loss(shift, slice(0, half)), bounds=(-2, 2), method="bounded").x
    )
    return loss(0.0, slice(half, None)) - loss(fitted, slice(half, None))


GAINS: dict[str, Callable[[Witness], float]] = {
    "freshness": freshness, "position": position, "waiting": waiting, "grouping": grouping,
}  # fmt: skip


def witnessed(config: WorldConfig) -> Witness:
    """A world's log under popularity."""
    world = World(config)
    feed = Witness(make("popularity", world), world)
    world.advance(HOURS, Overheard(feed), feed)
    return feed


def measure(settings: Settings, seed: int, say: Callable[[str], None]) -> Result:
    """Every gain in every world and in its null twin."""
    gains: dict[str, list[float]] = defaultdict(list)
    for number, config in enumerate(prior(seed, WORLDS)):
        world = replace(config, **SIZE)
        log = witnessed(world)
        for name, gain in GAINS.items():
            gains[name].append(gain(log))
            gains[f"{name}_null"].append(gain(witnessed(NULLS[CAUSES[name]](world))))
        say(
            f"world {number + 1} of {WORLDS}: " + ", ".join(f"{name} {found[-1]:+.4f}" for name, found in gains.items())
        )
    figures: dict[str, float | None] = {}
    for name, found in gains.items():
        mean, low, high = interval(found)
        figures |= {f"{name}_gain": mean, f"{name}_gain_low": low, f"{name}_gain_high": high}
    bars = [bar(figures, f"{name}_gain_low", ">", 0.0) for name in GAINS]
    bars += [bar(figures, f"{name}_null_gain_low", "<=", 0.0) for name in GAINS]
    bars += [bar(figures, f"{name}_null_gain_high", ">=", 0.0) for name in GAINS]
    return Result(bench="controls", figures=figures, baseline={}, bars=tuple(bars), seed=seed)
