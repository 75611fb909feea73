"""Exploration: logged odds are true, by counting all dice and many, and drawing breaks no rule of the page."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from serving.arrange import NO_PREFERENCE, ArrangeConfig, Page, Ranked, arrange


def candidates(n: int, *, creators: list[int] | None = None, categories: list[int] | None = None) -> Ranked:
    """Row 0 is the best; each its own creator and of no known category unless said."""
    return Ranked(
        merit=1.0 - np.arange(n) / n,
        kind=np.zeros(n, dtype=np.int8),
        creator=np.array(creators if creators is not None else range(n), dtype=np.int32),
        category=np.array(categories if categories is not None else [-1] * n, dtype=np.int32),
        order=np.arange(n, dtype=np.int64),
    )


def laid_out(ranked: Ranked, config: ArrangeConfig, *, limit: int, dice: random.Random) -> Page:
    return arrange(ranked, limit=limit, diversity=0.0, preferred=NO_PREFERENCE, config=config, dice=dice)


class Cards(random.Random):
    """Dice that show what they are told."""

    def __init__(self, faces: Iterable[float]) -> None:
        super().__init__(0)
        self._faces = iter(faces)

    def random(self) -> float:
        return next(self._faces)


def test_logged_odds_are_the_counts_over_all_dice() -> None:
    """Places 3 and 4 of 5, four candidates left, epsilon 1/4: all 64 equally likely throws, counted.

    Given whatever the other place shows, the odds are the same.
    """
    config = ArrangeConfig(epsilon=0.25, explored_share=0.4)
    coins, lucks = (1 / 8, 3 / 8, 5 / 8, 7 / 8), (1 / 4, 3 / 4)
    stood: dict[int, Counter[int]] = {3: Counter(), 4: Counter()}
    together: Counter[tuple[int, int]] = Counter()
    logged: dict[tuple[int, int], set[float]] = defaultdict(set)
    for faces in product(coins, lucks, coins, lucks):
        one = laid_out(candidates(9), config, limit=5, dice=Cards(faces))
        assert one.places[:3].tolist() == [0, 1, 2]
        together[one.places[3], one.places[4]] += 1
        for place in (3, 4):
            stood[place][int(one.places[place])] += 1
            logged[place, int(one.places[place])].add(float(one.propensity[place]))
    for (place, row), odds in logged.items():
        assert odds == {stood[place][row] / 64}
    for (third, fourth), times in together.items():
        assert times / 64 == stood[3][third] / 64 * stood[4][fourth] / 64
    assert set(stood[3]) | set(stood[4]) == set(range(3, 9))


def test_logged_odds_are_the_frequencies_of_many_draws() -> None:
    """12,000 pages; chi-square of each explored place, and of both together, against the logged odds."""
    config, pages = ArrangeConfig(epsilon=0.4, explored_share=0.2), 12_000
    odds: tuple[dict[int, float], dict[int, float]] = ({}, {})
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(pages):
        one = laid_out(candidates(15), config, limit=10, dice=random.Random(seed))
        assert one.propensity[:8].tolist() == [1.0] * 8
        seen[int(one.places[8]), int(one.places[9])] += 1
        for known, place in zip(odds, (8, 9), strict=True):
            known[int(one.places[place])] = float(one.propensity[place])
    for which, known in enumerate(odds):
        assert sum(known.values()) == pytest.approx(1.0)
        counts = [sum(times for pair, times in seen.items() if pair[which] == row) for row in known]
        assert stats.chisquare(counts, [pages * p for p in known.values()]).pvalue > 0.001
    cells = list(product(*odds))
    expected = [pages * odds[0][a] * odds[1][b] for a, b in cells]
    assert stats.chisquare([seen[cell] for cell in cells], expected).pvalue > 0.001


def test_a_page_says_what_might_have_stood_at_each_explored_place() -> None:
    """At each, the candidate by merit and its own share of the pool; the odds of all add to 1."""
    config = ArrangeConfig(epsilon=0.3, explored_share=0.3)
    one = laid_out(candidates(17), config, limit=10, dice=random.Random(3))
    assert one.explored.tolist() == [False] * 7 + [True] * 3
    assert one.by_merit.tolist() == list(range(10))
    assert one.pool.tolist() == list(range(10, 17))
    assert [one.pool_at(place).tolist() for place in (6, 7, 8, 9)] == [[], [10, 13, 16], [11, 14], [12, 15]]
    for place in (7, 8, 9):
        shown, share = one.places[place], one.pool_at(place)
        assert one.propensity[place] == (0.3 / len(share) if shown in share else 0.7)


def test_drawn_or_not_the_propensity_is_of_what_stands_there() -> None:
    config = ArrangeConfig(epsilon=0.3, explored_share=0.1)
    drawn = laid_out(candidates(12), config, limit=10, dice=Cards([0.29, 0.99]))
    kept = laid_out(candidates(12), config, limit=10, dice=Cards([0.31, 0.99]))
    assert (drawn.places[9], drawn.propensity[9]) == (11, 0.15)
    assert (kept.places[9], kept.propensity[9]) == (9, 0.7)


def test_no_item_is_on_a_page_twice_even_when_several_places_are_explored() -> None:
    config = ArrangeConfig(epsilon=1.0, explored_share=0.5)
    for seed in range(50):
        places = laid_out(candidates(40), config, limit=20, dice=random.Random(seed)).places.tolist()
        assert len(set(places)) == 20
        assert places[:10] == list(range(10))
        assert min(places[10:]) >= 20


def test_a_page_that_shows_all_there_is_explores_nothing() -> None:
    for n in (2, 5):
        one = laid_out(candidates(n), ArrangeConfig(epsilon=1.0), limit=5, dice=random.Random(1))
        assert one.places.tolist() == list(range(n))
        assert one.propensity.tolist() == [1.0] * n
        assert not one.explored.any()
        assert one.pool.tolist() == []


def test_fewer_candidates_left_than_places_to_explore_explore_nothing() -> None:
    config = ArrangeConfig(epsilon=1.0, explored_share=0.4)
    one = laid_out(candidates(11), config, limit=10, dice=random.Random(1))
    assert not one.explored.any()
    assert one.places.tolist() == list(range(10))


def test_a_short_page_explores_one_place() -> None:
    one = laid_out(candidates(9), ArrangeConfig(explored_share=0.1), limit=4, dice=random.Random(1))
    assert one.explored.tolist() == [False, False, False, True]


def test_an_epsilon_of_nothing_explores_nothing() -> None:
    one = laid_out(candidates(40), ArrangeConfig(epsilon=0.0), limit=10, dice=random.Random(1))
    assert not one.explored.any()


def test_the_pool_is_the_best_of_the_rest_so_that_odds_are_never_tiny() -> None:
    one = laid_out(candidates(500), ArrangeConfig(epsilon=1.0, pool=30), limit=20, dice=random.Random(1))
    assert one.pool.tolist() == list(range(20, 50))
    assert one.propensity[-2:].tolist() == [1 / 15, 1 / 15]


def test_drawing_passes_no_cap() -> None:
    """The page has two of creator 0 and eight of category 1, and every place may be drawn from what is most like them."""
    config = ArrangeConfig(epsilon=1.0, explored_share=0.5)
    creators = [0, 0, *range(1, 19), *[0] * 10, *range(100, 150)]
    categories = [1] * 8 + [-1] * 12 + [-1] * 10 + [1] * 30 + [2] * 20
    ranked = candidates(80, creators=creators, categories=categories)
    for seed in range(50):
        one = laid_out(ranked, config, limit=20, dice=random.Random(seed))
        assert one.explored.sum() == 10
        assert Counter(creators[row] for row in one.places.tolist())[0] <= 3
        assert Counter(categories[row] for row in one.places.tolist())[1] <= 10


def test_of_a_creator_only_the_best_can_be_drawn() -> None:
    """Rows 5 to 8 are two creators' two items each."""
    one = laid_out(
        candidates(9, creators=[0, 1, 2, 3, 4, 6, 6, 5, 5]), ArrangeConfig(epsilon=1.0), limit=5, dice=random.Random(1)
    )
    assert one.pool.tolist() == [5, 7]


def test_of_a_creator_with_all_its_places_nothing_can_be_drawn() -> None:
    one = laid_out(
        candidates(8, creators=[0, 0, 0, 1, 2, 0, 0, 3]), ArrangeConfig(epsilon=1.0), limit=5, dice=random.Random(1)
    )
    assert one.pool.tolist() == [7]


def test_the_same_dice_make_the_same_page() -> None:
    config = ArrangeConfig(epsilon=0.5, explored_share=0.5)
    pages = [laid_out(candidates(60), config, limit=20, dice=random.Random(5)).places.tolist() for _ in range(2)]
    assert pages[0] == pages[1]
