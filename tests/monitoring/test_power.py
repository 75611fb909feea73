"""Power and planning against statsmodels and hand-made numbers."""

import pytest
from statsmodels.stats.power import NormalIndPower

from monitoring.errors import BadPlan
from monitoring.power import detectable, planned_variance, reach, relative_variance, viewers_needed
from monitoring.stats import RatioSums


def test_a_detectable_effect_measures_2_80_standard_errors() -> None:
    assert reach() == pytest.approx(2.8016, abs=1e-4)
    assert detectable(0.01) == pytest.approx(0.028016, abs=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_viewers_needed_are_those_of_statsmodels(share: float) -> None:
    # A variation of 1.04 (square 1.08) and a lift of 5 % are an effect of 0.05 / 1.04 standard deviations.
    theirs = NormalIndPower().solve_power(
        0.05 / 1.08**0.5, alpha=0.05, power=0.8, ratio=(1 - share) / share, alternative="two-sided"
    )
    assert viewers_needed(1.08, effect=0.05, share=share) == pytest.approx(theirs, abs=1)


def test_the_variance_to_plan_with_by_hand() -> None:
    pre = RatioSums.of([1, 3], [10, 10])
    # rate 0.2, variance of one viewer (2 / 100): squared variation 0.5
    assert relative_variance(pre) == pytest.approx(0.5)
    assert planned_variance(pre, canary=50, control=200) == pytest.approx(0.5 / 50 + 0.5 / 200)


def test_nothing_can_be_planned_from_one_viewer() -> None:
    with pytest.raises(BadPlan, match="1 viewers for arms of 50 and 200"):
        planned_variance(RatioSums.of([1], [10]), canary=50, control=200)


def test_no_effect_needs_no_number_of_viewers() -> None:
    with pytest.raises(BadPlan, match=r"effect 0 at share 0\.05"):
        viewers_needed(1.0, effect=0.0, share=0.05)
