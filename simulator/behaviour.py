"""What a viewer does with a thing once she is in: the events of one play or one visit of a room, and when it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from events import schema as s
from events.clock import utc
from simulator.catalogue import Room, Thing
from simulator.dials import Rates
from simulator.population import Vector, Viewer

HEARTBEAT_S = 30.0
Level = TypeVar("Level", float, Vector)  # of one thing, or [things]
LONGEST_VISIT_S = 5_400.0
GIFT_LOG_MEAN, GIFT_SIGMA = 2.0, 1.2  # of a gift's amount, less 1


class Mint:
    """Makes events with ids of their own: `<prefix>-<number>`, event time rounded to the millisecond."""

    def __init__(self, prefix: str, *, by_entity: bool = False) -> None:
        self._prefix, self._count, self._by_entity = prefix, 0, by_entity
        self._of: dict[str, Mint] = {}

    def of(self, entity: str) -> "Mint":
        """The mint that counts for one entity alone, when ids are counted by entity; else the common one."""
        if not self._by_entity:
            return self
        if entity not in self._of:
            self._of[entity] = Mint(f"{self._prefix}-{entity}")
        return self._of[entity]

    def __call__(self, kind: Callable[..., s.Event], at: float, **fields: Any) -> s.Event:
        """An event of that type at epoch second `at`."""
        self._count += 1
        return kind(event_id=f"{self._prefix}-{self._count:07d}", event_at=utc(round(at, 3)), **fields)


@dataclass
class Story:
    """What one play or visit came to."""

    events: list[s.Event] = field(default_factory=list)
    until: float = 0.0  # epoch seconds at which the viewer is free again
    used_s: float = 0.0  # seconds played or watched
    effective: bool = False  # watched for 30 s, or played to the end
    followed: bool = False
    lost_left: bool = False  # she left, but the event never arrives


def play(
    mint: Mint, rng: np.random.Generator, viewer: Viewer, item: Thing, *, at: float, delight: float, request_id: str | None,
    surface: s.Surface, rates: Rates,
) -> Story:  # fmt: skip
    """One play of a media item that begins at epoch second `at`."""
    story = Story()
    where = {"item_id": item.item_id, "creator_id": item.creator_id, "request_id": request_id}
    length = item.duration_s or 60.0

    def say(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        story.events.append(mint(kind, when, user_id=viewer.user_id, **where, **fields))

    def act(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        say(kind, when, surface=surface, **fields)

    act(s.MediaStarted, at)
    share = _played_share(rng, delight, length, rates=rates)
    played = round(share * length, 1)
    story.until, story.used_s = at + max(played, 2.0), played
    story.effective = share > 0.9
    if story.effective:
        act(s.MediaCompleted, story.until, played_s=played)
    elif played < 6.0:
        act(s.MediaSkipped, story.until)
    elif share < 0.3:
        act(s.MediaPausedEarly, story.until, played_s=played)
    pleased = delight if share > 0.3 else 0.1 * delight
    if rng.random() < rates.disliked * (1.0 - delight):
        act(s.MediaDisliked, story.until + 1.0)
    for kind, odds in (
        (s.MediaLiked, rates.liked), (s.MediaShared, rates.shared), (s.MediaAddedToPlaylist, rates.playlisted),
        (s.MediaReplay, rates.replayed),
    ):  # fmt: skip
        if rng.random() < odds * pleased**2:
            act(kind, story.until + float(rng.uniform(1.0, 20.0)))
    if rng.random() < rates.subscribed * pleased**2:
        story.followed = True
        say(s.SubscriptionToCreator, story.until + float(rng.uniform(2.0, 30.0)))
    return story


def _played_share(rng: np.random.Generator, delight: float, length: float, *, rates: Rates) -> float:
    """Share of the item played: all of it when pleased (less often when it is long), else somewhere below 0.9."""
    if rng.random() < completion(delight, length, rates=rates):
        return float(rng.uniform(0.91, 1.0))
    return float(rng.beta(0.7 + delight, 1.6)) * 0.9


def completion(delight: Level, length: Level, *, rates: Rates) -> Level:
    """Probability that an item of `length` seconds is played to its end."""
    odds: Level = rates.completed * delight * (1.0 - 0.3 * np.minimum(length / 600.0, 1.0))
    return odds


def visit_median_s(delight: Level, rates: Rates) -> Level:
    """Median seconds of a visit that nothing cuts short."""
    return rates.visit_shortest_s + rates.visit_longest_s * delight**3


def visit(
    mint: Mint, rng: np.random.Generator, viewer: Viewer, room: Room, *, at: float, delight: float, request_id: str | None,
    surface: s.Surface, lost_left_share: float, rates: Rates, slower: float = 1.0,
) -> Story:  # fmt: skip
    """One visit of a live room from epoch second `at` until the viewer leaves or the broadcast ends.

    `slower` stretches the delays of follows and gifts, when the rates have any.
    """
    story = Story()

    def act(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        story.events.append(
            mint(
                kind, when, user_id=viewer.user_id, room_id=room.item_id, streamer_id=room.creator_id,
                request_id=request_id, surface=surface, **fields,
            )
        )  # fmt: skip

    act(s.RoomEntered, at)
    wanted_s = float(rng.lognormal(np.log(visit_median_s(delight, rates)), rates.visit_sigma))
    watched = round(min(wanted_s, LONGEST_VISIT_S, max(room.until_at - at, 1.0)), 1)
    story.until, story.used_s, story.effective = at + watched, watched, watched >= HEARTBEAT_S
    for beat in range(1, int(watched // HEARTBEAT_S) + 1):
        act(s.WatchHeartbeat, at + beat * HEARTBEAT_S)
    if story.effective:
        _interact(
            act, rng, at=at, watched=watched, delight=delight, generosity=viewer.generosity, rates=rates, slower=slower
        )  # fmt: skip
        story.followed = bool(rng.random() < rates.followed * delight)
        if story.followed:
            within = float(rng.uniform(0.5, 1.0)) * watched
            act(s.StreamerFollowed, at + _delay(rng, rates.follow_after_s * slower, within, sigma=rates.late_sigma))
    story.lost_left = bool(rng.random() < lost_left_share)
    if not story.lost_left:
        act(s.RoomLeft, story.until, watched_s=watched)
    return story


def _interact(
    act: Callable[..., None], rng: np.random.Generator, *, at: float, watched: float, delight: float, generosity: float,
    rates: Rates, slower: float,
) -> None:  # fmt: skip
    """Comments, shares and gifts come by the minute watched, so who stays longer does more."""
    minutes = watched / 60.0
    for kind, rate in ((s.CommentPosted, rates.comments * delight), (s.RoomShared, rates.room_shares * delight)):
        for _ in range(int(rng.poisson(rate * minutes))):
            act(kind, at + float(rng.uniform(10.0, watched)))
    for _ in range(int(rng.poisson(rates.gifts * delight * generosity * max(minutes - 3.0, 0.0)))):
        within = float(rng.uniform(180.0, watched))
        amount = round(1.0 + float(rng.lognormal(GIFT_LOG_MEAN, GIFT_SIGMA)), 0)
        act(s.GiftSent, at + _delay(rng, rates.gift_after_s * slower, within, sigma=rates.late_sigma), amount=amount)


def _delay(rng: np.random.Generator, median_s: float, within: float, *, sigma: float) -> float:
    """Seconds from entering: log-normal around a median (then it may come from the host's page, after she left)."""
    return float(median_s * rng.lognormal(0.0, sigma)) if median_s > 0 else within
