"""The audit's benchmark: its sums are those of viewers, and the rules beside it are what they are called."""

import numpy as np
import pytest

from benchmarks import audit_exposure as exposure
from benchmarks.audit import _raw_rules, judged
from benchmarks.audit_world import EXACT, HABITS, Crowd, beside, sizes
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd.of(np.random.default_rng(1), HABITS["strong"])


def test_languages_reach_from_a_hundred_viewers_to_four_hundred_thousand() -> None:
    assert len(sizes()) == 12 and min(sizes().values()) == 100 and max(sizes().values()) == 400_000


def test_sums_drawn_at_once_are_those_of_viewers_drawn_one_by_one(crowd: Crowd) -> None:
    """300 draws of a size on either side of the switch: rates with the same mean and the same spread."""
    rng = np.random.default_rng(2)
    each, whole = ([crowd.draw(rng, EXACT + more) for _ in range(300)] for more in (0, 1))
    for found in (each, whole):
        assert all(one.possible for one in found)
    means = [np.mean([one.ratio for one in found]) for found in (each, whole)]
    spreads = [np.std([one.ratio for one in found]) for found in (each, whole)]
    assert means[0] == pytest.approx(means[1], rel=0.01)
    assert spreads[0] == pytest.approx(spreads[1], rel=0.2)
    assert spreads[1] == pytest.approx(np.sqrt(np.mean([one.variance for one in whole])), rel=0.15)


def test_a_thinned_crowd_clicks_as_much_less_as_said(crowd: Crowd) -> None:
    rng = np.random.default_rng(3)
    less = crowd.thinned(rng, 0.7)
    ratio = less.draw(rng, 4_000_000).ratio / crowd.draw(rng, 4_000_000).ratio
    assert ratio == pytest.approx(0.7, rel=0.01)


def test_two_sides_sums_are_those_of_their_viewers() -> None:
    ours, theirs, none = np.array([[1.0, 2.0], [4.0, 5.0]]), np.array([[3.0, 0.0], [7.0, 1.0]]), np.zeros(2)
    found = beside(RatioSums.of(*ours), RatioSums.of(*theirs))
    wanted = Moments.of(np.r_[ours[0], none], np.r_[ours[1], none], np.r_[none, theirs[0]], np.r_[none, theirs[1]])
    assert found == wanted


def test_the_rules_beside_the_audit() -> None:
    def sums(**rates: float) -> dict[str, RatioSums]:
        return {name: RatioSums(1e4, 1e5 * r, 1e5, 1e6 * r * r + 1e4, 1e6, 1e6 * r) for name, r in rates.items()}

    assert dict(_raw_rules(sums(a=0.30, b=0.25))) == {"four_fifths": False, "uncorrected": True}
    assert dict(_raw_rules(sums(a=0.30, b=0.23))) == {"four_fifths": True, "uncorrected": True}
    assert dict(_raw_rules(sums(a=0.30, b=0.30))) == {"four_fifths": False, "uncorrected": False}


def test_the_bench_judges_with_the_audit() -> None:
    fair = {"a": RatioSums.of(*_viewers(0.3)), "b": RatioSums.of(*_viewers(0.3))}
    assert judged({"ctr": fair}, None).outcome is Outcome.PASS
    assert judged({"ctr": fair | {"b": RatioSums.of(*_viewers(0.15))}}, None).outcome is Outcome.FAIL


def _viewers(rate: float) -> tuple[np.ndarray, np.ndarray]:
    return np.tile([0.0, 20 * rate], 2_000), np.full(4_000, 10.0)


@pytest.mark.parametrize("name", ["corrected", "worse30_from_over"])
def test_a_crowd_of_viewers_has_the_exposure_that_the_case_says(name: str) -> None:
    incumbent, candidate = exposure.CASES[name]
    crowd = exposure.drawn(np.random.default_rng(4), (incumbent, candidate)).sum(0)
    theirs, ours, merit = crowd[:3], crowd[3:6], crowd[6:]
    shares = [side[0] / side.sum() for side in (theirs, ours, merit)]
    assert shares == pytest.approx([incumbent * 0.15, candidate * 0.15, 0.15], rel=0.02)


def test_months_of_exposure_are_judged_with_the_audit_and_beside_it() -> None:
    found = {
        name: exposure.months(np.random.default_rng(5), exposure.CASES[name], 3) for name in ("corrected", "worse30")
    }
    assert dict(found["corrected"]) == {"change": 0, "difference": 3, "level": 0, "blocked": 0}
    assert dict(found["worse30"]) == {"change": 3, "difference": 3, "level": 3, "blocked": 3}
