"""Two policies on one world: what they cannot change is the same to the byte, and so is the luck of what they share."""

from dataclasses import replace
from typing import Any

import pytest

from events import schema as s
from events.topics import LIFECYCLE, MEDIA, PROFILES, encode, topic_of
from simulator import NoFeed, World, WorldConfig
from simulator.luck import ByEntity
from simulator.policies import Overheard, PolicyFeed, make
from simulator.report import WorldReport
from simulator.worlds import named

SMALL: dict[str, Any] = {"viewers": 80, "hosts": 60, "creators": 20, "items": 80, "sessions_per_day": 6.0}
FAULTS: dict[str, Any] = {"lost_heartbeat_share": 0.05, "duplicate_share": 0.05, "late_share": 0.05, "late_by_s": 600.0}
HOURS = 30.0


class Kept:
    """A writer that keeps what was sent, in order."""

    def __init__(self) -> None:
        self.events: list[s.Event] = []

    def send(self, event: s.Event) -> None:
        self.events.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: object = ()) -> None:
        raise AssertionError("nothing broken was asked for")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def play(policy: str, config: WorldConfig) -> tuple[World, list[s.Event], WorldReport]:
    world, kept = World(config), Kept()
    feed = PolicyFeed(make(policy, world), world, writer=kept)
    return world, kept.events, world.advance(HOURS, Overheard(feed, kept), feed)


@pytest.fixture(scope="module")
def two() -> dict[str, tuple[World, list[s.Event], WorldReport]]:
    config = replace(named("live-first"), **SMALL, **FAULTS)
    return {name: play(name, config) for name in ("random", "oracle")}


def lines(events: list[s.Event], *topics: str) -> set[bytes]:
    return {encode(event) for event in events if topic_of(event).name in topics}


Two = dict[str, tuple[World, list[s.Event], WorldReport]]


@pytest.mark.parametrize("topic", [LIFECYCLE, MEDIA, PROFILES])
def test_hosts_publications_and_profiles_are_the_same_to_the_byte_under_two_policies(two: Two, topic: str) -> None:
    random, oracle = (lines(two[name][1], topic) for name in ("random", "oracle"))
    assert random == oracle
    assert len(random) > 80


def test_who_thinks_of_coming_is_the_same_under_two_policies_though_clicks_are_not(two: Two) -> None:
    starts = [two["random"][0].config.start_at.timestamp() + 900.0 * tick for tick in range(int(HOURS * 4))]
    came = {
        name: [world.sessions.arrivals.thinking_of_it(at, at + 900.0)[0].tolist() for at in starts]
        for name, (world, _, _) in two.items()
    }
    assert came["random"] == came["oracle"]
    assert sum(map(len, came["random"])) > 100
    assert two["oracle"][2].clicks > 1.5 * two["random"][2].clicks


def test_a_policy_that_pleases_sends_fewer_viewers_on_a_break(two: Two) -> None:
    breaks = {name: report.breaks / report.sessions for name, (_, _, report) in two.items()}
    assert 0 < breaks["oracle"] < breaks["random"]


def test_the_same_seed_and_policy_give_the_same_bytes_in_the_same_order(two: Two) -> None:
    _, again, _ = play("oracle", two["oracle"][0].config)
    assert [encode(event) for event in again] == [encode(event) for event in two["oracle"][1]]


def test_one_viewers_feed_moves_no_other_viewers_events() -> None:
    """The oracle for one viewer, nothing for the rest: the rest do byte for byte what they do without any feed."""
    config = replace(named("live-first"), **SMALL)

    class ForOne(NoFeed):
        def __init__(self, feed: PolicyFeed) -> None:
            self._feed = feed

        def ask(self, user_id: str, **asked: Any) -> Any:
            return self._feed.ask(user_id, **asked) if user_id == "viewer-00002" else []

    bare, kept = Kept(), Kept()
    World(config).advance(HOURS, bare, NoFeed())
    world = World(config)
    world.advance(HOURS, kept, ForOne(PolicyFeed(make("oracle", world), world)))
    others = [[e for e in one.events if getattr(e, "user_id", "") != "viewer-00002"] for one in (bare, kept)]
    assert [encode(event) for event in others[0]] == [encode(event) for event in others[1]]
    assert len(kept.events) > len(bare.events)


def test_the_click_on_an_item_falls_the_same_wherever_it_is_shown_and_the_look_belongs_to_the_place() -> None:
    luck = ByEntity(7, 3, session=1_793_577_600, page=0)
    assert luck.glance(0, "a")[1] == luck.glance(5, "a")[1] != luck.glance(5, "b")[1]
    assert luck.glance(5, "a")[0] == luck.glance(5, "b")[0] != luck.glance(0, "a")[0]
    assert luck.draw("story", 9).random() == luck.draw("story", 9).random()
    assert luck.glance(0, "a") != ByEntity(7, 3, session=1_793_577_600, page=1).glance(0, "a")


def test_ids_are_counted_by_entity() -> None:
    world, kept = World(replace(named("live-first"), **SMALL)), Kept()
    world.advance(6.0, kept, NoFeed())
    beat = next(event for event in kept.events if isinstance(event, s.RoomHeartbeat))
    assert beat.event_id.startswith(f"w7-26110200-{beat.streamer_id}-")
    assert len({event.event_id for event in kept.events}) == len(kept.events)
