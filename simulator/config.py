"""The dials of a world, each with its range; docs/world.md says which defaults are assumptions."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from simulator.dials import Change, Pulls, Rates, check
from simulator.errors import BadDial

# dial -> (lowest, highest) allowed; shares are within [0, 1]
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "viewers": (1, 1_000_000),
    "hosts": (1, 100_000),
    "creators": (1, 100_000),
    "items": (1, 1_000_000),
    "publications_per_hour": (0, 10_000),
    "removals_per_hour": (0, 10_000),
    "sessions_per_day": (0, 50),
    "feed_limit": (1, 100),
    "tick_s": (60, 3_600),
    "position_bias": (0, 3),
    "position_bias_playback": (0, 3),
    "position_bias_comment": (0, 3),
    "click_offset": (-10, 10),
    "stream_median_s": (1_200, 86_400),
    "stream_sigma": (0, 2),
    "late_by_s": (1, 86_400),
    "screen_off_s": (1, 86_400),
    "skew_s": (0, 86_400),
    "outage_at_h": (0, 24 * 366),
    "outage_h": (0, 48),
}
_SHARES = (
    "organic_share", "live_tab_share", "lost_close_share", "lost_left_share", "duplicate_share", "late_share", "broken_share",
    "lost_heartbeat_share", "screen_off_share", "skew_share",
)  # fmt: skip
_WHOLE = ("seed", "viewers", "hosts", "creators", "items", "feed_limit")


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What a world is made of; BadDial at construction for a value outside its range."""

    seed: int = 7  # the same seed and feed give the same events, byte for byte
    start_at: datetime = datetime(2026, 11, 2, tzinfo=UTC)  # event time at which the first viewers come
    viewers: int = 300
    hosts: int = 50  # their heartbeats, one every 30 s, are most of the events
    creators: int = 120  # of media; hosts are others
    items: int = 800  # media published in the day before start_at
    publications_per_hour: float = 4.0
    removals_per_hour: float = 0.2
    sessions_per_day: float = 2.0  # of an average viewer
    organic_share: float = 0.35  # sessions that also go to a followed host or search, without the feed
    live_tab_share: float = 0.0  # pages asked for rooms alone, of those on the home and comment pages
    feed_limit: int = 12  # items asked for
    tick_s: float = 900.0  # feeds are asked in the first seconds of each tick: the stores can catch up once a tick
    position_bias: float = 0.5  # position p (from 1) of the home page is seen with probability p ** -bias
    position_bias_playback: float = 0.5
    position_bias_comment: float = 0.5
    click_offset: float = 2.2  # subtracted from the utility: higher means fewer clicks
    stream_median_s: float = 2.2 * 3_600  # of a broadcast, log-normal, 20 minutes to 6 hours
    stream_sigma: float = 0.5
    lost_close_share: float = 0.1  # rooms whose close never arrives: their lease ends them
    lost_left_share: float = 0.05  # room_left events that never arrive
    # Luck and ids are counted by entity and occasion, so that two policies can be compared on the same world, and a page
    # is decided as it was when it was shown. Off in `demo`, whose events stay as they were.
    paired: bool = False
    pulls: Pulls = field(default_factory=Pulls)
    rates: Rates = field(default_factory=Rates)
    change: Change = field(default_factory=Change)
    # faults, off at 0
    duplicate_share: float = 0.0  # events that are sent a second time, some events later
    late_share: float = 0.0  # events that are sent up to 1.5 x late_by_s after their event time
    late_by_s: float = 2_400.0  # mean delay of a late event, event-time seconds
    broken_share: float = 0.0  # a broken copy beside the event: cut bytes, an unknown field or a wrong type
    lost_heartbeat_share: float = 0.0  # heartbeats of rooms and of viewers that are never sent
    screen_off_share: float = 0.0  # viewers' hours in which the phone sleeps: their events come when it wakes
    screen_off_s: float = 600.0  # mean seconds it sleeps
    skew_share: float = 0.0  # viewers whose device clock is wrong
    skew_s: float = 120.0  # standard deviation of its error, seconds
    outage_at_h: float = 0.0  # hours after the start at which the road to the log closes
    outage_h: float = 0.0  # hours until it opens and everything held is sent

    def __post_init__(self) -> None:
        """Check every dial."""
        for name in _WHOLE:
            if not isinstance(getattr(self, name), int) or isinstance(getattr(self, name), bool):
                raise BadDial(f"world dial {name}={getattr(self, name)!r} is not allowed; give a whole number")
        check(self, _RANGES | dict.fromkeys(_SHARES, (0, 1)))
        if self.start_at.tzinfo is None:
            raise BadDial(f"world dial start_at={self.start_at} has no time zone; give an aware UTC time")

    @property
    def first_at(self) -> datetime:
        """Event time of the earliest event: the catalogue and the profiles come in the day before the start."""
        return self.start_at - timedelta(days=1)
