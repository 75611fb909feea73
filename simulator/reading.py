"""What a viewer does with a page: looks, clicks and enters; and what she does on her own, by a search or a favourite host."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from events import schema as s
from simulator.behaviour import Mint, Story, play, visit
from simulator.catalogue import Room, Thing
from simulator.config import WorldConfig
from simulator.feed import FeedItem
from simulator.luck import Luck
from simulator.moods import Moods
from simulator.population import Viewer
from simulator.report import WorldReport
from simulator.streams import number_of, stream, uniform
from simulator.taste import Memory, Mood, click_probability, delight, seen_probability, utility

SEARCH_LOOKS_AT = 25
GO_TO_FAVOURITE = 0.7
CLICK_SIGMA = 0.6


class Scene(Protocol):
    """What a session sees of the world."""

    viewers: dict[str, Viewer]
    memories: dict[str, Memory]
    moods: Moods

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
class Turn:
    """One request of a viewer and what came of it so far."""

    viewer: Viewer
    memory: Memory
    luck: Luck
    surface: s.Surface
    at: float  # epoch seconds: where she is by now
    ends_at: float  # when her time is up
    mood: Mood | None
    phase: WorldReport
    events: list[s.Event] = field(default_factory=list)
    clicks: int = 0
    watched_s: float = 0.0
    last: Thing | None = None  # entered last


class Reading:
    """Plays a page out; in a paired world every item is judged as it was when the page was shown."""

    def __init__(self, config: WorldConfig, scene: Scene, mint: Mint) -> None:
        self._config, self._scene, self._mint = config, scene, mint
        self._lost = stream(config.seed, "lost watch heartbeats")
        self._bias = {
            s.Surface.HOME: config.position_bias, s.Surface.PLAYBACK: config.position_bias_playback,
            s.Surface.COMMENT: config.position_bias_comment,
        }  # fmt: skip

    def scan(self, turn: Turn, page: list[FeedItem]) -> None:
        """Look down a page from its top."""
        shown_at = turn.at
        turn.at += 1.5
        wanted = self._wanted(turn, page, shown_at) if self._config.paired else {}
        for item in page:
            looks, clicking = turn.luck.glance(item.position, item.item_id)
            thing = self._scene.thing(item.item_id)
            if thing is None or not _on_air(thing, shown_at if self._config.paired else turn.at):
                turn.phase.feed_unknown += 1
                continue
            no_time = turn.at >= turn.ends_at and not self._config.paired
            if no_time or looks >= seen_probability(item.position, self._bias[turn.surface]):
                continue
            turn.at += 1.0
            value = wanted[item.item_id] if self._config.paired else self._utility(turn, thing, turn.at)
            gap = turn.mood.click_gap if turn.mood is not None else 0.0
            if clicking >= click_probability(value, thing, self._config.click_offset + gap):
                continue
            self._click(turn, item, thing, value=value)
            if self._done(turn, item):
                break

    def _wanted(self, turn: Turn, page: list[FeedItem], at: float) -> dict[str, float]:
        things = ((item.item_id, self._scene.thing(item.item_id)) for item in page)
        return {item_id: self._utility(turn, thing, at) for item_id, thing in things if thing is not None}

    def _utility(self, turn: Turn, thing: Thing, at: float) -> float:
        return utility(turn.viewer, turn.memory, thing, at, pulls=self._config.pulls, mood=turn.mood)

    def _done(self, turn: Turn, item: FeedItem) -> bool:
        share = self._config.change.page_left_after_click
        return share > 0 and turn.luck.draw("leaves the page", number_of(item.item_id)).random() < share

    def _click(self, turn: Turn, item: FeedItem, thing: Thing, *, value: float) -> None:
        rng = turn.luck.draw("story", number_of(item.item_id))
        turn.clicks += 1
        turn.phase.clicks += 1
        turn.at += float(rng.lognormal(math.log(self._config.rates.click_after_s), CLICK_SIGMA))
        said = self._mint.of(turn.viewer.user_id)(
            s.FeedClicked, turn.at, user_id=turn.viewer.user_id, item_id=item.item_id, request_id=item.request_id,
            position=item.position, surface=turn.surface,
        )  # fmt: skip
        turn.events.append(said)
        if self._config.paired and not _on_air(thing, turn.at + 0.8):
            turn.phase.closed_before_entry += 1
            return
        story = self._enter(turn, thing, rng, at=turn.at + 0.8, value=value, request_id=item.request_id)
        turn.phase.watch_s += story.until - turn.at
        turn.phase.effective += story.effective
        turn.at = story.until + 2.0

    def _enter(
        self, turn: Turn, thing: Thing, rng: np.random.Generator, *, at: float, value: float, request_id: str | None
    ) -> Story:  # fmt: skip
        """Play or visit a thing, and remember it."""
        mint, rates, pleased = self._mint.of(turn.viewer.user_id), self._config.rates, delight(value)
        if isinstance(thing, Room):
            foreign = turn.viewer.language != "en"
            story = visit(
                mint, rng, turn.viewer, thing, at=at, delight=pleased, request_id=request_id, surface=turn.surface,
                lost_left_share=self._config.lost_left_share, rates=rates,
                slower=1.0 + self._config.change.group_delay * foreign,
            )  # fmt: skip
            turn.phase.lost["room_left"] += story.lost_left
            story.events = [event for event in story.events if self._arrives(event, turn.phase)]
        else:
            story = play(
                mint, rng, turn.viewer, thing, at=at, delight=pleased, request_id=request_id, surface=turn.surface,
                rates=rates,
            )  # fmt: skip
        turn.memory.watch(thing, at)
        if story.followed:
            turn.memory.follows.add(thing.creator_id)
        turn.events += story.events
        turn.watched_s, turn.last = turn.watched_s + story.used_s, thing
        return story

    def _arrives(self, event: s.Event, phase: WorldReport) -> bool:
        share = self._config.lost_heartbeat_share
        if share == 0 or not isinstance(event, s.WatchHeartbeat):
            return True
        lost = self._lost.random() if not self._config.paired else self._of_event("lost watch heartbeats", event)
        phase.lost["watch_heartbeat"] += lost < share
        return lost >= share

    def _of_event(self, about: str, event: s.Event) -> float:
        return uniform(self._config.seed, about, number_of(event.event_id))

    def organic(self, turn: Turn) -> None:
        """Without the feed: to a favourite host who is live, else by a search to the best of a few media items."""
        rng = turn.luck.draw("organic")
        known = turn.memory.follows.union(turn.viewer.favourites)
        things: list[Thing] = [room for room in self._scene.live_rooms(turn.at) if room.creator_id in known]
        if not things or rng.random() >= GO_TO_FAVOURITE:
            media = [thing for thing in self._scene.on(turn.at) if not isinstance(thing, Room)]
            things = [media[index] for index in rng.permutation(len(media))[:SEARCH_LOOKS_AT]]
        if not things:
            return
        values = [self._utility(turn, thing, turn.at) for thing in things]
        best = int(np.argmax(values))
        began, turn.surface = turn.surface, s.Surface.HOME
        story = self._enter(turn, things[best], rng, at=turn.at + 3.0, value=values[best], request_id=None)
        turn.at, turn.surface = story.until + 2.0, began


def _on_air(thing: Thing, at: float) -> bool:
    """Whether a room is live at epoch second `at`; media always count as there."""
    return not isinstance(thing, Room) or thing.from_at <= at < thing.until_at
