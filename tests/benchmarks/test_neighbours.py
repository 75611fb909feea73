"""The neighbours benchmark's parts by hand: what counts as a later choice, and that a log with crowds is told from noise."""

import numpy as np

from benchmarks.neighbours import cost, found_in
from benchmarks.neighbours_data import WatchLog, log_of, made_log


def test_only_later_choices_of_new_items_by_viewers_with_a_history_are_looked_for() -> None:
    before = [(float(n), f"u{n % 4}", f"i{n % 8}", True) for n in range(80)]
    after = [
        (100.0, "u0", "i0", True),  # watched before
        (101.0, "u0", "i1", False),  # watched and not liked
        (102.0, "u0", "i1", True),  # was watched a second ago
        (103.0, "u0", "i2", True),  # counts
        (104.0, "new", "i3", True),  # she has no history
        (105.0, "new", "i2", True),  # counts: her choice of a second ago is one
        (106.0, "u1", "i4", True),  # counts
    ]
    late = [(200.0 + n, "u3", "i3", True) for n in range(13)]  # watched before, they only fill the last fifth
    found = found_in(log_of([*before, *after, *late]), k=5, seed=1)
    assert (int(found.positives.sum()), found.without_seed) == (3, 1)


def test_crowds_are_found_and_shuffled_crowds_are_not() -> None:
    draw = np.random.default_rng(3)
    viewer = draw.integers(100, size=4000)
    item = (viewer % 2) * 50 + draw.integers(50, size=4000)  # two crowds with 50 items each
    at, liked = np.arange(4000.0), np.ones(4000, bool)
    found = found_in(WatchLog(viewer, item, at, liked, 100, 100), k=20, seed=3)
    recall = {name: hits.sum() / found.positives.sum() for name, hits in found.hits.items()}
    assert min(recall["item_cf"], recall["mf"], recall["merged"]) > 0.6  # 20 of about 30 left in her crowd
    assert max(recall["null"], recall["popular"]) < 0.5


def test_a_made_log_is_within_its_size_and_in_time_order() -> None:
    log = made_log(5_000, 1_000, seed=1)
    assert (len(log.item), log.item.min() >= 0, log.item.max() < 1_000) == (5_000, True, True)
    assert (np.diff(log.at) >= 0).all()


def test_the_cost_of_a_small_log_is_measured_in_every_part() -> None:
    found = cost(20_000, 500, seed=1)
    assert found["lists"] > 100
    assert all(found[name] > 0 for name in ("item_cf_s", "mf_s", "cpu_s", "files_mb", "of_20_p50_ms", "of_20_p99_ms"))
