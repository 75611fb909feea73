"""The published figures that the report holds a world against, each with its source, its range and how well it is founded.

The words for the foundation: `published` was read at its source; `derived` is arithmetic on such a figure; `recalled` was
quoted from memory of a paper and never checked; `weak` stands on sites that name no method; `assumption` is ours alone.
"""

import math
from typing import Literal

from msgspec import Struct

Basis = Literal["published", "derived", "recalled", "weak", "assumption"]
OURS = "half to double, ours"  # where a source gives one number and no range
TABLE = "with the figure"
KUAILIVE = "KuaiLive (Zenodo 16565801): 23,772 users, 452,621 streamers, 21 days; 4,909,515 clicks"
TWITCH = "Twitch sample of LiveRec: 100,000 users, 43 days, a look at every room each 10 minutes"


class Published(Struct, frozen=True, kw_only=True):
    """A figure from outside, its source, and the range a world may lie in (no `low`: none; no `high`: no upper edge)."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    basis: Basis
    source: str
    range_from: str = ""


def _around(value: float, basis: Basis, source: str) -> Published:
    return Published(value=value, low=value / 2, high=value * 2, basis=basis, source=source, range_from=OURS)


def _assumed(value: float, low: float = math.nan, high: float = math.nan, *, source: str = "assumption") -> Published:
    if math.isnan(low):
        return _around(value, "assumption", source)
    return Published(value=value, low=low, high=high, basis="assumption", source=source, range_from=TABLE)


HOUR = 3_600.0
REPEAT = Published(
    value=0.6, low=0.40, high=0.75, basis="weak", range_from=TABLE,
    source="Twitch: a majority of interactions (bbeat2782's analysis); 55 to 65 % is recalled, never checked",
)  # fmt: skip
# figure -> what is published of it; figures that are not here have no published counterpart
PUBLISHED: dict[str, Published] = {
    "repeat": REPEAT,
    "repeat_rounds": REPEAT,
    "visits_rounds_day": _around(30 / 43, "derived", f"{TWITCH}; 3 million interactions"),
    "length_rounds": _around(3.14 * 600, "published", f"{TWITCH}; mean 3.14 looks (FuugaMo's analysis)"),
    "visits_day": _around(4_909_515 / 23_772 / 21, "recalled", KUAILIVE),
    "comments": _around(0.040, "recalled", f"{KUAILIVE}, 196,526 comments"),
    "likes": _around(0.037, "recalled", f"{KUAILIVE}, 179,311 likes"),
    "gifts": _around(0.015, "recalled", f"{KUAILIVE}, 72,646 gifts"),
    "on_air": Published(
        value=0.015, low=0.01, high=0.04, basis="published", range_from=TABLE,
        source="Twitch, February 2020: 56 thousand channels live of 3.8 million active in the month (griffinhundley)",
    ),
    "per_room": _around(26.0, "published", "Twitch, February 2020: 1.44 million viewers in 56 thousand channels"),
    "rooms_at_once": Published(
        value=99_400, basis="published", source="Twitch, mid 2024 (Statista): the size of a platform, not of a world"
    ),
    "zipf": _assumed(1.2, 1.1, 1.3),
    "english": Published(
        value=0.495, low=0.45, high=0.54, basis="weak", range_from=TABLE,
        source="worldmetrics, wifitalents: 45 to 54 % of streams",
    ),
    "languages": Published(value=None, low=4, basis="assumption", source="assumption: at least 4", range_from=TABLE),
    "broadcast": _assumed(2.25 * HOUR, HOUR, 4 * HOUR),
    "broadcast_sigma": _around(0.8, "assumption", "assumption"),
    "busiest": Published(
        value=5.5, basis="published",
        source="Twitch: the top thousand channels average 120,515 minutes a year; a world has no such few of millions",
    ),
    "new_hosts": _assumed(0.03, 0.01, 0.08),
    "click": _assumed(0.04, 0.02, 0.15),
    "click_grid": _assumed(0.08, 0.02, 0.15),
    "place": _assumed(0.7, 0.4, 1.0, source="assumption; range of our prior over worlds"),
    "short": _assumed(0.33, 0.25, 0.40, source="assumption; below 3 s counts as a negative in Moment&Cross"),
    "effective": _assumed(0.35, 0.20, 0.55),
    "follow": _assumed(0.02, 0.005, 0.05),
    "click_after": _assumed(4.0),
    "interaction_after": _assumed(180.0),
    "follow_after": _assumed(480.0),
    "follow_after_p95": _assumed(3 * HOUR),
    "gift_after": _assumed(840.0, source="assumption; giving needs more than 10 minutes of watching (arXiv 2502.06557)"),
    "gift_after_p95": _assumed(6 * HOUR),
    "late": _assumed(0.03),
    "disordered": _assumed(0.08),
    "duplicates": _assumed(0.015),
    "lost_beats": _assumed(0.005),
    "lost_room_beats": _assumed(0.005),
    "peak": Published(
        value=21.0, low=19.0, high=23.0, basis="weak", source="Twitch: busiest from 7 to 11 PM", range_from=TABLE
    ),
    "trough": Published(
        value=5.0, low=3.0, high=7.0, basis="assumption", source="assumption", range_from="2 hours around, ours"
    ),
    "day_ratio": _assumed(5.0, 3.0, 8.0),
}  # fmt: skip
