"""Rates by group, by hand."""

import pytest

from monitoring.rates import rates_by


def test_clicks_by_source_count_viewers_once_each() -> None:
    sources = ["live", "live", "live", "two_tower", "two_tower"]
    live, two_tower = rates_by(sources, ["a", "a", "b", "a", "c"], [1, 0, 1, 0, 0])
    assert (live.group, live.impressions, live.viewers) == ("live", 3, 2)
    assert live.rate == pytest.approx(2 / 3)
    assert live.low < live.rate < live.high
    assert (two_tower.rate, two_tower.low, two_tower.high) == (0.0, 0.0, 0.0)
