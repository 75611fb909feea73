"""Viewers' sessions: who comes in a tick, what she asks the feed for, what she clicks, and what she does on her own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from events import schema as s
from simulator.behaviour import Mint, Story, play, visit
from simulator.catalogue import Room, Thing
from simulator.config import WorldConfig
from simulator.errors import FeedFailed
from simulator.feed import Feed, FeedItem
from simulator.population import LANGUAGES, Viewer
from simulator.report import WorldReport
from simulator.streams import stream
from simulator.taste import Memory, click_probability, delight, seen_probability, utility

ASK_WITHIN_S = 20.0  # feeds are asked in the first seconds of a tick, before any room's lease could run out
PEAK_HOUR, SWING = 21.5, 2.0 / 3.0  # evening peak to morning trough is 5 to 1
BUDGET_MEDIAN_S, BUDGET_SIGMA = 1_500.0, 0.7
LEAVES_PLEASED, LEAVES_EMPTY = 0.35, 0.6  # chance to leave after a page with, and without, a click
PLAYBACK_SHARE, FILTER_SHARE = 0.3, 0.08
SEARCH_LOOKS_AT = 25
GO_TO_FAVOURITE = 0.7


class Scene(Protocol):
    """What a session sees of the world."""

    viewers: dict[str, Viewer]
    memories: dict[str, Memory]

    def on(self, at: float) -> list[Thing]:
        """Everything that can be recommended."""
        ...

    def live_rooms(self, at: float) -> list[Room]:
        """The rooms on air."""
        ...

    def thing(self, item_id: str) -> Thing | None:
        """A thing by id."""
        ...


@dataclass
class Session:
    """One viewer's stay; she asks again at the first tick after `free_at`, until `ends_at` or until she has enough."""

    viewer: Viewer
    free_at: float
    ends_at: float
    requests: int = 0


class Request(NamedTuple):
    """A feed request to be made at epoch second `at`."""

    at: float
    session: Session


class Sessions:
    """The sessions that are open, and what happens in them."""

    def __init__(self, config: WorldConfig, scene: Scene, mint: Mint) -> None:
        self._config, self._scene, self._mint = config, scene, mint
        self._viewers = list(scene.viewers.values())
        self._activity = np.array([one.activity for one in self._viewers])
        self._shift = np.array([LANGUAGES[one.language][2] for one in self._viewers])
        self._open: dict[int, Session] = {}
        self._lost = stream(config.seed, "lost watch heartbeats")

    def due(self, now: float, until: float, phase: WorldReport) -> list[Request]:
        """The requests of the tick [now, until), by time; new sessions open here."""
        rng = stream(self._config.seed, "arrivals", int(now))
        hours = (now / 3_600.0 + self._shift) % 24.0
        waves = 1.0 + SWING * np.cos(2.0 * np.pi * (hours - PEAK_HOUR) / 24.0)
        rates = self._activity * self._config.sessions_per_day * waves * (until - now) / 86_400.0
        comes = rng.random(len(self._viewers)) < 1.0 - np.exp(-rates)
        jitter = rng.uniform(1.0, min(ASK_WITHIN_S, until - now), size=len(self._viewers))
        stays = rng.lognormal(np.log(BUDGET_MEDIAN_S), BUDGET_SIGMA, size=len(self._viewers))
        for index in np.flatnonzero(comes).tolist():
            if index not in self._open:
                self._open[index] = Session(self._viewers[index], now, now + float(stays[index]))
                phase.sessions += 1
        out = []
        for index, session in self._open.items():
            at = round(max(now + float(jitter[index]), session.free_at), 3)
            if at < min(now + ASK_WITHIN_S, until):
                out.append(Request(at, session))
        return sorted(out, key=lambda request: (request.at, request.session.viewer.index))

    def serve(self, request: Request, feed: Feed, phase: WorldReport, timer: Callable[[], float]) -> list[s.Event]:
        """Ask the feed and live through the page; the events that follow, in no particular order."""
        session, viewer = request.session, request.session.viewer
        rng = stream(self._config.seed, "behaviour", viewer.index, int(request.at))
        surface = s.Surface.PLAYBACK if session.requests and rng.random() < PLAYBACK_SHARE else s.Surface.HOME
        wanted = (
            max(viewer.type_taste, key=lambda kind: viewer.type_taste[kind]) if rng.random() < FILTER_SHARE else None
        )
        page = self._ask(request, feed, phase, timer, surface=surface, content_type=wanted)
        out, at, clicks = self._scan(page, session, rng, phase, at=request.at, surface=surface)
        if session.requests == 0 and rng.random() < self._config.organic_share:
            more, at = self._organic(viewer, rng, phase, at=at)
            out += more
        session.requests += 1
        session.free_at = at
        if at >= session.ends_at or rng.random() < (LEAVES_PLEASED if clicks else LEAVES_EMPTY):
            del self._open[viewer.index]
        return out

    def _ask(
        self, request: Request, feed: Feed, phase: WorldReport, timer: Callable[[], float], *, surface: s.Surface,
        content_type: str | None,
    ) -> list[FeedItem]:  # fmt: skip
        phase.feed_requests += 1
        began = timer()
        try:
            page = feed.ask(
                request.session.viewer.user_id, surface=surface, content_type=content_type,
                limit=self._config.feed_limit, now=request.at,
            )  # fmt: skip
        except FeedFailed as error:
            phase.feed_errors += 1
            phase.first_error = phase.first_error or str(error)
            return []
        if page and page[0].own:
            phase.own_feeds += 1
        else:
            phase.feed_ms.append((timer() - began) * 1_000.0)
        phase.shown += len(page)
        phase.feed_degraded += bool(page and page[0].degraded)
        return page

    def _scan(
        self, page: list[FeedItem], session: Session, rng: np.random.Generator, phase: WorldReport, *, at: float,
        surface: s.Surface,
    ) -> tuple[list[s.Event], float, int]:  # fmt: skip
        """Look down a page: events, when she is through, and the clicks. Two draws a position, clicked or not."""
        viewer, out, clicks = session.viewer, [], 0
        memory = self._scene.memories[viewer.user_id]
        at += 1.5
        for item in page:
            looks, clicking = rng.random(2)
            thing = self._scene.thing(item.item_id)
            if thing is None or (isinstance(thing, Room) and not thing.from_at <= at < thing.until_at):
                phase.feed_unknown += 1
                continue
            if at >= session.ends_at or looks >= seen_probability(item.position, self._config.position_bias):
                continue
            at += 1.0
            value = utility(viewer, memory, thing, at)
            if clicking >= click_probability(value, thing, self._config.click_offset):
                continue
            clicks, at = clicks + 1, at + float(rng.lognormal(math.log(2.0), 0.6))
            clicked = {"user_id": viewer.user_id, "item_id": item.item_id, "request_id": item.request_id}
            out.append(self._mint(s.FeedClicked, at, **clicked, position=item.position, surface=surface))
            story = self._enter(
                viewer, thing, rng, phase, at=at + 0.8, value=value, request_id=item.request_id, surface=surface
            )
            phase.watch_s += story.until - at
            out += story.events
            at = story.until + 2.0
        phase.clicks += clicks
        return out, at, clicks

    def _enter(
        self, viewer: Viewer, thing: Thing, rng: np.random.Generator, phase: WorldReport, *, at: float, value: float,
        request_id: str | None, surface: s.Surface,
    ) -> Story:  # fmt: skip
        """Play or visit a thing, and remember it."""
        memory, pleased = self._scene.memories[viewer.user_id], delight(value)
        if isinstance(thing, Room):
            story = visit(
                self._mint, rng, viewer, thing, at=at, delight=pleased, request_id=request_id, surface=surface,
                lost_left_share=self._config.lost_left_share,
            )  # fmt: skip
            phase.lost["room_left"] += story.lost_left
            story.events = [event for event in story.events if self._arrives(event, phase)]
        else:
            story = play(
                self._mint, rng, viewer, thing, at=at, delight=pleased, request_id=request_id, surface=surface
            )  # fmt: skip
        memory.watch(thing, at)
        if story.followed:
            memory.follows.add(thing.creator_id)
        return story

    def _arrives(self, event: s.Event, phase: WorldReport) -> bool:
        share = self._config.lost_heartbeat_share
        if isinstance(event, s.WatchHeartbeat) and share > 0 and self._lost.random() < share:
            phase.lost["watch_heartbeat"] += 1
            return False
        return True

    def _organic(
        self, viewer: Viewer, rng: np.random.Generator, phase: WorldReport, *, at: float
    ) -> tuple[list[s.Event], float]:
        """Without the feed: to a favourite host who is live, else by a search to the best of a few media items."""
        memory = self._scene.memories[viewer.user_id]
        known = memory.follows.union(viewer.favourites)
        rooms: list[Thing] = [room for room in self._scene.live_rooms(at) if room.creator_id in known]
        if not rooms or rng.random() >= GO_TO_FAVOURITE:
            media = [thing for thing in self._scene.on(at) if not isinstance(thing, Room)]
            rooms = [media[index] for index in rng.permutation(len(media))[:SEARCH_LOOKS_AT]]
        if not rooms:
            return [], at
        values = [utility(viewer, memory, thing, at) for thing in rooms]
        best = int(np.argmax(values))
        story = self._enter(
            viewer, rooms[best], rng, phase, at=at + 3.0, value=values[best], request_id=None, surface=s.Surface.HOME
        )
        return story.events, story.until + 2.0
