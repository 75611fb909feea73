"""The benchmark's ground: exact truths by hand, logs that keep them, and explored places of a real world."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.off_policy_world import ARRANGE, FAULTS, PLACES, Pair, Seen, broken, explored, played
from monitoring.off_policy import ips
from simulator import World, WorldConfig
from simulator.taste import seen_probability

CLICK = np.array([[0.5, 0.25, 0.75, 0.0], [0.2, 0.4, 0.0, 0.9]])
# viewer 0 in context 0 with a pool of 3; viewer 1 in context 1 with a pool of 1 (two choices)
PAIR = Pair(
    "by hand", 0.5, np.array([0, 1]), np.array([4, 2]), np.array([2, 1]), {"click": CLICK, "completion": CLICK / 2},
    np.zeros((2, 4, 1)),
)  # fmt: skip


def test_the_truth_of_a_pair_by_hand() -> None:
    # target: 0.5 * 0.75 + 0.5 * (1 / 3) and 0.5 * 0.4 + 0.5 * 0.4; incumbent: 0.5 * 0.5 + 0.5 / 3 and 0.5 * 0.2 + 0.5 * 0.4
    target, incumbent = (0.375 + 1 / 6 + 0.4) / 2, (0.25 + 1 / 6 + 0.3) / 2
    assert PAIR.truth("click") == pytest.approx((target, incumbent))
    assert PAIR.truth("completion") == pytest.approx((target / 2, incumbent / 2))


def test_the_twin_of_equal_worth_and_the_one_that_chooses_alike_differ_by_nothing() -> None:
    for twin in (PAIR.null(), PAIR.same()):
        target, incumbent = twin.truth("click")
        assert target == pytest.approx(incumbent)
    assert (PAIR.null().pick == PAIR.pick).all()


def test_a_log_shows_and_rewards_as_the_pair_says() -> None:
    log = played(PAIR, np.random.default_rng(1), viewers=200_000, predicted=False)
    for reward, places in log.places.items():
        assert places.reward.mean() == pytest.approx(PAIR.truth(reward)[1], abs=0.005)
        assert ips(places).difference.value == pytest.approx(np.subtract(*PAIR.truth(reward)), abs=0.01)
    assert (log.places["completion"].reward <= log.places["click"].reward).all()


def test_a_viewers_clicks_go_together() -> None:
    many = Pair(
        "one viewer", 0.5, np.zeros(50, np.int64), np.full(50, 2), np.ones(50, np.int64),
        {"click": np.full((50, 2), 0.3), "completion": np.full((50, 2), 0.1)}, np.zeros((50, 2, 1)),
    )  # fmt: skip
    places = played(many, np.random.default_rng(2), viewers=2_000, predicted=False).places["click"]
    by_viewer = places.by_viewer(places.reward)
    assert by_viewer.mean() == pytest.approx(15.0, abs=0.6)
    assert by_viewer.var() > 4 * 50 * 0.3 * 0.7


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_changes_the_propensities_and_what_the_incumbent_is_believed_to_do(fault: str) -> None:
    log = played(replace(PAIR, epsilon=0.4), np.random.default_rng(3), viewers=100, predicted=False)
    wrong = broken(log, fault, np.random.default_rng(4))["click"]
    assert (wrong.propensity != log.places["click"].propensity).mean() > 0.1
    assert wrong.incumbent.tolist() == wrong.propensity.tolist()


def test_the_worth_of_an_explored_place_is_that_it_is_reached_and_looked_at_and_clicked_on() -> None:
    config = WorldConfig(viewers=20, hosts=40, creators=20, items=60, position_bias=0.7)
    seen = Seen(World(config), warm_up_h=2.0, snapshots=1)
    found = [one for moment in seen.moments if (one := explored(moment, "popularity"))]
    assert found
    for _, choices, factor in found:
        assert len(set(choices.tolist())) == len(choices) <= ARRANGE.pool + 1
        # no page is left after a click in this world
        assert config.change.page_left_after_click == 0.0
        assert factor == pytest.approx(seen_probability(PLACES - 1, 0.7))
