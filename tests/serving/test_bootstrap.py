"""Draws before the first release: known odds, no repeats, rooms and media apart."""

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from serving.bootstrap import BootstrapConfig, Draw, explore
from serving.item_columns import ItemColumns


@dataclass(frozen=True)
class Thing:
    content_type: str
    category: str = "music"
    language: str = "en"
    tags: tuple[str, ...] = ()
    lease_until: float = 0.0


COLUMNS = ItemColumns()
NAMES = ["", *(f"m{n}" for n in range(12)), *(f"r{n}" for n in range(4))]
for row, name in enumerate(NAMES[1:], 1):
    COLUMNS.put(row, Thing("LIVE" if name[0] == "r" else "VIDEO"))
CATALOGUE = np.arange(1, 17)


def pick(name: str) -> Draw:
    return Draw(NAMES.index(name), "trending", 0, 1.0)


def name_of(draw: Draw) -> str:
    return NAMES[draw.row]


def test_each_items_share_of_a_place_is_its_logged_propensity() -> None:
    config, rounds = BootstrapConfig(share=0.8, live=0.25), 20_000
    dice, seen, said = random.Random(1), Counter[str](), {}
    for _ in range(rounds):
        first = explore([pick("m0"), pick("m1")], CATALOGUE, COLUMNS, limit=3, config=config, dice=dice)[0]
        seen[name_of(first)] += 1
        said[name_of(first)] = first.propensity
    assert said["m0"] == pytest.approx(0.2)
    assert said["m5"] == pytest.approx(0.8 * 0.75 / 10)  # ten media that the page does not show
    assert said["r2"] == pytest.approx(0.8 * 0.25 / 4)
    assert sum(said.values()) == pytest.approx(1.0)
    for one, chance in said.items():
        assert seen[one] / rounds == pytest.approx(chance, abs=5 * (chance * (1 - chance) / rounds) ** 0.5)


def test_a_page_has_no_item_twice_and_is_filled_to_its_limit() -> None:
    page = explore([pick("m0")], CATALOGUE, COLUMNS, limit=10, config=BootstrapConfig(), dice=random.Random(3))
    ids = [name_of(one) for one in page]
    assert len(ids) == len(set(ids)) == 10


def test_with_nothing_to_draw_the_page_stays() -> None:
    page = explore(
        [pick("m0"), pick("m1")], CATALOGUE[:0], COLUMNS, limit=5, config=BootstrapConfig(), dice=random.Random(3)
    )
    assert [name_of(one) for one in page] == ["m0", "m1"]


@pytest.mark.parametrize("config", [BootstrapConfig(), BootstrapConfig(share=0.5, live=0.5)])
def test_odds_are_exact_where_a_kind_can_run_out_and_unknown_where_places_may_have_moved(
    config: BootstrapConfig,
) -> None:
    few = np.array([NAMES.index(one) for one in ("m5", "m6", "r0")])
    rounds, dice = 8_000, random.Random(5)
    seen, said = Counter[tuple[int, str]](), dict[tuple[int, str], set[float | None]]()
    for _ in range(rounds):
        page = explore([pick(f"m{n}") for n in range(4)], few, COLUMNS, limit=5, config=config, dice=dice)
        for place, draw in enumerate(page):
            seen[place, name_of(draw)] += 1
            said.setdefault((place, name_of(draw)), set()).add(draw.propensity)
    for (place, name), odds in said.items():
        if place == 4:
            assert odds == {None}
            continue
        (chance,) = odds
        assert chance is not None
        assert seen[place, name] / rounds == pytest.approx(chance, abs=5 * (chance * (1 - chance) / rounds) ** 0.5)
    for place in range(4):
        assert sum(chance for (at, _), (chance,) in said.items() if at == place) == pytest.approx(1.0)  # type: ignore[misc]


def test_odds_that_were_not_known_before_are_not_known_after() -> None:
    left = pick("m0")._replace(propensity=None)
    page = explore([left], CATALOGUE[:0], COLUMNS, limit=1, config=BootstrapConfig(share=0.0), dice=random.Random(3))
    assert [one.propensity for one in page] == [None]


def test_a_kind_that_runs_out_leaves_the_place_as_it_was_with_its_own_odds() -> None:
    only_rooms = np.array([NAMES.index("r1")])
    config = BootstrapConfig(share=1.0, live=0.0)
    page = explore([pick("m0")], only_rooms, COLUMNS, limit=1, config=config, dice=random.Random(3))
    assert [(name_of(one), one.propensity) for one in page] == [("m0", 1.0)]
