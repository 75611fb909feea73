"""The page: order, the mix of content types, the cap on creators, and exploration with odds that are true."""

import random
from collections import Counter

import pytest

from serving.arrange import ArrangeConfig, arrange
from serving.feed import Scored

PLAIN = ArrangeConfig(epsilon=0.0)


def scored(item_id: str, merit: float, *, kind: str = "VIDEO", creator: str = "") -> Scored:
    return Scored(
        item_id=item_id, content_type=kind, creator_id=creator or f"by-{item_id}", source="two_tower", score=merit,
        merit=merit, scores={},
    )  # fmt: skip


def page(ranked: list[Scored], **more: object) -> list[str]:
    settings = {"limit": 10, "diversity": 0.0, "preferred": "MIXED", "config": PLAIN, "dice": random.Random(1)} | more
    return [pick.scored.item_id for pick in arrange(ranked, **settings)]  # type: ignore[arg-type]


def test_without_diversity_the_order_is_by_merit() -> None:
    assert page([scored("a", 0.1), scored("b", 0.9), scored("c", 0.5)]) == ["b", "c", "a"]


def test_full_diversity_alternates_types_of_like_merit() -> None:
    ranked = [scored(f"v{n}", 0.9 - n / 100) for n in range(4)] + [
        scored(f"a{n}", 0.8 - n / 100, kind="AUDIO") for n in range(4)
    ]
    assert page(ranked, limit=4, diversity=0.0) == ["v0", "v1", "v2", "v3"]
    assert Counter(one[0] for one in page(ranked, limit=4, diversity=1.0)) == {"v": 2, "a": 2}


def test_the_preferred_type_is_lifted() -> None:
    ranked = [scored("v", 0.55), scored("a", 0.5, kind="AUDIO")]
    assert page(ranked) == ["v", "a"]
    assert page(ranked, preferred="AUDIO") == ["a", "v"]


def test_a_creator_has_at_most_three_places_while_others_have_something() -> None:
    ranked = [scored(f"x{n}", 0.9, creator="x") for n in range(5)] + [scored(f"y{n}", 0.1) for n in range(3)]
    assert Counter(one[0] for one in page(ranked, limit=6)) == {"x": 3, "y": 3}
    assert Counter(one[0] for one in page(ranked, limit=8)) == {"x": 5, "y": 3}


def test_odds_of_explored_places_are_the_frequencies_of_many_draws() -> None:
    """10,000 pages: each candidate's share at the last place is within four standard errors of its propensity."""
    ranked = [scored(f"i{n}", 1.0 - n / 20) for n in range(10)]
    config = ArrangeConfig(epsilon=0.4, explored_share=0.2)
    seen: Counter[str] = Counter()
    odds: dict[str, float] = {}
    for seed in range(10_000):
        picks = arrange(ranked, limit=5, diversity=0.0, preferred="MIXED", config=config, dice=random.Random(seed))
        assert [pick.propensity for pick in picks[:4]] == [1.0] * 4
        last = picks[4]
        assert last.propensity is not None
        seen[last.scored.item_id] += 1
        odds[last.scored.item_id] = last.propensity
    assert sum(odds.values()) == pytest.approx(1.0)
    assert odds["i4"] == pytest.approx(0.6)
    for item, p in odds.items():
        assert seen[item] / 10_000 == pytest.approx(p, abs=4 * (p * (1 - p) / 10_000) ** 0.5)


def test_no_item_is_on_a_page_twice_even_when_several_places_are_explored() -> None:
    ranked = [scored(f"i{n}", 1.0 - n / 100) for n in range(40)]
    config = ArrangeConfig(epsilon=1.0, explored_share=0.5)
    got = page(ranked, limit=20, config=config)
    assert len(set(got)) == 20
    assert got[:10] == [f"i{n}" for n in range(10)]


def test_a_page_that_shows_all_there_is_explores_nothing() -> None:
    picks = arrange(
        [scored("a", 0.2), scored("b", 0.1)], limit=5, diversity=0.0, preferred="MIXED",
        config=ArrangeConfig(epsilon=1.0), dice=random.Random(1),
    )  # fmt: skip
    assert [(pick.scored.item_id, pick.propensity) for pick in picks] == [("a", 1.0), ("b", 1.0)]
