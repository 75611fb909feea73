"""The world: it plays its events in event-time order and asks the product for feeds, tick by tick.

Time lapses: event time runs as fast as the machine allows. Feeds are asked only in the first seconds of a tick, after
everything up to then was sent and `settle` has returned, so that a product that needs a moment to catch up is asked
about a state it can know.
"""

import heapq
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from operator import is_not

from events import schema as s
from events.log import EventWriter
from simulator.behaviour import Mint
from simulator.births import birth_events, published
from simulator.catalogue import Library, Room, Thing
from simulator.config import WorldConfig
from simulator.errors import BadDial
from simulator.faults import Road
from simulator.feed import Feed
from simulator.live import Broadcasts
from simulator.moods import Moods
from simulator.population import Viewer, make_creators, make_hosts, make_viewers
from simulator.report import WorldReport
from simulator.sessions import Sessions
from simulator.shelf import Shelf
from simulator.taste import Memory, utility

LONGEST_H = 24 * 366  # event-time hours of one phase
Progress = Callable[[float], None]  # called with the hours done so far in this phase
# Called with the event time (epoch seconds) of the last event sent; returns when the product has taken it in.
Settle = Callable[[float], None]


@dataclass(frozen=True)
class Door:
    """How a phase speaks to the product."""

    writer: EventWriter
    feed: Feed
    settle: Settle | None
    timer: Callable[[], float]


class World:
    """A seeded world at a moment of event time; `advance` plays it on."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.now = config.start_at.timestamp()
        creators, hosts = make_creators(config), make_hosts(config)
        self.viewers: dict[str, Viewer] = {one.user_id: one for one in make_viewers(config, hosts)}
        self.memories: dict[str, Memory] = {user: Memory() for user in self.viewers}
        self._library = Library(config, creators)
        self._broadcasts = Broadcasts(config, hosts)
        self._mint = Mint(f"w{config.seed}-{config.start_at:%y%m%d%H}", by_entity=config.paired)
        self.moods = Moods(config, list(self.viewers.values()))
        self.sessions = Sessions(config, self, self._mint)
        self._road = Road(config)
        self._queue: list[tuple[float, int, s.Event]] = []
        self._queued = 0
        self._shown: tuple[int, list[Thing], list[float]] = (
            -1,
            [],
            [],
        )  # the library's version, its media, their times
        self._shelf = Shelf([])
        opening = self._library.before_start(self.now)
        people = self._mint.of("people")
        self._push(birth_events(people, config, [*creators, *hosts], list(self.viewers.values()), opening))

    def on(self, at: float) -> list[Thing]:
        """Everything that can be recommended at epoch second `at`: shown media and the rooms live then."""
        return [*self._media(at), *self._broadcasts.live(at)]

    def _media(self, at: float) -> list[Thing]:
        """Shown media published by then; the library keeps them by time of publication."""
        version, shown, times = self._shown
        if version != self._library.version:
            shown = [self._library.things[item] for item in self._library.shown]
            times = [thing.from_at for thing in shown]
            self._shown = (self._library.version, shown, times)
        return shown[: bisect_right(times, at)]

    def shelf(self, at: float) -> Shelf:
        """Everything that can be recommended at epoch second `at` as columns; kept while nothing changes."""
        things = self.on(at)
        if len(things) != len(self._shelf.things) or any(map(is_not, things, self._shelf.things)):
            self._shelf = Shelf(things)
        return self._shelf

    def live_rooms(self, at: float) -> list[Room]:
        """The rooms on air at epoch second `at`, by id."""
        return self._broadcasts.live(at)

    def thing(self, item_id: str) -> Thing | None:
        """A media item or room by id, whether it is on or not."""
        return self._library.things.get(item_id) or self._broadcasts.rooms.get(item_id)

    def utility(self, user_id: str, item_id: str, at: float) -> float:
        """The truth: how much the viewer wants the item at epoch second `at`, given what she did so far; KeyError."""
        thing = self.thing(item_id)
        if thing is None:
            raise KeyError(item_id)
        viewer, memory = self.viewers[user_id], self.memories[user_id]
        mood = self.moods.of(viewer, memory, at)
        return utility(viewer, memory, thing, at, pulls=self.config.pulls, mood=mood)

    def advance(
        self,
        hours: float,
        writer: EventWriter,
        feed: Feed,
        *,
        report: Progress | None = None,
        settle: Settle | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> WorldReport:
        """Play `hours` of event time from where the world is, and say what was done; what was sent is durable then.

        Visits that last beyond the end go on in the next phase. BadDial for a length that is not above zero.
        """
        if not 0 < hours <= LONGEST_H:
            raise BadDial(f"world dial hours={hours} is not allowed; give a number above 0, at most {LONGEST_H}")
        phase, start = WorldReport(hours=hours), self.now
        self._road.report = phase
        door, end = Door(writer, feed, settle, timer), start + hours * 3_600.0
        try:
            while self.now < end:
                until = min((self.now // self.config.tick_s + 1) * self.config.tick_s, end)
                self._tick(door, phase, until)
                self.now = until
                if report is not None:
                    report((until - start) / 3_600.0)
            self._road.finish(writer)
        finally:
            writer.flush()
        return phase

    def _tick(self, door: Door, phase: WorldReport, until: float) -> None:
        """One step: plan what the world does by itself, ask the due feeds, send everything until the step's end."""
        self._plan(phase, until)
        due = self.sessions.due(self.now, until, phase)
        if due:
            self._drain(door.writer, due[0].at)
            self._settle(door, phase)
        for request in due:
            self._drain(door.writer, request.at)
            self._push(self.sessions.serve(request, door.feed, phase, door.timer))
        self._drain(door.writer, until)

    def _plan(self, phase: WorldReport, until: float) -> None:
        """Rooms and publications of [now, until)."""
        media = self._mint.of("media")
        self._push(self._broadcasts.step(self._mint, self.now, until, phase.lost))
        for at, what in self._library.changes(self.now, until):
            if what == "publish":
                self._push([published(media, self._library.publish(at))])
            elif self._library.shown:
                self._push([media(s.MediaRemoved, at, item_id=self._library.remove())])

    def _settle(self, door: Door, phase: WorldReport) -> None:
        if door.settle is not None:
            began = door.timer()
            door.writer.flush()
            door.settle(self._road.last_at)
            phase.settle_s += door.timer() - began

    def _push(self, events: list[s.Event]) -> None:
        for event in events:
            heapq.heappush(self._queue, (event.event_at.timestamp(), self._queued, event))
            self._queued += 1

    def _drain(self, writer: EventWriter, until: float) -> None:
        """Send what happens before epoch second `until`, in order."""
        while self._queue and self._queue[0][0] < until:
            self._road.send(writer, heapq.heappop(self._queue)[2])
        self._road.release(writer, until=until)


def run(
    world: World,
    writer: EventWriter,
    feed: Feed,
    *,
    hours: float,
    report: Progress | None = None,
    settle: Settle | None = None,
) -> WorldReport:
    """Play `hours` more of a world against a log and a feed; the same as `world.advance`."""
    return world.advance(hours, writer, feed, report=report, settle=settle)
