"""The truth: columns agree with the definition, closed forms with what happens, and a page's value with a sum by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from events.log import MemoryLog, MemoryWriter
from events.schema import GiftSent, MediaLiked, StreamerFollowed, Surface
from simulator import NoFeed, World, WorldConfig
from simulator.behaviour import Mint, play, visit
from simulator.catalogue import Room
from simulator.dials import Change
from simulator.policies import Oracle, PolicyFeed, Random, rollout
from simulator.taste import utility
from simulator.truth import Outlook, Truth
from simulator.worlds import named

SMALL: dict[str, Any] = {"viewers": 40, "hosts": 60, "creators": 20, "items": 80, "sessions_per_day": 8.0}


@pytest.fixture(scope="module")
def lived() -> World:
    """A live-first world after a day, with plays, watches, follows and a highlight in every room somewhere."""
    config = named("live-first")
    rates = replace(config.rates, followed=0.9, subscribed=0.9)
    change = replace(config.change, highlights_per_hour=10.0, group_click_gap=0.7)
    world = World(replace(config, **SMALL, rates=rates, change=change))
    world.advance(24.0, MemoryWriter(MemoryLog()), PolicyFeed(Random(), world))
    return world


def test_columns_are_the_definition_for_everything_that_is_on(lived: World) -> None:
    truth, at = Truth(lived), lived.now
    remembering = [user for user, one in lived.memories.items() if one.watches and one.seen and one.follows][:6]
    assert len(remembering) == 6
    assert any(room.lift(at) > 0 for room in lived.live_rooms(at))
    assert any(one.creator_id in lived.memories[user].follows for user in remembering for one in lived.on(at))
    for user in remembering:
        outlook = truth.of(user, at)
        viewer, memory = lived.viewers[user], lived.memories[user]
        mood = lived.moods.of(viewer, memory, at)
        one_by_one = [utility(viewer, memory, one, at, pulls=lived.config.pulls, mood=mood) for one in lived.on(at)]
        assert outlook.utility.tolist() == pytest.approx(one_by_one, abs=1e-9)
        assert lived.utility(user, outlook.things[3].item_id, at) == pytest.approx(outlook.utility[3], abs=1e-9)


def test_older_viewers_click_less_at_the_same_utility(lived: World) -> None:
    truth = Truth(lived)
    for user, viewer in list(lived.viewers.items())[:10]:
        outlook = truth.of(user, lived.now)
        shelf = lived.shelf(lived.now)
        odds = np.log(outlook.click / (1 - outlook.click))
        gap = 0.7 if viewer.age_band in ("45_54", "55_64") else 0.0
        assert (outlook.utility + shelf.appeal - lived.config.click_offset - odds).tolist() == pytest.approx(
            [gap] * len(odds)
        )


def test_the_truth_of_a_few_things_is_that_of_all(lived: World) -> None:
    truth, user = Truth(lived), "viewer-00003"
    every = truth.of(user, lived.now)
    few = truth.of(user, lived.now, among=[every.things[7], every.things[2]])
    assert few.click.tolist() == pytest.approx([every.click[7], every.click[2]])
    assert few.watch_s.tolist() == pytest.approx([every.watch_s[7], every.watch_s[2]])


def test_expected_visits_are_what_visits_come_to() -> None:
    """Ten thousand visits of one room with 2,000 seconds left, against the closed forms."""
    config = replace(named("live-first"), **SMALL)
    world = World(config)
    rates = replace(config.rates, visit_longest_s=400.0, visit_sigma=1.2, followed=0.5, gifts=0.2)
    world.config = replace(config, rates=rates)
    world.advance(20.0, MemoryWriter(MemoryLog()), NoFeed())
    room = next(one for one in world.live_rooms(world.now) if one.until_at - world.now > 2_000)
    room = replace(room, until_at=world.now + 2_000)
    viewer = world.viewers["viewer-00001"]
    outlook = Truth(world).of(viewer.user_id, world.now, among=[room])
    delight = 1 / (1 + math.exp(-1.2 * (outlook.utility[0] - 0.4)))
    mint, rng, stories = Mint("t"), np.random.default_rng(1), []
    for _ in range(10_000):
        stories.append(
            visit(mint, rng, viewer, room, at=world.now, delight=delight, request_id=None, surface=Surface.HOME,
                  lost_left_share=0.0, rates=rates)
        )  # fmt: skip
    coins = [sum(event.amount for event in story.events if isinstance(event, GiftSent)) for story in stories]
    follows = [any(isinstance(event, StreamerFollowed) for event in story.events) for story in stories]
    _close([story.used_s for story in stories], float(outlook.watch_s[0]))
    _close([story.effective for story in stories], float(outlook.effective[0]))
    _close(follows, float(outlook.followed[0]))
    _close(coins, float(outlook.gifts[0]))


def test_expected_plays_are_what_plays_come_to() -> None:
    world = World(replace(named("live-first"), **SMALL))
    viewer, item = world.viewers["viewer-00001"], world.on(world.now)[5]
    assert not isinstance(item, Room)
    outlook = Truth(world).of(viewer.user_id, world.now, among=[item])
    delight = 1 / (1 + math.exp(-1.2 * (outlook.utility[0] - 0.4)))
    mint, rng = Mint("t"), np.random.default_rng(2)
    stories = [
        play(mint, rng, viewer, item, at=world.now, delight=delight, request_id=None, surface=Surface.HOME,
             rates=world.config.rates)
        for _ in range(10_000)
    ]  # fmt: skip
    _close([story.used_s for story in stories], float(outlook.watch_s[0]))
    _close([story.effective for story in stories], float(outlook.effective[0]))
    _close([any(isinstance(e, MediaLiked) for e in story.events) for story in stories], float(outlook.liked[0]))


def _close(seen: list[Any], expected: float) -> None:
    """Within four standard errors."""
    values = np.array(seen, dtype=float)
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(values)) + 1e-4


def outlook(click: list[float], watch_s: list[float]) -> Outlook:
    nothing = np.zeros(len(click))
    return Outlook(
        [], {f"i{n}": n for n in range(len(click))}, nothing, np.array(click), np.array(watch_s), *[nothing] * 4
    )


def test_a_pages_value_is_the_sum_over_its_places() -> None:
    """Half the looks at the second place (2 ** -1), a fifth of clicks ends the page: 0.4 + 0.5 x 0.2 x (1 - 0.4 x 0.2)."""
    world = World(WorldConfig(viewers=1, position_bias=1.0, change=Change(page_left_after_click=0.2)))
    value = Truth(world).page_value(outlook([0.4, 0.2], [10.0, 100.0]), ["i0", "i1"])
    assert value.clicks == pytest.approx(0.4 + 0.1 * 0.92)
    assert value.watch_s == pytest.approx(4.0 + 9.2)


def test_each_placement_has_its_own_position_bias() -> None:
    world = World(WorldConfig(viewers=1, position_bias=0.0, position_bias_playback=1.0, position_bias_comment=2.0))
    page = outlook([0.0, 0.8], [0.0, 0.0])
    value = {surface: Truth(world).page_value(page, ["i0", "i1"], surface).clicks for surface in Surface}
    assert value == {
        Surface.HOME: pytest.approx(0.8), Surface.PLAYBACK: pytest.approx(0.4), Surface.COMMENT: pytest.approx(0.2),
    }  # fmt: skip


def test_the_value_of_all_pages_foretells_their_clicks_and_effective_watches() -> None:
    config = named("live-first")
    change = replace(config.change, group_click_gap=1.5)
    world = World(replace(config, viewers=200, hosts=150, sessions_per_day=6.0, change=change))
    done = rollout(world, Random(), hours=36.0)
    assert done.pages == done.report.feed_requests > 500
    for seen, expected in (
        (done.report.clicks, done.expected.clicks),
        (done.report.effective, done.expected.effective),
    ):
        assert abs(seen - expected) < 4 * math.sqrt(expected)


def test_the_oracles_page_is_worth_more_than_any_other_order() -> None:
    config = replace(named("live-first"), **SMALL)
    world = World(replace(config, change=replace(config.change, page_left_after_click=0.0)))
    world.advance(20.0, MemoryWriter(MemoryLog()), NoFeed())
    truth, at, rng = Truth(world), world.now, np.random.default_rng(3)
    feed = PolicyFeed(Oracle(truth), world)
    for user in list(world.viewers)[:10]:
        best = [one.item_id for one in feed.ask(user, surface=Surface.HOME, content_type=None, limit=12, now=at)]
        outlook = truth.of(user, at)
        worth = truth.page_value(outlook, best).effective
        for _ in range(20):
            other = [outlook.things[row].item_id for row in rng.permutation(len(outlook.things))[:12]]
            assert truth.page_value(outlook, other).effective <= worth
        assert truth.page_value(outlook, best[::-1]).effective < worth
