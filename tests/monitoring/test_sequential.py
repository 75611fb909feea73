"""Tests at many looks: published bounds, and walks that must not cross them too often."""

import math

import numpy as np
import pytest

from monitoring.errors import BadPlan
from monitoring.sequential import always_valid_p, always_valid_z, lan_demets, tuning

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_the_bounds_of_o_brien_and_fleming_are_the_published_ones() -> None:
    # Reboussin, DeMets, Kim and Lan (2000), table of five equally spaced looks, two-sided 5 %
    assert lan_demets(FIFTHS, 0.05) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


def test_the_bounds_of_pocock_are_the_published_ones() -> None:
    assert lan_demets(FIFTHS, 0.05, spend="pocock") == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4)


def test_one_look_at_the_end_is_the_plain_test() -> None:
    assert lan_demets([1.0], 0.05) == pytest.approx([1.959964], abs=1e-5)


def test_uneven_looks_spend_five_per_cent_of_walks_in_all() -> None:
    times = np.array([0.1, 0.35, 0.4, 0.9, 1.0])
    rng = np.random.default_rng(1)
    walks = np.cumsum(rng.normal(size=(40_000, 5)) * np.sqrt(np.diff(times, prepend=0)), axis=1) / np.sqrt(times)
    crossed = (np.abs(walks) > lan_demets(times.tolist(), 0.05)).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=0.004)  # 3.7 standard errors


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.5, 0.501], [0.0, 1.0], [0.5, 1.2], [0.8, 0.4]])
def test_fractions_that_do_not_rise_to_one_are_refused(fractions: list[float]) -> None:
    with pytest.raises(BadPlan, match="must rise within"):
        lan_demets(fractions, 0.05)


def test_an_unknown_spending_is_refused_by_name() -> None:
    with pytest.raises(BadPlan, match="'linear' is not known; allowed are 'obf', 'pocock'"):
        lan_demets([1.0], 0.05, spend="linear")


def walks_below(alpha: float, *, planned_variance: float, looks: np.ndarray) -> float:
    """Share of walks without drift that ever look proved negative, at these looks (information, end = 1)."""
    rng = np.random.default_rng(2)
    steps = rng.normal(size=(20_000, len(looks))) * np.sqrt(np.diff(looks, prepend=0))
    z = np.cumsum(steps, axis=1) / np.sqrt(looks)
    edges = [always_valid_z(alpha, se=1 / math.sqrt(t), planned_variance=planned_variance) for t in looks]
    return float((z < -np.array(edges)).any(1).mean())


@pytest.mark.parametrize("planned_variance", [0.2, 1.0, 5.0])
def test_a_walk_without_drift_crosses_the_always_valid_bound_less_often_than_alpha(planned_variance: float) -> None:
    assert walks_below(0.05, planned_variance=planned_variance, looks=np.linspace(0.005, 1, 200)) <= 0.05


def test_the_plain_bound_at_as_many_looks_is_crossed_far_more_often() -> None:
    rng = np.random.default_rng(2)
    looks = np.linspace(0.005, 1, 200)
    z = np.cumsum(rng.normal(size=(20_000, 200)) * math.sqrt(0.005), axis=1) / np.sqrt(looks)
    assert (z < -1.645).any(1).mean() > 0.2


def test_the_bound_by_hand() -> None:
    # clock = tuning * 1 / 1; one-sided 5 %: -2 ln 0.1 = 4.60517, + ln 5.60517 = 1.72369
    clock = 4.60517 + 1.72369
    assert tuning(0.05) == pytest.approx(clock, abs=1e-4)
    by_hand = math.sqrt(2 * (clock + 1) / clock * math.log(1 + math.sqrt(clock + 1) / 0.1))
    assert always_valid_z(0.05, se=1.0, planned_variance=1.0) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.05, 0.0167])
def test_at_the_bound_p_is_alpha(alpha: float) -> None:
    edge = always_valid_z(alpha, se=0.03, planned_variance=0.0004)
    assert always_valid_p(-edge, alpha=alpha, se=0.03, planned_variance=0.0004) == pytest.approx(alpha)


def test_no_harm_has_p_one_and_endless_harm_p_zero() -> None:
    assert always_valid_p(0.1, alpha=0.05, se=1.0, planned_variance=1.0) == 1.0
    assert always_valid_p(-100.0, alpha=0.05, se=1.0, planned_variance=1.0) == 0.0


def test_the_bound_is_about_narrowest_where_it_was_planned_to_be() -> None:
    widths = {scale: always_valid_z(0.05, se=1.0, planned_variance=scale) for scale in (0.1, 1.0, 10.0)}
    assert widths[1.0] < min(widths[0.1], widths[10.0])
