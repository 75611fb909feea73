"""Named worlds, their null twins, and worlds drawn from a prior over the parameters.

    config = named("live-first")                 # BadDial names those there are
    configs = prior(seed=1, n=10)                # a claim of transfer must hold over these, not in one world

A null world is `live-first` with one cause taken away: there a method against that cause can gain nothing, so a gain found
there is noise or a leak.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from simulator.config import WorldConfig
from simulator.dials import Change, Pulls, Rates
from simulator.errors import BadDial
from simulator.streams import stream


class NamedWorld(NamedTuple):
    """A world that has a name, and what it is for."""

    config: WorldConfig
    purpose: str


LIVE_CHANGE = Change(
    weekend=0.2, interest_drift=0.5, hour_taste=0.2, quality_drift=0.3, shocks_per_day=0.3, highlights_per_hour=0.5,
    status_taste=0.3, births_per_day=0.01, retirement_per_day=0.01, days_off=0.8, late_joiners=0.15, fatigue=0.3, leaving=0.3,
    away_days=2.0, context=0.8, comment_share=0.3, page_left_after_click=0.2, group_taste=0.2, group_click_gap=0.3,
    group_delay=0.5,
)  # fmt: skip
LIVE_RATES = Rates(
    visit_shortest_s=2.5, visit_longest_s=20.0, visit_sigma=2.6, comments=0.015, gifts=0.008, followed=0.025,
    click_after_s=4.0, follow_after_s=480.0, gift_after_s=840.0, liked=0.15, shared=0.02, playlisted=0.03, subscribed=0.02,
)  # fmt: skip
LIVE_FIRST = WorldConfig(
    paired=True, viewers=5_000, hosts=1_000, creators=100, items=300, publications_per_hour=2.0, removals_per_hour=0.5,
    live_tab_share=0.7, position_bias=0.7, position_bias_playback=0.5, position_bias_comment=0.9, click_offset=3.0,
    stream_sigma=0.8,
    pulls=Pulls(live=1.5, repeat_live=1.2, repeat_most=2.5), rates=LIVE_RATES, change=LIVE_CHANGE,
)  # fmt: skip

MEDIA_FIRST = replace(
    LIVE_FIRST, hosts=200, creators=800, items=6_000, publications_per_hour=60.0, removals_per_hour=5.0, organic_share=0.2,
    live_tab_share=0.1,    pulls=replace(LIVE_FIRST.pulls, live=0.5),
)  # fmt: skip
ROUGH_ROAD = replace(
    LIVE_FIRST, late_share=0.03, duplicate_share=0.015, lost_heartbeat_share=0.005, broken_share=0.002,
    screen_off_share=0.05, skew_share=0.03, outage_at_h=30.0, outage_h=1.0,
)  # fmt: skip


def _without_drift(config: WorldConfig) -> WorldConfig:
    """Nothing that a fresh model would know better: interests, hosts, hours, shocks and highlights stand still."""
    still = dict.fromkeys(
        ("interest_drift", "hour_taste", "quality_drift", "shocks_per_day", "highlights_per_hour", "status_taste",
         "births_per_day", "retirement_per_day", "late_joiners"), 0.0,
    )  # fmt: skip
    return replace(config, change=replace(config.change, **still))


def _without_delay(config: WorldConfig) -> WorldConfig:
    """Follows and gifts come a second after entering: no label is ever late."""
    at_once = replace(config.rates, follow_after_s=1.0, gift_after_s=1.0, late_sigma=0.0)
    return replace(config, rates=at_once, change=replace(config.change, group_delay=0.0))


def _without_position_bias(config: WorldConfig) -> WorldConfig:
    """Every place of a page is looked at."""
    change = replace(config.change, page_left_after_click=0.0)
    return replace(
        config, position_bias=0.0, position_bias_playback=0.0, position_bias_comment=0.0,
        click_offset=config.click_offset + 1.0, change=change,
    )  # fmt: skip


def _without_group_bias(config: WorldConfig) -> WorldConfig:
    """Age, gender and language say nothing of tastes, clicks or delays."""
    return replace(config, change=replace(config.change, group_taste=0.0, group_click_gap=0.0, group_delay=0.0))


NULLS: dict[str, Callable[[WorldConfig], WorldConfig]] = {
    "no-drift": _without_drift,
    "no-delay": _without_delay,
    "no-position-bias": _without_position_bias,
    "no-group-bias": _without_group_bias,
}


def _all_taken_away(config: WorldConfig) -> WorldConfig:
    for taken in NULLS.values():
        config = taken(config)
    return config


WORLDS: dict[str, NamedWorld] = {
    "demo": NamedWorld(WorldConfig(), "what `livefeed demo` plays: small, tastes stand still, much to learn in a day"),
    "live-first": NamedWorld(LIVE_FIRST, "a live platform with some media; rates from the table, everything moves"),
    "media-first": NamedWorld(MEDIA_FIRST, "a large, quickly growing catalogue and few rooms"),
    "rough-road": NamedWorld(ROUGH_ROAD, "live-first with every fault at the table's rates and an hour's outage"),
    **{
        name: NamedWorld(taken(LIVE_FIRST), f"null: live-first, {name.replace('-', ' ')}")
        for name, taken in NULLS.items()
    },
    "null": NamedWorld(_all_taken_away(LIVE_FIRST), "null: live-first without all four"),
}


def named(name: str) -> WorldConfig:
    """The dials of the world of that name; BadDial names those there are."""
    if name not in WORLDS:
        raise BadDial(f"world {name!r} is not known; allowed are {', '.join(WORLDS)}")
    return WORLDS[name].config


def turned(config: WorldConfig, dial: str, value: str) -> WorldConfig:
    """The world with one dial set from words, e.g. `viewers`, `rates.gifts`; BadDial for a name or value that is not one."""
    group, _, name = dial.rpartition(".")
    holder: Any = getattr(config, group, None) if group in ("pulls", "rates", "change") else config
    known = {one.name: type(getattr(holder, one.name)) for one in fields(holder)}
    if known.get(name) not in (int, float, bool):
        raise BadDial(f"world dial {dial!r} is not known; docs/world.md lists them, e.g. viewers or change.leaving")
    try:
        number = {"true": True, "false": False}[value] if known[name] is bool else known[name](value)
    except (ValueError, KeyError):
        raise BadDial(
            f"world dial {dial}={value!r} is not allowed; give a value like {getattr(holder, name)!r}"
        ) from None
    turned_holder = replace(holder, **{name: number})
    return replace(config, **{group: turned_holder}) if group else turned_holder


# dial -> (lowest, highest) of the prior; log-uniform where the highest is more than three times the lowest
PRIOR: dict[str, tuple[float, float]] = {
    "sessions_per_day": (1.0, 3.0), "organic_share": (0.2, 0.5), "position_bias": (0.4, 1.0),
    "position_bias_playback": (0.3, 0.8), "position_bias_comment": (0.5, 1.2), "click_offset": (2.4, 3.6),
    "stream_median_s": (3_600.0, 14_400.0), "stream_sigma": (0.5, 0.9), "pulls.match": (1.0, 2.0),
    "pulls.quality": (0.2, 0.8), "pulls.style": (0.15, 0.6), "pulls.live": (0.8, 2.0), "pulls.repeat_live": (0.7, 1.6),
    "rates.visit_longest_s": (12.0, 60.0), "rates.visit_sigma": (1.8, 2.8), "rates.followed": (0.01, 0.06),
    "rates.gifts": (0.004, 0.016), "rates.comments": (0.008, 0.03), "rates.follow_after_s": (120.0, 1_800.0),
    "rates.gift_after_s": (300.0, 3_600.0), "change.day_swing": (0.5, 0.78), "change.weekend": (0.0, 0.4),
    "change.interest_drift": (0.2, 0.8), "change.interest_days": (1.0, 10.0), "change.hour_taste": (0.0, 0.4),
    "change.quality_drift": (0.1, 0.5), "change.shocks_per_day": (0.0, 1.0), "change.highlights_per_hour": (0.0, 1.5),
    "change.births_per_day": (0.003, 0.03), "change.retirement_per_day": (0.003, 0.03), "change.days_off": (0.78, 0.93),
    "change.fatigue": (0.0, 0.6), "change.leaving": (0.0, 0.5), "change.page_left_after_click": (0.0, 0.5),
    "change.group_taste": (0.0, 0.4), "change.group_click_gap": (0.0, 0.6), "change.group_delay": (0.0, 1.0),
}  # fmt: skip


def prior(seed: int, n: int, *, base: WorldConfig = LIVE_FIRST) -> list[WorldConfig]:
    """`n` worlds around `base` with the dials of `PRIOR` drawn independently, each with a seed of its own."""
    out = []
    for number in range(n):
        rng, world = stream(seed, "prior", number), base
        for dial, (low, high) in PRIOR.items():
            log = low > 0 and high > 3 * low
            drawn = np.exp(rng.uniform(np.log(low), np.log(high))) if log else rng.uniform(low, high)
            world = turned(world, dial, repr(float(drawn)))
        out.append(replace(world, seed=int(rng.integers(2**31))))
    return out
