"""The estimates against hand-made numbers, and against every log that a small world can write."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.errors import BadPlaces, NothingToCompare
from monitoring.off_policy import Comparison, Estimate, disagreement, doubly_robust, ips, naive, snips
from monitoring.off_policy_log import LoggedPlaces, Predicted
from tests.monitoring.off_policy_stories import log

HAND = LoggedPlaces(
    viewer=np.array(["a", "a", "b", "c"]), request=np.arange(4), reward=np.array([1.0, 0.0, 1.0, 0.0]),
    propensity=np.array([0.5, 0.5, 0.25, 1.0]), target=np.array([1.0, 0.0, 0.5, 1.0]),
    incumbent=np.array([0.5, 0.5, 0.25, 1.0]),
    predicted=Predicted(np.array([0.5, 0.5, 0.5, 0.0]), np.array([0.5, 0.25, 0.5, 0.0]), np.array([0.5, 0.5, 0.25, 0.0])),
)  # fmt: skip


def test_inverse_propensity_scores_by_hand() -> None:
    # weights 2, 0, 2, 1 -> (2 + 0 + 2 + 0) / 4 = 1; the incumbent's are 1 -> 2 / 4
    found = ips(HAND)
    assert (found.target.value, found.incumbent.value, found.difference.value) == (1.0, 0.5, 0.5)


def test_self_normalised_scores_by_hand() -> None:
    # (2 + 2) / (2 + 0 + 2 + 1) = 0.8
    found = snips(HAND)
    assert found.target.value == pytest.approx(0.8)
    assert found.difference.value == pytest.approx(0.3)


def test_the_doubly_robust_estimate_by_hand() -> None:
    # target: 0.5 + 2 (0.5), 0.25 + 0, 0.5 + 2 (0.5), 0 -> 3.25 / 4
    # incumbent: 0.5 + 0.5, 0.5 - 0.5, 0.25 + 0.5, 0 -> 1.75 / 4
    found = doubly_robust(HAND)
    assert (found.target.value, found.incumbent.value) == (0.8125, 0.4375)
    assert found.difference.value == 0.375


def test_the_error_of_a_mean_is_that_of_sums_by_viewer() -> None:
    # differences (w1 - w0) r: 1, 0, 1, 0; less their mean 0.5, by viewer a, b, c: 0, 0.5, -0.5
    # -> sqrt(3 / 2 * 0.5) / 4 places
    found = ips(HAND).difference
    assert found.influence.tolist() == [0.0, 0.125, -0.125]
    assert found.se == pytest.approx(math.sqrt(1.5 * 0.5) / 4)


def test_a_viewer_repeated_is_no_second_viewer() -> None:
    once = log([0.2, 0.6, 0.2, 0.2, 0.2], candidate=1, viewers=300, each=1)
    twice = once.where(np.repeat(np.arange(300), 2))
    for method in (ips, snips):
        assert method(twice).difference.se == pytest.approx(method(once).difference.se)


WORLD = {  # context -> (by merit, candidate's choice, worth of items 0 to 2); item 0 by merit, 1 and 2 drawn
    "x": (1, [0.5, 0.25, 0.0]),
    "y": (2, [0.25, 0.75, 1.0]),
}
EPSILON = 0.5


def under(item: int, by_merit: int) -> float:
    return (1 - EPSILON) * (item == by_merit) + EPSILON / 2 * (item > 0)


def every_log() -> Iterator[tuple[float, list[tuple[str, int, float]]]]:
    """Every log of two places, one in x and one in y, with its probability: rows of (context, item, reward)."""
    for items in itertools.product(range(3), repeat=2):
        for rewards in itertools.product((0.0, 1.0), repeat=2):
            chance = 1.0
            for context, item, reward in zip(WORLD, items, rewards, strict=True):
                worth = WORLD[context][1][item]
                chance *= under(item, 0) * (worth if reward else 1 - worth)
            yield chance, list(zip(WORLD, items, rewards, strict=True))


def truth(which: str) -> float:
    """The policy's exact value a place."""
    total = 0.0
    for picked, worth in WORLD.values():
        total += sum(under(item, picked if which == "target" else 0) * worth[item] for item in range(3))
    return total / 2


def expected(
    method: Callable[[LoggedPlaces], Comparison], *, model: float | None, blunder: float = 1.0
) -> tuple[float, ...]:
    """Exact expectation over all logs; the model predicts `model`, or the truth if None; propensities times `blunder`."""
    sums = np.zeros(3)
    for chance, rows in every_log():
        q = {c: WORLD[c][1] if model is None else [model] * 3 for c in WORLD}
        picked = [WORLD[c][0] for c, _, _ in rows]
        places = LoggedPlaces(
            viewer=np.arange(2), request=np.arange(2), reward=np.array([r for *_, r in rows]),
            propensity=np.array([under(i, 0) for _, i, _ in rows]) * blunder,
            target=np.array([under(i, p) for (_, i, _), p in zip(rows, picked, strict=True)]),
            incumbent=np.array([under(i, 0) for _, i, _ in rows]),
            predicted=Predicted(
                np.array([q[c][i] for c, i, _ in rows]),
                np.array([sum(under(i, p) * q[c][i] for i in range(3)) for (c, *_), p in zip(rows, picked, strict=True)]),
                np.array([sum(under(i, 0) * q[c][i] for i in range(3)) for c, *_ in rows]),
            ),
        )  # fmt: skip
        found = method(places)
        sums += chance * np.array([found.target.value, found.incumbent.value, found.difference.value])
    return tuple(sums)


def test_over_all_logs_inverse_propensity_scores_are_exactly_right() -> None:
    # target: x (0.25 * 0.5 * 3 + 0) ..., worked out by `truth` from the odds alone
    assert sum(chance for chance, _ in every_log()) == pytest.approx(1.0)
    right = (truth("target"), truth("incumbent"), truth("target") - truth("incumbent"))
    assert right == pytest.approx((0.5625, 0.4375, 0.125))
    assert expected(ips, model=None) == pytest.approx(right)


def test_over_all_logs_the_doubly_robust_estimate_is_right_with_any_model() -> None:
    assert expected(doubly_robust, model=0.9) == pytest.approx((0.5625, 0.4375, 0.125))


def test_over_all_logs_it_is_right_with_the_true_model_whatever_the_propensities() -> None:
    assert expected(doubly_robust, model=None, blunder=0.3) == pytest.approx((0.5625, 0.4375, 0.125))
    assert expected(ips, model=None, blunder=0.3)[2] == pytest.approx(0.125 / 0.3)


PLACES = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        *(st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n) for _ in range(4)),
    )
)  # fmt: skip


def places_of(drawn: tuple[list[float], ...]) -> LoggedPlaces:
    viewer, *columns = (np.array(column) for column in drawn)
    reward, propensity, target, incumbent = columns
    return LoggedPlaces(viewer, np.arange(len(viewer)), reward, propensity, target, incumbent)


@settings(max_examples=60, deadline=None)
@given(PLACES)
def test_self_normalised_values_move_with_the_reward_and_not_with_the_scale_of_propensities(
    drawn: tuple[list[float], ...],
) -> None:
    places = places_of(drawn)
    plain = snips(places)
    more = snips(places_of((drawn[0], [one + 3 for one in drawn[1]], *drawn[2:])))
    scaled = snips(places_of((*drawn[:2], [one / 7 for one in drawn[2]], *drawn[3:])))
    assert more.target.value == pytest.approx(plain.target.value + 3)
    assert more.difference.value == pytest.approx(plain.difference.value, abs=1e-9)
    assert scaled.difference.value == pytest.approx(plain.difference.value, abs=1e-9)
    assert plain.difference.influence.sum() == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(PLACES)
def test_a_policy_never_differs_from_itself(drawn: tuple[list[float], ...]) -> None:
    for method in (ips, snips):
        found = method(places_of((*drawn[:3], drawn[3], drawn[3]))).difference
        assert (found.value, found.bounds(0.95)) == (0.0, (0.0, 0.0)) if len(set(drawn[0])) > 1 else found.value == 0.0


def test_the_interval_inverts_halls_transformation() -> None:
    # influences of which n (1 - p) are -p and n p are 1 - p have the skewness (1 - 2p) / sqrt(n p (1 - p)) of a mean
    n, p = 1_000, 0.02
    influence = np.r_[np.full(int(n * p), 1 - p), np.full(int(n * (1 - p)), -p)]
    one = Estimate(1.0, 0.5, influence)
    g = (1 - 2 * p) / math.sqrt(n * p * (1 - p))
    for end, wanted in zip(one.bounds(0.9), (1.644854, -1.644854), strict=True):
        t = (1.0 - end) / 0.5
        assert t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6 == pytest.approx(wanted, abs=1e-5)


def test_without_skewness_the_interval_is_the_normal_one() -> None:
    assert Estimate(1.0, 0.5, np.array([1.0, -1.0, 2.0, -2.0])).bounds(0.95) == pytest.approx((0.020018, 1.979982))


def test_where_rewards_of_great_weight_are_rare_the_interval_leans_up() -> None:
    low, high = Estimate(0.0, 1.0, np.r_[np.full(99, -0.1), 9.9]).bounds(0.95)
    assert high > 1.96 and low > -1.96


def test_viewers_that_carry_the_error_are_counted() -> None:
    assert Estimate(0.0, 1.0, np.array([1.0, -1.0, 1.0, -1.0])).effective_viewers == 4.0
    assert Estimate(0.0, 1.0, np.array([100.0, -100.0, 0.01, -0.01])).effective_viewers == pytest.approx(2.0, abs=1e-6)


def test_click_rates_of_the_log_call_a_policy_better_that_is_not() -> None:
    # at half the places everything is clicked on and the candidate puts what the incumbent does; elsewhere neither is clicked
    kind = np.arange(4_000) % 2 == 0
    reward = kind.astype(np.float64)
    candidate = np.where(kind, 0.6, 0.0)
    places = LoggedPlaces(
        np.arange(4_000), np.arange(4_000), reward, np.full(4_000, 0.6), candidate, np.full(4_000, 0.6)
    )
    assert naive(places).difference.value == pytest.approx(0.5)
    assert ips(places).difference.value == pytest.approx(0.0)


def test_a_good_model_makes_the_doubly_robust_interval_narrower_than_a_poor_one() -> None:
    worth = [0.9, 0.95, 0.05, 0.05, 0.05]
    good, poor = (log(worth, candidate=1, viewers=2_000, model=model) for model in (worth, [0.5] * 5))
    assert doubly_robust(good).difference.se < 0.7 * doubly_robust(poor).difference.se
    assert doubly_robust(poor).difference.se < 0.9 * ips(poor).difference.se


def test_two_methods_that_agree_are_no_standard_error_apart() -> None:
    places = log([0.2, 0.6, 0.2, 0.2, 0.2], candidate=1, viewers=500, model=[0.3] * 5)
    assert disagreement(snips(places), snips(places)) == 0.0
    assert abs(disagreement(doubly_robust(places), snips(places))) < 4


def test_no_places_and_no_predictions_are_refused() -> None:
    places = log([0.2] * 5, candidate=1, viewers=10)
    with pytest.raises(BadPlaces, match="predicted"):
        doubly_robust(places)
    with pytest.raises(NothingToCompare, match="no explored places"):
        snips(places.where(np.zeros(len(places), bool)))


def test_one_viewer_has_no_interval() -> None:
    alone = log([0.2] * 5, candidate=1, viewers=1, each=50)
    assert all(math.isnan(end) for end in snips(alone).difference.bounds(0.95))
