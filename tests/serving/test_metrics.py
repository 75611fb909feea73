"""Metrics that are told of observations late: none is missing where somebody looks, whatever threads observed it."""

import threading

import pytest

from serving.metrics import AT_ONCE, Metrics


def said(metrics: Metrics, name: str) -> float:
    lines = metrics.text().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_what_was_observed_is_told_when_somebody_looks() -> None:
    metrics = Metrics()
    metrics.made(0.25)
    metrics.ranked(500)
    with metrics.stage("rank"):
        pass
    assert said(metrics, "livefeed_feed_seconds_sum") == 0.25
    assert said(metrics, "livefeed_feed_candidates_sum") == 500.0
    assert said(metrics, 'livefeed_feed_stage_seconds_count{stage="rank"}') == 1.0


def test_a_block_that_fails_is_timed_too() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.stage("log"):
        _ = 1 / 0
    assert said(metrics, 'livefeed_feed_stage_seconds_count{stage="log"}') == 1.0


def test_observations_do_not_pile_up_where_nobody_looks_and_none_is_lost_among_threads() -> None:
    metrics, each = Metrics(), 5 * AT_ONCE + 7

    def observe() -> None:
        for _ in range(each):
            metrics.made(1.0)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(metrics._observed._waiting) < AT_ONCE + 4
    assert said(metrics, "livefeed_feed_seconds_count") == 4 * each == said(metrics, "livefeed_feed_seconds_sum")
