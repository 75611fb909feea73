"""The recall benchmark's data and its exact search, and a small run of the whole."""

import numpy as np
import pytest

from benchmarks.published import publish_to_found
from benchmarks.recall import exact, measured
from benchmarks.recall_data import drifted, mixture
from settings import Settings


def test_embeddings_have_length_one_and_gather_around_their_centres() -> None:
    shape = mixture(np.random.default_rng(1))
    points = shape.points(np.random.default_rng(2), 2_000)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-5)
    near = (points @ shape.centres.T).max(axis=1)
    assert np.median(near) == pytest.approx(1 / np.hypot(1.0, 0.7), abs=0.03)  # a centre of length 1, 0.7 across


def test_the_first_cluster_is_a_thousand_to_the_power_0_6_times_the_last() -> None:
    shares = mixture(np.random.default_rng(1)).shares
    assert shares[0] / shares[-1] == pytest.approx(63.1, abs=0.1)


def test_one_seed_gives_one_load() -> None:
    one, other = (mixture(np.random.default_rng(4)).points(np.random.default_rng(5), 100) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_an_increment_moves_every_embedding_a_little() -> None:
    shape = mixture(np.random.default_rng(1))
    before = shape.points(np.random.default_rng(2), 500)
    after = before.copy()
    drifted(np.random.default_rng(3), after)
    along = (before * after).sum(axis=1)
    assert 0.9 < np.median(along) < 0.9999
    assert along.min() > 0.8


def test_exact_search_finds_what_a_full_sort_finds() -> None:
    rng = np.random.default_rng(6)
    matrix, queries = rng.standard_normal((2_000, 64), np.float32), rng.standard_normal((3, 64), np.float32)
    rows, wall, cpu = exact(matrix, queries)
    np.testing.assert_array_equal(rows, np.argsort(-(queries @ matrix.T), axis=1)[:, :500])
    assert len(wall) == len(cpu) == 3


def test_a_small_run_finds_what_it_must() -> None:
    said: list[str] = []
    result = measured(20_000, 7, said.append, asked=30)
    bars = {held.name: held for held in result.bars}
    assert bars["recall_at_500"].holds
    assert bars["live_recall_at_500"].holds
    assert bars["audio_recall_at_500"].holds
    assert {name for name, value in result.figures.items() if value is None or not np.isfinite(value)} == set()
    assert result.figures["pss_mb"] <= result.figures["rss_mb"]  # type: ignore[operator]


@pytest.mark.parts
def test_a_publication_is_found_as_nearest_within_seconds_on_real_parts() -> None:
    figures = publish_to_found(Settings(), 7, print, probes=3)
    assert 0.0 < figures["publish_to_found_p50_ms"] <= figures["publish_to_found_max_ms"] < 60_000.0  # type: ignore[operator]
