"""The world: reproducible, in order, decodable, continued where it stopped, and with a truth that can be learned."""

import itertools
from collections import Counter
from typing import Any

import pytest

from events import schema as s
from events.log import MemoryLog, MemoryWriter, Record
from events.topics import decode, encode, kind_of
from simulator import BadDial, FeedFailed, FeedItem, NoFeed, RandomFeed, World, WorldConfig, WorldReport
from simulator.taste import Memory, utility

SMALL: dict[str, Any] = {"viewers": 40, "hosts": 8, "creators": 20, "items": 120, "sessions_per_day": 6.0}


class Kept:
    """A writer that keeps what it was sent, in order."""

    def __init__(self) -> None:
        self.events: list[s.Event] = []
        self.flushed = 0

    def send(self, event: s.Event) -> None:
        self.events.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: object = ()) -> None:
        raise AssertionError("a world without faults sends no raw bytes")

    def flush(self) -> None:
        self.flushed = len(self.events)

    def close(self) -> None:
        pass


def play(hours: float = 24.0, **dials: Any) -> tuple[World, Kept, WorldReport]:
    world, writer = World(WorldConfig(**(SMALL | dials))), Kept()
    done = world.advance(hours, writer, RandomFeed(world.on, seed=1, writer=writer))
    return world, writer, done


def test_the_same_seed_and_feed_give_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (play(12.0, seed=seed)[1].events for seed in (7, 7, 8))
    assert [encode(event) for event in first] == [encode(event) for event in again]
    assert [encode(event) for event in first] != [encode(event) for event in other]


def test_events_leave_in_event_time_order_and_are_durable_at_the_end() -> None:
    _, writer, done = play()
    own = [event for event in writer.events if not isinstance(event, s.Impression | s.EmptyFeed)]  # the feed's
    assert all(one.event_at <= two.event_at for one, two in itertools.pairwise(own))
    assert done.messages == len(own) == len({event.event_id for event in own})
    assert writer.flushed == len(writer.events)


def test_every_event_decodes_on_its_topic() -> None:
    log = MemoryLog()
    world = World(WorldConfig(**SMALL))
    world.advance(24.0, MemoryWriter(log), NoFeed())
    records: list[Record] = [record for lane in log.records.values() for record in lane]
    kinds = Counter(kind_of(decode(record.topic, record.value)) for record in records)
    assert kinds["viewer_profile"] == 40
    assert kinds["creator_profile"] == 28
    assert kinds["media_published"] > 120
    assert kinds["room_heartbeat"] > 100
    assert kinds["feed_clicked"] == 0  # no feed, but viewers come on their own
    assert kinds["media_started"] + kinds["room_entered"] > 10


def test_engagement_follows_its_impression_by_a_second_or_more_and_names_its_request() -> None:
    _, writer, done = play()
    shown = {(e.request_id, e.item_id): e.event_at for e in writer.events if isinstance(e, s.Impression)}
    clicks = [event for event in writer.events if isinstance(event, s.FeedClicked)]
    assert len(clicks) > 30
    assert done.clicks >= len(clicks)  # who clicked at the very end may start after it
    for event in writer.events:
        if isinstance(event, (s.MediaEvent, s.FeedClicked)) and event.request_id:
            assert (event.event_at - shown[event.request_id, event.item_id]).total_seconds() >= 1.0
        if isinstance(event, s.LiveEvent) and event.request_id:
            assert (event.event_at - shown[event.request_id, event.room_id]).total_seconds() >= 1.0
    organic = [e for e in writer.events if isinstance(e, s.MediaStarted | s.RoomEntered) and e.request_id is None]
    assert organic


def test_a_room_lives_by_heartbeats_of_30_s_from_opened_to_closed() -> None:
    _, writer, _ = play(lost_close_share=0.0)
    closed = next(event for event in writer.events if isinstance(event, s.RoomClosed))
    told = [event for event in writer.events if isinstance(event, s.RoomEvent) and event.room_id == closed.room_id]
    assert isinstance(told[0], s.RoomOpened)
    assert told[-1] is closed
    beats = [told[0], *(event for event in told if isinstance(event, s.RoomHeartbeat))]
    gaps = {round((two.event_at - one.event_at).total_seconds(), 2) for one, two in itertools.pairwise(beats)}
    assert gaps == {30.0}
    assert 0 < (closed.event_at - beats[-1].event_at).total_seconds() <= 30.0


def test_lost_closes_and_heartbeats_are_counted_and_never_sent() -> None:
    _, writer, done = play(lost_close_share=1.0, lost_left_share=1.0, lost_heartbeat_share=0.5)
    kinds = Counter(kind_of(event) for event in writer.events)
    assert kinds["room_closed"] == kinds["room_left"] == 0
    assert done.lost["room_closed"] > 0
    assert done.lost["room_left"] > 0
    assert 0.4 < done.lost["room_heartbeat"] / (done.lost["room_heartbeat"] + kinds["room_heartbeat"]) < 0.6


def test_only_things_that_are_on_are_entered() -> None:
    world, writer, done = play()
    for event in writer.events:
        if isinstance(event, s.RoomEntered):
            room = next(one for one in [world.thing(event.room_id)] if one is not None)
            assert room.from_at <= event.event_at.timestamp()
    assert done.feed_unknown <= 0.01 * done.shown


def test_a_second_phase_goes_on_where_the_first_ended_with_the_same_viewers() -> None:
    whole, parts = Kept(), Kept()
    world = World(WorldConfig(**SMALL))
    world.advance(12.0, whole, NoFeed())
    world = World(WorldConfig(**SMALL))
    first = world.advance(6.0, parts, NoFeed())
    assert world.now == WorldConfig(**SMALL).start_at.timestamp() + 6 * 3_600
    second = world.advance(6.0, parts, NoFeed())
    assert [event.event_id for event in whole.events] == [event.event_id for event in parts.events]
    assert (first + second).messages == len(parts.events)


def test_the_feed_is_asked_at_event_time_after_everything_before_was_settled() -> None:
    world, writer = World(WorldConfig(**SMALL)), Kept()
    settled: list[float] = []
    asked: list[float] = []

    class Noted(NoFeed):
        def ask(
            self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float
        ) -> list[FeedItem]:
            assert settled[-1] <= now
            assert writer.flushed > 0
            asked.append(now)
            return []

    done = world.advance(6.0, writer, Noted(), settle=settled.append)
    assert len(asked) == done.feed_requests > 5
    assert asked == sorted(asked)
    assert all(at % world.config.tick_s < 20.0 for at in asked)


def test_a_feed_that_fails_is_counted_and_the_world_goes_on() -> None:
    class Broken(NoFeed):
        def ask(
            self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float
        ) -> list[FeedItem]:
            raise FeedFailed("the feed answered status 503")

    done = World(WorldConfig(**SMALL)).advance(6.0, Kept(), Broken())
    assert done.feed_errors == done.feed_requests > 0
    assert done.first_error == "the feed answered status 503"
    assert done.feed_ms_at(0.5) is None
    assert done.click_rate is None


def test_an_item_the_world_does_not_know_is_counted_and_not_clicked() -> None:
    class Strange(NoFeed):
        def ask(
            self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float
        ) -> list[FeedItem]:
            return [FeedItem("r", "no-such-item", "VIDEO", "nobody", 0)]

    done = World(WorldConfig(**SMALL)).advance(6.0, Kept(), Strange())
    assert done.feed_unknown == done.feed_requests > 0
    assert done.clicks == 0


def test_utility_is_what_viewers_click_by() -> None:
    """Logged clicks of a random feed agree with the truth: a clicked item was wanted more than a passed-over one."""
    world, writer, _ = play(48.0, viewers=120)
    clicked = {(e.request_id, e.item_id) for e in writer.events if isinstance(e, s.FeedClicked)}
    values: dict[bool, list[float]] = {True: [], False: []}
    for event in writer.events:
        if isinstance(event, s.Impression):
            thing = world.thing(event.item_id)
            assert thing is not None
            value = utility(world.viewers[event.user_id], Memory(), thing, event.event_at.timestamp())
            values[(event.request_id, event.item_id) in clicked].append(value)
    mean = {was: sum(seen) / len(seen) for was, seen in values.items()}
    assert mean[True] > mean[False] + 1.0


def test_a_feed_that_knows_the_truth_earns_more_clicks_than_chance() -> None:
    world = World(WorldConfig(**SMALL))

    class Knowing(NoFeed):
        def ask(
            self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float
        ) -> list[FeedItem]:
            best = sorted(world.on(now), key=lambda thing: -world.utility(user_id, thing.item_id, now))[:limit]
            return [FeedItem("r", one.item_id, one.content_type, one.creator_id, at) for at, one in enumerate(best)]

    chance = play()[2].click_rate
    knowing = world.advance(24.0, Kept(), Knowing()).click_rate
    assert chance is not None
    assert knowing is not None
    assert knowing > 2 * chance


def test_a_phase_must_last() -> None:
    with pytest.raises(BadDial, match=r"hours=0 is not allowed; give a number above 0"):
        World(WorldConfig(**SMALL)).advance(0, Kept(), NoFeed())
