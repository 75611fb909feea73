"""Viewers' sessions: who comes in a tick, what she asks the feed for, what she does with it, and when she goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from events import schema as s
from simulator.arrivals import ASK_WITHIN_S, Arrivals
from simulator.behaviour import Mint
from simulator.catalogue import Room, Thing
from simulator.config import WorldConfig
from simulator.dials import Change
from simulator.errors import FeedFailed
from simulator.feed import Feed, FeedItem
from simulator.luck import ByEntity, ByRequest, Luck
from simulator.population import Viewer
from simulator.reading import Reading, Scene, Turn
from simulator.report import WorldReport
from simulator.taste import Mood

LEAVES_PLEASED, LEAVES_EMPTY = 0.35, 0.6  # chance to leave after a page with, and without, a click
PLAYBACK_SHARE, FILTER_SHARE = 0.3, 0.08
STILL = Change()


@dataclass
class Session:
    """One viewer's stay; she asks again at the first tick after `free_at`, until `ends_at` or until she has enough."""

    viewer: Viewer
    began_at: float
    free_at: float
    ends_at: float
    requests: int = 0
    watched_s: float = 0.0
    last: Thing | None = None  # entered last


class Request(NamedTuple):
    """A feed request to be made at epoch second `at`."""

    at: float
    session: Session


class Sessions:
    """The sessions that are open, and what happens in them."""

    def __init__(self, config: WorldConfig, scene: Scene, mint: Mint) -> None:
        self._config, self._scene = config, scene
        self._viewers = list(scene.viewers.values())
        self.arrivals = Arrivals(config, self._viewers)
        self._reading = Reading(config, scene, mint)
        self._open: dict[int, Session] = {}

    def due(self, now: float, until: float, phase: WorldReport) -> list[Request]:
        """The requests of the tick [now, until), by time; new sessions open here."""
        comes, jitter, stays = self.arrivals.thinking_of_it(now, until)
        for index in self.arrivals.at_home(comes, now).tolist():
            if index not in self._open:
                self._open[index] = Session(self._viewers[index], now, now, now + float(stays[index]))
                phase.sessions += 1
        out = []
        for index, session in self._open.items():
            at = round(max(now + float(jitter[index]), session.free_at), 3)
            if at < min(now + ASK_WITHIN_S, until):
                out.append(Request(at, session))
        return sorted(out, key=lambda request: (request.at, request.session.viewer.index))

    def serve(self, request: Request, feed: Feed, phase: WorldReport, timer: Callable[[], float]) -> list[s.Event]:
        """Ask the feed and live through the page; the events that follow, in no particular order."""
        turn = self._turn(request, phase)
        content_type = self._filter(turn)
        near = self._near(request.session, turn)
        turn.mood = self._mood(request, turn, near)
        page = self._ask(request, feed, turn, timer, content_type=content_type, near=near)
        self._reading.scan(turn, page)
        if request.session.requests == 0 and turn.luck.draw("on her own").random() < self._config.organic_share:
            self._reading.organic(turn)
        self._after(request.session, turn)
        return turn.events

    def _turn(self, request: Request, phase: WorldReport) -> Turn:
        session, seed = request.session, self._config.seed
        luck: Luck = ByRequest(seed, session.viewer.index, at=request.at)
        if self._config.paired:
            luck = ByEntity(seed, session.viewer.index, session=int(session.began_at), page=session.requests)
        memory = self._scene.memories[session.viewer.user_id]
        surface = self._surface(session, luck)
        return Turn(session.viewer, memory, luck, surface, request.at, session.ends_at, None, phase)

    def _surface(self, session: Session, luck: Luck) -> s.Surface:
        share = self._config.change.comment_share
        if share > 0 and isinstance(session.last, Room) and luck.draw("comment page").random() < share:
            return s.Surface.COMMENT
        playback = session.requests and luck.draw("playback page").random() < PLAYBACK_SHARE
        return s.Surface.PLAYBACK if playback else s.Surface.HOME

    def _filter(self, turn: Turn) -> str | None:
        """The one content type she wants, if so."""
        share = self._config.live_tab_share
        if share > 0 and turn.surface is not s.Surface.PLAYBACK and turn.luck.draw("live tab").random() < share:
            return "LIVE"
        if turn.luck.draw("filter").random() >= FILTER_SHARE:
            return None
        return max(turn.viewer.type_taste, key=lambda kind: turn.viewer.type_taste[kind])

    def _near(self, session: Session, turn: Turn) -> Thing | None:
        """The media item whose playback page she is on, in a world where that matters."""
        on_it = self._config.change.context > 0 and turn.surface is s.Surface.PLAYBACK
        return session.last if on_it and not isinstance(session.last, Room) else None

    def _mood(self, request: Request, turn: Turn, near: Thing | None) -> Mood | None:
        if self._config.change == STILL:
            return None
        return self._scene.moods.of(turn.viewer, turn.memory, request.at, playing=near)

    def _after(self, session: Session, turn: Turn) -> None:
        session.requests += 1
        session.free_at, session.last = turn.at, turn.last or session.last
        session.watched_s += turn.watched_s
        enough = LEAVES_PLEASED if turn.clicks else LEAVES_EMPTY
        if turn.at >= session.ends_at or turn.luck.draw("leaves").random() < enough:
            del self._open[session.viewer.index]
            if self._config.change.leaving > 0:
                began = int(session.began_at)
                turn.phase.breaks += (
                    self.arrivals.leaves(session.viewer.index, turn.at, session=began, watched_s=session.watched_s) > 0
                )

    def _ask(
        self, request: Request, feed: Feed, turn: Turn, timer: Callable[[], float], *, content_type: str | None,
        near: Thing | None,
    ) -> list[FeedItem]:  # fmt: skip
        phase, more = turn.phase, {} if near is None else {"context_item_id": near.item_id}
        phase.feed_requests += 1
        began = timer()
        try:
            page = feed.ask(
                turn.viewer.user_id, surface=turn.surface, content_type=content_type, limit=self._config.feed_limit,
                now=request.at, **more,
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
        phase.feed_empty += not page
        phase.feed_degraded += bool(page and page[0].degraded)
        return page
