"""Policies for experiments, without a product: random, popularity, personal repeat, and the oracle that knows the truth.

    policy = make("popularity", world)
    rollout(world, policy, hours=48)            # closed loop: what is shown changes what is learned and who comes back

A policy scores what is on; `PolicyFeed` shows the best, logs the impressions and, when asked to, adds up the exact expected
value of each page it shows. Popularity and repeat know only what a product could: the events that were sent before.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from events import schema as s
from events.clock import utc
from events.log import EventWriter, Header
from simulator.catalogue import Thing
from simulator.errors import BadDial
from simulator.feed import FeedItem
from simulator.population import CONTENT_TYPES, DAY, Vector
from simulator.report import WorldReport
from simulator.shelf import Shelf
from simulator.streams import number_of, uniforms
from simulator.truth import PageValue, Truth
from simulator.world import World

NAMES = ("random", "popularity", "repeat", "oracle")


class Ask(NamedTuple):
    """One request for a feed, at epoch second `now`."""

    user_id: str
    now: float
    context_item_id: str | None = None


class Policy(Protocol):
    """Scores what is on for one viewer."""

    name: str

    def hear(self, event: s.Event) -> None:
        """Learn from an event that was sent."""
        ...

    def scores(self, ask: Ask, shelf: Shelf) -> Vector:
        """One score a thing of the shelf, [things]; the best go first."""
        ...


class Random:
    """Everything alike; the feed's tie-break decides."""

    name = "random"

    def hear(self, event: s.Event) -> None:
        """Learns nothing."""

    def scores(self, ask: Ask, shelf: Shelf) -> Vector:
        """Zeros."""
        return np.zeros(len(shelf.things))


class Tally:
    """Counts by name, each halving after `half_life_s`; kept as of one fixed moment, so that time alone changes no order."""

    def __init__(self, half_life_s: float = DAY) -> None:
        self._half_life_s, self._since = half_life_s, 0.0
        self.counts: dict[str, float] = {}

    def add(self, name: str, at: float, *, weight: float = 1.0) -> None:
        """Count at epoch second `at`."""
        self._since = self._since or at
        self.counts[name] = self.counts.get(name, 0.0) + weight * 2.0 ** ((at - self._since) / self._half_life_s)


class Popularity:
    """What was started and entered most lately (half-life a day): items by themselves, rooms also by half their host's."""

    name = "popularity"

    def __init__(self) -> None:
        self._tally = Tally()
        self._kept: tuple[Shelf, Vector] = (Shelf([]), np.zeros(0))

    def hear(self, event: s.Event) -> None:
        """Count starts of media and entries of rooms."""
        at, (shelf, scores) = event.event_at.timestamp(), self._kept
        if isinstance(event, s.MediaStarted):
            self._tally.add(event.item_id, at)
            rows = [shelf.row[event.item_id]] if event.item_id in shelf.row else []
        elif isinstance(event, s.RoomEntered):
            self._tally.add(event.room_id, at)
            self._tally.add(event.streamer_id, at)
            rows = shelf.rows_of.get(event.streamer_id, [])
        else:
            return
        for row in rows:
            scores[row] = self._score(shelf.things[row])

    def _score(self, thing: Thing) -> float:
        of = self._tally.counts.get
        host = 0.5 * of(thing.creator_id, 0.0) if thing.content_type == "LIVE" else 0.0
        return of(thing.item_id, 0.0) + host

    def scores(self, ask: Ask, shelf: Shelf) -> Vector:
        """Plays of an item; entries of a room and half those of its host."""
        if self._kept[0] is not shelf:
            self._kept = (shelf, np.array([self._score(thing) for thing in shelf.things]))
        return self._kept[1]


class Repeat:
    """Hosts this viewer watched before and who are live, by how often and how lately; the rest by popularity."""

    name = "repeat"

    def __init__(self) -> None:
        self._popular = Popularity()
        self._watches: dict[str, Tally] = defaultdict(lambda: Tally(half_life_s=5 * DAY))

    def hear(self, event: s.Event) -> None:
        """Count, by viewer and host, entries and every half minute watched."""
        self._popular.hear(event)
        if isinstance(event, s.RoomEntered | s.WatchHeartbeat):
            self._watches[event.user_id].add(event.streamer_id, event.event_at.timestamp())

    def scores(self, ask: Ask, shelf: Shelf) -> Vector:
        """Above 1 for watched hosts, within [0, 1) for the rest."""
        popular = self._popular.scores(ask, shelf)
        out: Vector = popular / (popular.max(initial=0.0) + 1.0)
        for host, count in self._watches[ask.user_id].counts.items() if ask.user_id in self._watches else ():
            for row in shelf.rows_of.get(host, ()):
                out[row] = 1.0 + count
        return out


class Oracle:
    """Knows every probability: most expected worth first, where worth is what `of` says about a click."""

    name = "oracle"

    def __init__(self, truth: Truth, *, of: str = "effective") -> None:
        self._truth, self._of = truth, of

    def hear(self, event: s.Event) -> None:
        """Has nothing to learn."""

    def scores(self, ask: Ask, shelf: Shelf) -> Vector:
        """Click probability times the worth of a click, as of now; `shelf` is what is on now."""
        outlook = self._truth.of(ask.user_id, ask.now, context_item_id=ask.context_item_id)
        worth: Vector = outlook.click if self._of == "click" else outlook.click * getattr(outlook, self._of)
        return worth


def make(name: str, world: World, *, of: str = "effective") -> Policy:
    """The policy of that name for a world; BadDial names those there are."""
    if name == "oracle":
        return Oracle(Truth(world), of=of)
    made: dict[str, type[Random] | type[Popularity] | type[Repeat]] = {
        "random": Random, "popularity": Popularity, "repeat": Repeat,
    }  # fmt: skip
    if name not in made:
        raise BadDial(f"policy {name!r} is not known; allowed are {', '.join(NAMES)}")
    return made[name]()


class PolicyFeed:
    """A feed that a policy orders; ties fall by a draw of their own. With a writer it logs what it showed.

    Media that a viewer has started are not shown to her again. `only` keeps to one content type; with `judge`, `expected` is
    the sum over pages of their exact value (Rao-Blackwell: the luck of clicks is gone from it).
    """

    def __init__(
        self, policy: Policy, world: World, *, writer: EventWriter | None = None, only: str | None = None,
        judge: Truth | None = None,
    ) -> None:  # fmt: skip
        self.policy, self.judge = policy, judge
        self._world, self._writer, self._only = world, writer, only
        self.pages, self.expected = 0, np.zeros(len(PageValue._fields))
        self._played: dict[str, set[str]] = defaultdict(set)

    def hear(self, event: s.Event) -> None:
        """Learn from an event that was sent."""
        self.policy.hear(event)
        if isinstance(event, s.MediaStarted):
            self._played[event.user_id].add(event.item_id)

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """The best `limit` items."""
        shelf, ask = self._world.shelf(now), Ask(user_id, now, context_item_id)
        allowed = self._allowed(shelf, ask, self._only or content_type)
        ties = uniforms(self._world.config.seed, "ties", shelf.numbers, number_of(user_id), round(now * 1000))
        order = np.lexsort((ties, -self.policy.scores(ask, shelf)))
        things = [shelf.things[row] for row in order[allowed[order]][:limit].tolist()]
        request_id = f"{self.policy.name}-{user_id}-{round(now * 1000)}"
        page = [
            FeedItem(request_id, one.item_id, one.content_type, one.creator_id, position, own=True)
            for position, one in enumerate(things)
        ]
        self._note(page, ask, surface=surface, choices=int(allowed.sum()), things=things)
        return page

    def _allowed(self, shelf: Shelf, ask: Ask, kind: str | None) -> npt.NDArray[np.bool_]:
        """Which rows may be shown, [things]."""
        out = np.ones(len(shelf.things), dtype=bool)
        if kind is not None:
            out = shelf.kind == CONTENT_TYPES.index(kind)
        out[
            [shelf.row[item] for item in {*self._played[ask.user_id], ask.context_item_id or ""} if item in shelf.row]
        ] = False
        return out

    def _note(
        self, page: list[FeedItem], ask: Ask, *, surface: s.Surface, choices: int, things: list[Thing]
    ) -> None:  # fmt: skip
        chance = 1.0 / choices if self.policy.name == "random" and choices else 1.0
        if self._writer is not None:
            for item in page:
                self._writer.send(_impression(item, ask, surface, source=self.policy.name, chance=chance))
        if self.judge is not None:
            outlook = self.judge.of(ask.user_id, ask.now, among=things, context_item_id=ask.context_item_id)
            self.expected += self.judge.page_value(outlook, list(outlook.row), surface)
            self.pages += 1


def _impression(
    item: FeedItem, ask: Ask, surface: s.Surface, *, source: str, chance: float
) -> s.Impression:  # fmt: skip
    return s.Impression(
        event_id=f"{item.request_id}:{item.position}", event_at=utc(ask.now), request_id=item.request_id, user_id=ask.user_id,
        item_id=item.item_id, content_type=s.ContentType(item.content_type), creator_id=item.creator_id,
        position=item.position, surface=surface, source=source, propensity=chance,
    )  # fmt: skip


class Overheard:
    """An EventWriter that lets a policy's feed hear what passes; with an inner writer it passes it on."""

    def __init__(self, feed: PolicyFeed, inner: EventWriter | None = None) -> None:
        self._feed, self._inner = feed, inner

    def send(self, event: s.Event) -> None:
        """Let the feed hear, and pass on."""
        self._feed.hear(event)
        if self._inner is not None:
            self._inner.send(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Pass on; what is broken teaches nothing."""
        if self._inner is not None:
            self._inner.send_raw(topic, key=key, value=value, headers=headers)

    def flush(self) -> None:
        """Flush the inner writer."""
        if self._inner is not None:
            self._inner.flush()

    def close(self) -> None:
        """Close the inner writer."""
        if self._inner is not None:
            self._inner.close()


class Rollout(NamedTuple):
    """A policy's closed loop: what was counted, and the expected figures of all its pages together."""

    report: WorldReport
    pages: int
    expected: PageValue

    def a_page(self) -> PageValue:
        """Expected figures of the mean page."""
        return PageValue(*(value / max(self.pages, 1) for value in self.expected))


def rollout(
    world: World, policy: Policy, *, hours: float, warm_up_h: float = 0.0, only: str | None = None, judged: bool = True
) -> Rollout:
    """Play a world under a policy, in process: the same components and events as through a log and a feed over HTTP.

    What the policy does in the first `warm_up_h` hours is not counted.
    """
    feed = PolicyFeed(policy, world, only=only)
    if warm_up_h > 0:
        world.advance(warm_up_h, Overheard(feed), feed)
    if judged:
        feed.judge = Truth(world)
    report = world.advance(hours, Overheard(feed), feed)
    return Rollout(report, feed.pages, PageValue(*feed.expected.tolist()))
