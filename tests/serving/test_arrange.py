"""The page: its order, the mix of kinds and categories, the caps, and what earlier pages of the session change."""

import random
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from serving.arrange import (
    AUDIO,
    LIVE,
    NO_PREFERENCE,
    UNKNOWN,
    VIDEO,
    ArrangeConfig,
    Ranked,
    Shown,
    _best_first,
    arrange,
)

PLAIN = ArrangeConfig(epsilon=0.0)


class One(NamedTuple):
    """A candidate; without a creator it is the only one of its creator."""

    name: str
    merit: float
    kind: int = VIDEO
    creator: int | None = None
    category: int = UNKNOWN


def ranked(ones: list[One]) -> Ranked:
    own = [1000 + row if one.creator is None else one.creator for row, one in enumerate(ones)]
    return Ranked(
        merit=np.array([one.merit for one in ones], dtype=np.float64),
        kind=np.array([one.kind for one in ones], dtype=np.int8),
        creator=np.array(own, dtype=np.int32),
        category=np.array([one.category for one in ones], dtype=np.int32),
        order=np.arange(len(ones), dtype=np.int64),
    )


def page(ones: list[One], **more: object) -> list[str]:
    settings = {"limit": 10, "diversity": 0.0, "preferred": NO_PREFERENCE, "config": PLAIN, "dice": random.Random(1)}
    places = arrange(ranked(ones), **(settings | more)).places  # type: ignore[arg-type]
    return [ones[row].name for row in places.tolist()]


def kinds(ones: list[One], **more: object) -> Counter[str]:
    return Counter(name[0] for name in page(ones, **more))


def test_without_diversity_the_order_is_by_merit() -> None:
    assert page([One("a", 0.1), One("b", 0.9), One("c", 0.5)]) == ["b", "c", "a"]


def test_equals_stand_in_the_order_that_was_given_wherever_their_rows_are() -> None:
    ones = ranked([One(f"{n}", 0.5) for n in range(6)])
    backwards = replace(ones, order=ones.order[::-1].copy())
    settings = {"limit": 6, "preferred": NO_PREFERENCE, "config": PLAIN, "dice": random.Random(1)}
    assert arrange(ones, diversity=0.0, **settings).places.tolist() == [0, 1, 2, 3, 4, 5]  # type: ignore[arg-type]
    assert arrange(backwards, diversity=1.0, **settings).places.tolist() == [5, 4, 3, 2, 1, 0]  # type: ignore[arg-type]


def test_no_candidates_make_an_empty_page() -> None:
    assert page([]) == []


def test_diversity_weighs_merit_against_the_share_of_the_kind() -> None:
    """Second place at 0.2: v 0.8 x 0.8 - 0.2 x 1 = 0.44, a 0.8 x 0.5 = 0.40; at 0.3: v 0.26, a 0.35."""
    ones = [One("v0", 0.9), One("v1", 0.8), One("a", 0.5, kind=AUDIO)]
    assert page(ones, diversity=0.2) == ["v0", "v1", "a"]
    assert page(ones, diversity=0.3) == ["v0", "a", "v1"]


def test_diversity_weighs_merit_against_the_share_of_the_category() -> None:
    """The third place at 0.5: y has half of the page and x the other; merit decides again."""
    ones = [
        One("x0", 0.9, category=1),
        One("x1", 0.8, category=1),
        One("x2", 0.7, category=1),
        One("y", 0.6, category=2),
    ]
    assert page(ones, diversity=0.0) == ["x0", "x1", "x2", "y"]
    assert page(ones, diversity=0.5) == ["x0", "y", "x1", "x2"]


def test_full_diversity_alternates_kinds_of_like_merit() -> None:
    ones = [One(f"v{n}", 0.9 - n / 100) for n in range(4)] + [One(f"a{n}", 0.8 - n / 100, kind=AUDIO) for n in range(4)]
    assert page(ones, limit=4, diversity=0.0) == ["v0", "v1", "v2", "v3"]
    assert page(ones, limit=4, diversity=1.0) == ["v0", "a0", "v1", "a1"]


def test_full_diversity_mixes_evenly_whatever_the_merit_and_takes_the_best_of_each() -> None:
    ones = [One(f"v{n}", 1.0 - n / 100) for n in range(9)]
    ones += [One(f"a{n}", 0.01 * n, kind=AUDIO) for n in range(9)] + [One(f"l{n}", 0.0, kind=LIVE) for n in range(9)]
    assert kinds(ones, limit=9, diversity=1.0) == {"v": 3, "a": 3, "l": 3}
    assert page(ones, limit=3, diversity=1.0, preferred=LIVE) == ["v0", "l0", "a8"]


def test_the_preferred_kind_is_lifted() -> None:
    ones = [One("v", 0.55), One("a", 0.5, kind=AUDIO), One("l", 0.46, kind=LIVE)]
    assert page(ones) == ["v", "a", "l"]
    assert page(ones, preferred=AUDIO) == ["a", "v", "l"]
    assert page(ones, preferred=LIVE) == ["l", "v", "a"]


def test_a_creator_has_at_most_three_places_while_others_have_something() -> None:
    ones = [One(f"x{n}", 0.9, creator=1) for n in range(5)] + [One(f"y{n}", 0.1) for n in range(3)]
    assert kinds(ones, limit=6) == {"x": 3, "y": 3}
    assert kinds(ones, limit=8) == {"x": 5, "y": 3}


def test_a_category_has_at_most_ten_places_while_others_have_something() -> None:
    ones = [One(f"x{n}", 0.9, category=1) for n in range(15)] + [One(f"y{n}", 0.1, category=2) for n in range(8)]
    assert kinds(ones, limit=18) == {"x": 10, "y": 8}
    assert kinds(ones, limit=20) == {"x": 12, "y": 8}


def test_what_has_no_known_category_is_neither_capped_nor_pushed_down_for_it() -> None:
    ones = [One(f"x{n}", 0.9) for n in range(15)] + [One(f"y{n}", 0.8, category=2) for n in range(5)]
    assert kinds(ones, limit=15) == {"x": 15}
    assert page(ones, limit=3, diversity=0.5) == ["x0", "x1", "x2"]


def test_the_capped_come_back_by_merit_when_nothing_else_is_left() -> None:
    ones = [One(f"x{n}", 0.5 + n / 10, creator=1) for n in range(5)] + [One("y", 0.1)]
    assert page(ones, limit=5) == ["x4", "x3", "x2", "y", "x1"]


def test_diversity_counts_what_the_last_page_showed() -> None:
    """Four videos were shown: a video loses all of the diversity, audio nothing."""
    ones = [One("v", 0.9), One("a", 0.7, kind=AUDIO)]
    before = Shown(kinds={VIDEO: 4}, count=4)
    assert page(ones, limit=1, diversity=0.2) == ["v"]
    assert page(ones, limit=1, diversity=0.2, before=before) == ["a"]
    assert page(ones, limit=1, diversity=0.0, before=before) == ["v"]


def test_the_last_pages_shares_are_of_all_it_showed() -> None:
    """Two videos of four, at 0.2: v 0.8 x 0.9 - 0.2 x 0.5 = 0.62, a 0.8 x 0.7 = 0.56."""
    ones = [One("v", 0.9), One("a", 0.7, kind=AUDIO)]
    assert page(ones, limit=1, diversity=0.2, before=Shown(kinds={VIDEO: 2, LIVE: 2}, count=4)) == ["v"]


def test_diversity_counts_the_categories_of_the_last_page() -> None:
    ones = [One("x", 0.9, category=1), One("y", 0.7, category=2)]
    before = Shown(categories={1: 4}, kinds={VIDEO: 4}, count=4)
    assert page(ones, limit=1, diversity=0.3) == ["x"]
    assert page(ones, limit=1, diversity=0.3, before=before) == ["y"]


def test_short_pages_of_a_session_share_their_caps() -> None:
    """Three of a creator in 20 places: with two among the last five a page of five has one, later three again."""
    ones = [One(f"x{n}", 0.9, creator=1) for n in range(4)] + [One(f"y{n}", 0.1) for n in range(4)]
    assert kinds(ones, limit=5) == {"x": 3, "y": 2}
    assert kinds(ones, limit=5, before=Shown(creators={1: 2}, count=5)) == {"x": 1, "y": 4}
    assert kinds(ones, limit=5, before=Shown(creators={1: 3}, count=5)) == {"x": 1, "y": 4}  # four others only
    assert kinds(ones, limit=4, before=Shown(creators={1: 3}, count=5)) == {"y": 4}
    assert kinds(ones, limit=5, before=Shown(creators={1: 3}, count=35)) == {"x": 3, "y": 2}


def test_a_whole_page_has_caps_of_its_own() -> None:
    ones = [One(f"x{n}", 0.9, creator=1, category=1) for n in range(20)] + [One(f"y{n}", 0.1) for n in range(20)]
    before = Shown.of(ranked(ones), np.array([0, 1, 2, *range(20, 37)]))
    assert before.count == 20
    assert kinds(ones, limit=20, before=before) == {"x": 3, "y": 17}


def test_shown_counts_creators_categories_and_kinds_of_rows() -> None:
    ones = [One("a", 0.1, creator=5, category=7), One("b", 0.2, creator=5, kind=LIVE), One("c", 0.3, creator=6)]
    assert Shown.of(ranked(ones), np.array([0, 1])) == Shown({5: 2}, {7: 1, UNKNOWN: 1}, {VIDEO: 1, LIVE: 1}, 2)


def by_hand(ones: list[One], *, limit: int, diversity: float, preferred: int, config: ArrangeConfig) -> list[str]:
    """The rule, counted anew for every place and candidate."""
    left, out = list(ones), list[One]()
    while left and len(out) < limit:
        made = Counter(one.creator for one in out)
        about = Counter(one.category for one in out)
        free = [
            one for one in left if made[one.creator] < config.creator_cap and about[one.category] < config.category_cap
        ]

        def worth(one: One) -> float:
            alike = sum(other.kind == one.kind for other in out) + sum(other.category == one.category for other in out)
            lift = config.preference if one.kind == preferred else 0.0
            return (1 - diversity) * (one.merit + lift) - diversity * alike / max(len(out), 1)

        best = max(free, key=worth) if free else max(left, key=lambda one: one.merit + 0.1 * (one.kind == preferred))
        left.remove(best)
        out.append(best)
    return [one.name for one in out]


@pytest.mark.parametrize("diversity", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_the_page_is_the_one_that_the_rule_makes_by_hand(seed: int, diversity: float) -> None:
    draw, config = random.Random(seed), ArrangeConfig(epsilon=0.0, creator_cap=2, category_cap=4)
    ones = [
        One(f"i{n}", draw.random(), draw.randrange(3), draw.randrange(12), draw.randrange(4))
        for n in range(draw.choice([15, 60]))
    ]
    settings = {"limit": 25, "diversity": diversity, "preferred": draw.choice([NO_PREFERENCE, AUDIO]), "config": config}
    assert page(ones, **settings) == by_hand(ones, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [3, 40, 5_000])
def test_equals_stand_in_the_order_given_whether_there_are_few_or_many(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(20):
        wish, order = rng.integers(levels, size=300) / levels, rng.permutation(300)
        assert _best_first(wish, order).tolist() == np.lexsort((order, -wish)).tolist()


def test_what_is_in_the_viewers_language_is_worth_its_bonus_more_wherever_it_is_weighed() -> None:
    ones = [One("other", 0.55), One("spoken", 0.5), One("far", 0.3)]
    plain = ranked(ones)
    heard = replace(plain, spoken=np.array([False, True, True]))
    config = replace(PLAIN, language=0.1)
    settings = {"limit": 3, "diversity": 0.0, "preferred": NO_PREFERENCE, "config": config}
    orders = [arrange(one, **settings, dice=random.Random(1)).places.tolist() for one in (plain, heard)]  # type: ignore[arg-type]
    assert orders == [[0, 1, 2], [1, 0, 2]]
    np.testing.assert_allclose(heard.wish(NO_PREFERENCE, config, np.array([2, 0])), [0.4, 0.55])
