"""Draws before the first release: known odds, no repeats, rooms and media apart."""

import random
from collections import Counter

import pytest

from features.definitions import Entity
from serving.bootstrap import BootstrapConfig, explore
from serving.catalogue import Item
from serving.feed import Pick, Scored
from serving.held import HeldState


def item(item_id: str, kind: str = "VIDEO") -> Item:
    return Item(item_id, HeldState(Entity.ITEM, {}), kind, "c", "music", "", "none", True, 0.0, 0.0, 0)


def pick(item_id: str) -> Pick:
    scored = Scored(
        item_id=item_id, content_type="VIDEO", creator_id="c", source="trending", score=1.0, merit=1.0, scores={}
    )
    return Pick(scored=scored, propensity=1.0)


CATALOGUE = [item(f"m{n}") for n in range(12)] + [item(f"r{n}", "LIVE") for n in range(4)]


def test_each_items_share_of_a_place_is_its_logged_propensity() -> None:
    config, rounds = BootstrapConfig(share=0.8, live=0.25), 20_000
    dice, seen, said = random.Random(1), Counter[str](), {}
    for _ in range(rounds):
        first = explore([pick("m0"), pick("m1")], CATALOGUE, limit=3, config=config, dice=dice)[0]
        seen[first.scored.item_id] += 1
        said[first.scored.item_id] = first.propensity
    assert said["m0"] == pytest.approx(0.2)
    assert said["m5"] == pytest.approx(0.8 * 0.75 / 10)  # ten media that the page does not show
    assert said["r2"] == pytest.approx(0.8 * 0.25 / 4)
    assert sum(said.values()) == pytest.approx(1.0)
    for one, chance in said.items():
        assert seen[one] / rounds == pytest.approx(chance, abs=5 * (chance * (1 - chance) / rounds) ** 0.5)


def test_a_page_has_no_item_twice_and_is_filled_to_its_limit() -> None:
    page = explore([pick("m0")], CATALOGUE, limit=10, config=BootstrapConfig(), dice=random.Random(3))
    ids = [one.scored.item_id for one in page]
    assert len(ids) == len(set(ids)) == 10


def test_with_nothing_to_draw_the_page_stays() -> None:
    page = explore([pick("m0"), pick("m1")], [], limit=5, config=BootstrapConfig(), dice=random.Random(3))
    assert [one.scored.item_id for one in page] == ["m0", "m1"]


def test_a_kind_that_runs_out_leaves_the_place_as_it_was_with_odds_unknown() -> None:
    only_rooms = [item("r1", "LIVE")]
    config = BootstrapConfig(share=1.0, live=0.0)
    page = explore([pick("m0")], only_rooms, limit=1, config=config, dice=random.Random(3))
    assert [(one.scored.item_id, one.propensity) for one in page] == [("m0", None)]
