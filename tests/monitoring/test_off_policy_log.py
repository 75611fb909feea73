"""Odds by hand and against the product's own arranging; columns that belong together; the reward model."""

import random

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from monitoring.errors import BadPlaces
from monitoring.off_policy_log import Floats, Ints, LoggedPlaces, probabilities
from monitoring.off_policy_model import ModelConfig, RewardModel, cross_fitted, fit
from serving.arrange import ArrangeConfig, Ranked, arrange
from tests.monitoring.off_policy_stories import log


def test_the_one_by_merit_has_one_less_epsilon_and_the_pool_shares_epsilon() -> None:
    found = probabilities(["b", "c", "d", "e"], "a", shown=["a", "b", "e", "z"], epsilon=0.2)
    assert found == pytest.approx([0.8, 0.05, 0.05, 0.0])


def test_a_candidate_whose_choice_is_in_the_pool_has_both_odds_for_it() -> None:
    assert probabilities([7, 8, 9, 10], 8, shown=[6, 7, 8], epsilon=0.2) == pytest.approx([0.0, 0.05, 0.85])


def test_with_nothing_to_draw_the_one_by_merit_is_certain() -> None:
    assert probabilities([], "a", shown=["a", "b"], epsilon=0.2).tolist() == [1.0, 0.0]


def test_the_odds_are_those_that_the_arranging_logs() -> None:
    rng = np.random.default_rng(3)
    config = ArrangeConfig(epsilon=0.4, explored_share=0.4)
    rows = np.arange(40)
    ranked = Ranked(
        rng.random(40), (rows % 3).astype(np.int8), rows.astype(np.int32) // 2, rows.astype(np.int32) % 5, rows
    )
    seen = 0
    for seed in range(60):
        page = arrange(ranked, limit=5, diversity=0.1, preferred=-1, config=config, dice=random.Random(seed))
        for place in np.flatnonzero(page.explored).tolist():
            pool = page.pool_at(place).tolist()
            found = probabilities(pool, page.by_merit[place], shown=[page.places[place]], epsilon=config.epsilon)
            assert found[0] == pytest.approx(page.propensity[place])
            assert probabilities(
                pool, page.by_merit[place], shown=[*pool, page.by_merit[place]], epsilon=0.4
            ).sum() == (pytest.approx(1.0))
            seen += 1
    assert seen == 120


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(BadPlaces, match=r"epsilon=1.5 is not allowed; give a number from 0 to 1"):
        probabilities([1], 2, shown=[1], epsilon=1.5)
    with pytest.raises(BadPlaces, match="a pool of 3 names only 2 different"):
        probabilities([1, 1, 2], 3, shown=[1], epsilon=0.2)


def test_columns_of_different_length_are_refused_by_name() -> None:
    three = np.ones(3)
    with pytest.raises(BadPlaces, match="'reward': 2"):
        LoggedPlaces(np.arange(3), np.arange(3), np.ones(2), three, three, three)


def test_places_that_are_kept_keep_all_their_columns() -> None:
    places = log([0.5] * 5, candidate=1, viewers=4, each=2, model=[0.1, 0.2, 0.3, 0.4, 0.5])
    kept = places.where(places.viewer == 2)
    assert kept.support is not None and places.support is not None
    assert kept.predicted is not None and places.predicted is not None
    assert kept.request.tolist() == [2, 6]
    assert kept.support.drawn.tolist() == places.support.drawn[[2, 6]].tolist()
    assert kept.predicted.shown.tolist() == places.predicted.shown[[2, 6]].tolist()


def test_sums_by_viewer_by_hand() -> None:
    two = np.ones(3)
    places = LoggedPlaces(np.array(["b", "a", "b"]), np.arange(3), two, two, two, two)
    assert places.viewers == 2
    assert places.by_viewer(np.array([1.0, 10.0, 100.0])).tolist() == [10.0, 101.0]


def drawn_rewards(n: int = 4_000) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 2)) * (1.0, 5.0) + (0.0, 3.0)
    return x, (rng.random(n) < expit(-1 + 0.8 * x[:, 0] - 0.1 * x[:, 1])).astype(np.float64)


def test_the_reward_model_is_ridge_logistic_regression_of_standardised_features() -> None:
    x, y = drawn_rewards()
    standard = (x - x.mean(0)) / x.std(0)
    reference = LogisticRegression(C=1 / 3.0, tol=1e-8).fit(standard, y)
    assert fit(x, y, config=ModelConfig(ridge=3.0))(x) == pytest.approx(
        reference.predict_proba(standard)[:, 1], abs=1e-4
    )


def test_a_feature_that_never_varies_and_rewards_that_never_come_make_a_model_all_the_same() -> None:
    x, _ = drawn_rewards(50)
    model = fit(np.column_stack([x, np.ones(50)]), np.zeros(50))
    assert model(np.array([0.0, 0.0, 1.0])) < 0.05


def test_rewards_outside_0_to_1_are_refused() -> None:
    with pytest.raises(BadPlaces, match="from 0 to 3 are not allowed"):
        fit(np.zeros((2, 1)), np.array([0.0, 3.0]))


def test_a_place_is_predicted_by_a_model_that_never_saw_its_viewer() -> None:
    x, y = drawn_rewards(600)
    viewer = np.arange(600) % 30

    def expect(model: RewardModel, rows: Ints) -> tuple[Floats, Floats]:
        return model(x[rows] + 1.0), model(x[rows])

    plain = cross_fitted(x, y, viewer=viewer, expect=expect)
    changed = cross_fitted(x, np.where(viewer == 3, 1 - y, y), viewer=viewer, expect=expect)
    own = viewer == 3
    assert changed.shown[own].tolist() == plain.shown[own].tolist()
    assert changed.target[own].tolist() == plain.target[own].tolist()
    assert (changed.shown != plain.shown).any()
    assert plain.incumbent.tolist() == plain.shown.tolist()
