"""Groups of dials of a world, each with its range: what people want, what follows from it, how the world changes.

Every default is that of the world `demo`; docs/world.md says which numbers have a source and which are assumptions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from simulator.errors import BadDial

Ranges = Mapping[str, tuple[float, float]]


def check(dials: object, ranges: Ranges, *, group: str = "") -> None:
    """BadDial, with the dial's name, value and range, for the first value outside its range."""
    for name, (low, high) in ranges.items():
        value: Any = getattr(dials, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadDial(f"world dial {group}{name}={value!r} is not allowed; give a number from {low} to {high}")
        if not (math.isfinite(value) and low <= value <= high):
            raise BadDial(f"world dial {group}{name}={value} is not allowed; give a number from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class Pulls:
    """What a viewer's utility is made of, in log-odds."""

    match: float = 1.6  # times her interest in the thing's categories
    quality: float = 0.4  # times the thing's quality
    style: float = 0.3  # times hidden taste that no attribute says
    fresh: float = 0.2  # of media just published, fading by e a day
    live: float = 0.8  # of any room, for being live
    other_language: float = 1.0  # scales what a foreign language costs (VIDEO 1.2, AUDIO 0.6, LIVE 2.0)
    repeat_live: float = 0.9  # times log(1 + watches of the host, half-life 5 days)
    repeat_media: float = 0.25  # the same for the creator of media
    repeat_most: float = 2.0  # the most that repeating adds
    followed: float = 0.6  # the host or creator is followed
    seen: float = 2.5  # what a media item loses once it was played
    ranges: ClassVar[Ranges] = {
        "match": (0, 10), "quality": (0, 10), "style": (0, 10), "fresh": (0, 10), "live": (-10, 10),
        "other_language": (0, 10), "repeat_live": (0, 10), "repeat_media": (0, 10), "repeat_most": (0, 20),
        "followed": (0, 10), "seen": (0, 20),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check every dial."""
        check(self, self.ranges, group="pulls.")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What follows a click; delight is how pleased she is, 0 to 1."""

    completed: float = 0.85  # probability to play to the end, times delight, for a short item
    liked: float = 0.40  # after a play, times delight squared; so the next four
    shared: float = 0.04
    playlisted: float = 0.06
    replayed: float = 0.04
    subscribed: float = 0.04
    disliked: float = 0.08  # times (1 - delight)
    visit_shortest_s: float = 15.0  # median seconds of a visit without delight
    visit_longest_s: float = 500.0  # seconds of median that full delight adds (with its cube)
    visit_sigma: float = 0.9  # of the log-normal visit
    comments: float = 0.10  # a minute watched, times delight
    room_shares: float = 0.006  # a minute watched, times delight
    gifts: float = 0.012  # a minute watched after the third, times delight and the viewer's generosity
    followed: float = 0.06  # after an effective watch (30 s), times delight
    click_after_s: float = 2.0  # median seconds from looking to the click
    follow_after_s: float = 0.0  # median seconds from entering to the follow; 0: before she leaves
    gift_after_s: float = 0.0  # the same for gifts
    late_sigma: float = 1.9  # of the log-normal delays of follow and gift (p95 about 23 medians)
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(
            ("completed", "liked", "shared", "playlisted", "replayed", "subscribed", "disliked", "followed"), (0, 1),
        ),
        "visit_shortest_s": (1, 3_600), "visit_longest_s": (0, 36_000), "visit_sigma": (0.05, 4), "comments": (0, 10),
        "room_shares": (0, 10), "gifts": (0, 10), "click_after_s": (0.1, 600), "follow_after_s": (0, 86_400),
        "gift_after_s": (0, 86_400), "late_sigma": (0, 4),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check every dial."""
        check(self, self.ranges, group="rates.")


@dataclass(frozen=True, kw_only=True)
class Change:
    """How the world moves and differs; every dial at 0 is a world that stands still and treats all alike."""

    day_swing: float = 2 / 3  # of arrivals over the day; peak to trough is (1 + swing) / (1 - swing)
    weekend: float = 0.0  # share by which Saturday and Sunday (local) have more sessions than other days
    interest_drift: float = 0.0  # standard deviation of a viewer's interests around where they began
    interest_days: float = 4.0  # days in which a drifted interest forgets by e
    hour_taste: float = 0.0  # swing of every category's pull over the hours of the day
    quality_drift: float = 0.0  # standard deviation of a host's quality around her own mean
    quality_days: float = 7.0  # days in which it forgets by e
    shocks_per_day: float = 0.0  # times a day that another module of the app pushes a category or a content type
    shock_size: float = 1.5  # what a shock adds to the utility, on average; it lasts 6 to 48 hours
    highlights_per_hour: float = 0.0  # of a broadcast: moments of 2 to 6 minutes that everybody likes
    highlight_size: float = 1.5  # what a highlight adds to the utility
    status_taste: float = 0.0  # standard deviation, over viewers, of the liking of what a host does now
    births_per_day: float = 0.0  # new hosts a day as a share of the hosts at the start
    retirement_per_day: float = 0.0  # chance of a host to stop for good, a day
    days_off: float = 0.0  # share of weekdays on which a host never goes live (her weekly schedule)
    late_joiners: float = 0.0  # share of viewers who join later, within 14 days
    fatigue: float = 0.0  # what a category loses with log(1 + plays of it, half-life 2 hours)
    leaving: float = 0.0  # chance to stay away for days after a session that pleased her not at all
    away_days: float = 3.0  # mean days of such a break
    context: float = 0.0  # what being near the item played just now adds on the playback page
    comment_share: float = 0.0  # share of later pages asked for on the comment page, after a room
    page_left_after_click: float = 0.0  # chance that a click was the last of its page
    group_taste: float = 0.0  # standard deviation of interests by age band and by gender
    group_click_gap: float = 0.0  # log-odds by which viewers above 45 click less at equal utility
    group_delay: float = 0.0  # share by which viewers of another language than en follow and give later
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(
            ("day_swing", "weekend", "late_joiners", "leaving", "comment_share", "page_left_after_click",
             "births_per_day", "retirement_per_day"), (0, 1),
        ),
        **dict.fromkeys(
            ("interest_drift", "hour_taste", "quality_drift", "shock_size", "highlight_size", "status_taste", "fatigue",
             "context", "group_taste", "group_click_gap", "group_delay"), (0, 10),
        ),
        "days_off": (0, 0.95), "interest_days": (0.1, 365), "quality_days": (0.1, 365), "shocks_per_day": (0, 100),
        "highlights_per_hour": (0, 20), "away_days": (0.1, 60),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check every dial."""
        check(self, self.ranges, group="change.")
