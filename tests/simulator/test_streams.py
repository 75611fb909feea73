"""Draws by counting: one formula for one and for many, uniform, independent, and deaf to what others drew."""

import numpy as np
from scipy import stats

from simulator.streams import number_of, stream, uniform, uniforms


def test_many_at_once_are_the_same_draws_as_one_by_one() -> None:
    entities = np.array([0, 1, 17, 2**32 - 1], dtype=np.int64)
    assert uniforms(7, "clicks", entities, 3, 5).tolist() == [uniform(7, "clicks", int(one), 3, 5) for one in entities]


def test_draws_of_neighbouring_entities_and_occasions_are_uniform_and_uncorrelated() -> None:
    grid = np.array([uniforms(1, "looks", np.arange(400), occasion) for occasion in range(100)])
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 0.001
    for lag in (grid[1:] * grid[:-1], grid[:, 1:] * grid[:, :-1]):
        assert abs(lag.mean() - 0.25) < 0.006  # 0.22 / sqrt(40000) is 0.0011


def test_seed_component_and_order_of_numbers_all_matter() -> None:
    drawn = {
        uniform(7, "looks", 1, 2),
        uniform(8, "looks", 1, 2),
        uniform(7, "clicks", 1, 2),
        uniform(7, "looks", 2, 1),
    }
    assert len(drawn) == 4


def test_a_stream_is_that_of_its_arguments_whatever_was_drawn_before() -> None:
    stream(7, "rooms", 1).random(100)
    assert stream(7, "rooms", 2).random() == stream(7, "rooms", 2).random()
    assert stream(7, "rooms", 2).random() != stream(7, "rooms", 3).random()


def test_a_name_has_the_same_number_in_every_process() -> None:
    assert number_of("123456789") == 0xCBF43926  # the check value of CRC-32
