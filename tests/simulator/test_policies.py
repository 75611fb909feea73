"""Policies for experiments: what each puts first, what is left out, and that ties fall without favour."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from events import schema as s
from events.clock import utc
from events.log import MemoryLog, MemoryWriter
from simulator import BadDial, World
from simulator.feed import FeedItem
from simulator.policies import PolicyFeed, make
from simulator.worlds import named

SMALL: dict[str, Any] = {"viewers": 20, "hosts": 60, "creators": 10, "items": 40}


@pytest.fixture(scope="module")
def world() -> World:
    """A world at its first evening, with rooms on air."""
    config = named("live-first")
    world = World(replace(config, **SMALL, change=replace(config.change, days_off=0.2)))
    world.advance(26.0, MemoryWriter(MemoryLog()), PolicyFeed(make("random", world), world))
    return world


def feed(world: World, policy: str, **how: Any) -> PolicyFeed:
    return PolicyFeed(make(policy, world), world, **how)


def page(feed: PolicyFeed, world: World, user: str = "viewer-00001", **asked: Any) -> list[FeedItem]:
    about = {"surface": s.Surface.HOME, "content_type": None, "limit": 5, "now": world.now} | asked
    return feed.ask(user, **about)


def entered(world: World, row: int, *, user: str, back_s: float = 60.0, number: int = 0) -> s.RoomEntered:
    room = world.live_rooms(world.now)[row]
    return s.RoomEntered(
        event_id=f"e{row}-{user}-{number}", event_at=utc(world.now - back_s), user_id=user, room_id=room.item_id,
        streamer_id=room.creator_id,
    )  # fmt: skip


def started(world: World, item: str, *, user: str, back_s: float = 60.0) -> s.MediaStarted:
    return s.MediaStarted(
        event_id=f"m-{item}-{user}-{back_s}", event_at=utc(world.now - back_s), user_id=user, item_id=item
    )


def test_popularity_puts_the_most_entered_and_played_first(world: World) -> None:
    popular = feed(world, "popularity")
    rooms = world.live_rooms(world.now)
    assert len(rooms) > 1
    media = [one.item_id for one in world.on(world.now) if one.content_type != "LIVE"]
    for user in ("a", "b", "c"):
        popular.hear(entered(world, 0, user=user))
    for user in ("a", "b", "c", "d"):
        popular.hear(started(world, media[3], user=user))
    popular.hear(entered(world, 1, user="a"))
    assert [one.item_id for one in page(popular, world)[:3]] == [rooms[0].item_id, media[3], rooms[1].item_id]


def test_popularity_forgets_half_in_a_day(world: World) -> None:
    popular = feed(world, "popularity")
    media = [one.item_id for one in world.on(world.now) if one.content_type != "LIVE"]
    for user in ("a", "b", "c"):
        popular.hear(started(world, media[0], user=user, back_s=86_400.0))
    for user in ("a", "b"):
        popular.hear(started(world, media[1], user=user))
    assert [one.item_id for one in page(popular, world)[:2]] == [media[1], media[0]]


def test_repeat_puts_the_hosts_a_viewer_watched_most_first_and_only_for_her(world: World) -> None:
    repeat = feed(world, "repeat")
    rooms = world.live_rooms(world.now)
    for user in ("a", "b", "c"):
        repeat.hear(entered(world, 0, user=user))
    repeat.hear(entered(world, 1, user="viewer-00001"))
    assert [one.item_id for one in page(repeat, world)[:2]] == [rooms[1].item_id, rooms[0].item_id]
    assert page(repeat, world, "viewer-00002")[0].item_id == rooms[0].item_id


def test_what_a_viewer_played_what_she_plays_now_and_other_kinds_are_left_out(world: World) -> None:
    random = feed(world, "random")
    media = [one.item_id for one in world.on(world.now) if one.content_type != "LIVE"]
    random.hear(started(world, media[0], user="viewer-00001"))
    shown = {one.item_id for one in page(random, world, limit=100, context_item_id=media[1])}
    assert shown == {one.item_id for one in world.on(world.now)} - {media[0], media[1]}
    assert media[0] in {one.item_id for one in page(random, world, "viewer-00002", limit=100)}
    assert {one.content_type for one in page(feed(world, "random", only="LIVE"), world, limit=100)} == {"LIVE"}
    assert {one.content_type for one in page(random, world, limit=100, content_type="AUDIO")} == {"AUDIO"}


def test_ties_fall_without_favour_and_the_same_again_for_the_same_request(world: World) -> None:
    first: Counter[str] = Counter()
    for number in range(2_000):
        first[page(feed(world, "random"), world, now=world.now + number * 1e-3, limit=1)[0].item_id] += 1
    size = len(world.on(world.now))
    assert len(first) == size
    assert max(first.values()) < 2_000 / size + 6 * (2_000 / size) ** 0.5
    assert page(feed(world, "random"), world) == page(feed(world, "random"), world)


def test_shown_pages_are_logged_with_their_policy_and_propensity(world: World) -> None:
    class Kept:
        def __init__(self) -> None:
            self.events: list[s.Event] = []

        def send(self, event: s.Event) -> None:
            self.events.append(event)

        def send_raw(self, topic: str, **rest: Any) -> None: ...

        def flush(self) -> None: ...

        def close(self) -> None: ...

    for policy, chance in (("random", 1 / len(world.on(world.now))), ("popularity", 1.0)):
        kept = Kept()
        shown = page(feed(world, policy, writer=kept), world)
        assert [(e.source, e.position, e.propensity) for e in kept.events if isinstance(e, s.Impression)] == [
            (policy, position, chance) for position in range(5)
        ]
        assert [e.item_id for e in kept.events if isinstance(e, s.Impression)] == [one.item_id for one in shown]


def test_an_unknown_policy_is_refused_with_the_names_there_are(world: World) -> None:
    with pytest.raises(BadDial, match="policy 'best' is not known; allowed are random, popularity, repeat, oracle"):
        make("best", world)
