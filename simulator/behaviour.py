"""What a viewer does with a thing once she is in: the events of one play or one visit of a room, and when it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from events import schema as s
from events.clock import utc
from simulator.catalogue import Room, Thing
from simulator.population import Viewer

HEARTBEAT_S = 30.0


class Mint:
    """Makes events with ids of their own: `<prefix>-<number>`, event time rounded to the millisecond."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._count = prefix, 0

    def __call__(self, kind: Callable[..., s.Event], at: float, **fields: Any) -> s.Event:
        """An event of that type at epoch second `at`."""
        self._count += 1
        return kind(event_id=f"{self._prefix}-{self._count:07d}", event_at=utc(round(at, 3)), **fields)


@dataclass
class Story:
    """What one play or visit came to."""

    events: list[s.Event] = field(default_factory=list)
    until: float = 0.0  # epoch seconds at which the viewer is free again
    followed: bool = False
    lost_left: bool = False  # she left, but the event never arrives


def play(
    mint: Mint, rng: np.random.Generator, viewer: Viewer, item: Thing, *, at: float, delight: float, request_id: str | None,
    surface: s.Surface,
) -> Story:  # fmt: skip
    """One play of a media item that begins at epoch second `at`."""
    story, where = Story(), {"item_id": item.item_id, "request_id": request_id}
    length = item.duration_s or 60.0

    def say(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        story.events.append(mint(kind, when, user_id=viewer.user_id, **where, **fields))

    def act(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        say(kind, when, surface=surface, **fields)

    act(s.MediaStarted, at)
    share = _played_share(rng, delight, length)
    played = round(share * length, 1)
    story.until = at + max(played, 2.0)
    if share > 0.9:
        act(s.MediaCompleted, story.until, played_s=played)
    elif played < 6.0:
        act(s.MediaSkipped, story.until)
    elif share < 0.3:
        act(s.MediaPausedEarly, story.until, played_s=played)
    pleased = delight if share > 0.3 else 0.1 * delight
    if rng.random() < 0.08 * (1.0 - delight):
        act(s.MediaDisliked, story.until + 1.0)
    for kind, odds in (
        (s.MediaLiked, 0.40), (s.MediaShared, 0.04), (s.MediaAddedToPlaylist, 0.06), (s.MediaReplay, 0.04),
    ):  # fmt: skip
        if rng.random() < odds * pleased**2:
            act(kind, story.until + float(rng.uniform(1.0, 20.0)))
    if rng.random() < 0.04 * pleased**2:
        story.followed = True
        say(s.SubscriptionToCreator, story.until + float(rng.uniform(2.0, 30.0)), creator_id=item.creator_id)
    return story


def _played_share(rng: np.random.Generator, delight: float, length: float) -> float:
    """Share of the item played: all of it when pleased (less often when it is long), else somewhere below 0.9."""
    if rng.random() < 0.85 * delight * (1.0 - 0.3 * min(length / 600.0, 1.0)):
        return float(rng.uniform(0.91, 1.0))
    return float(rng.beta(0.7 + delight, 1.6)) * 0.9


def visit(
    mint: Mint, rng: np.random.Generator, viewer: Viewer, room: Room, *, at: float, delight: float, request_id: str | None,
    surface: s.Surface, lost_left_share: float,
) -> Story:  # fmt: skip
    """One visit of a live room from epoch second `at` until the viewer leaves or the broadcast ends."""
    story = Story()

    def act(kind: Callable[..., s.Event], when: float, **fields: Any) -> None:
        story.events.append(
            mint(
                kind, when, user_id=viewer.user_id, room_id=room.item_id, streamer_id=room.creator_id,
                request_id=request_id, surface=surface, **fields,
            )
        )  # fmt: skip

    act(s.RoomEntered, at)
    wanted_s = float(rng.lognormal(np.log(15.0 + 500.0 * delight**3), 0.9))
    watched = round(min(wanted_s, 5_400.0, max(room.until_at - at, 1.0)), 1)
    story.until = at + watched
    for beat in range(1, int(watched // HEARTBEAT_S) + 1):
        act(s.WatchHeartbeat, at + beat * HEARTBEAT_S)
    if watched >= HEARTBEAT_S:
        _interact(act, rng, at=at, watched=watched, delight=delight, generosity=viewer.generosity)
        story.followed = bool(rng.random() < 0.06 * delight)
        if story.followed:
            act(s.StreamerFollowed, at + float(rng.uniform(0.5, 1.0)) * watched)
    story.lost_left = bool(rng.random() < lost_left_share)
    if not story.lost_left:
        act(s.RoomLeft, story.until, watched_s=watched)
    return story


def _interact(
    act: Callable[..., None], rng: np.random.Generator, *, at: float, watched: float, delight: float, generosity: float
) -> None:
    """Comments, shares and gifts come by the minute watched, so who stays longer does more."""
    minutes = watched / 60.0
    for kind, rate in ((s.CommentPosted, 0.10 * delight), (s.RoomShared, 0.006 * delight)):
        for _ in range(int(rng.poisson(rate * minutes))):
            act(kind, at + float(rng.uniform(10.0, watched)))
    for _ in range(int(rng.poisson(0.012 * delight * generosity * max(minutes - 3.0, 0.0)))):
        act(s.GiftSent, at + float(rng.uniform(180.0, watched)), amount=round(1.0 + float(rng.lognormal(2.0, 1.2)), 0))
