"""The arithmetic and the turns of the ranking benchmark, and the reference ranker's promises."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import reference_ranker
from benchmarks.rank import Way, _result, loaded_signature, session_callable, take_turns


def way(name: str, *milliseconds: float, cpu_ms: float = 1.0) -> Way:
    return Way(name, lambda: None, walls=[ms / 1e3 for ms in milliseconds], cpu_s=cpu_ms * len(milliseconds) / 1e3)


def test_ways_are_warmed_and_then_asked_block_by_block_in_turns() -> None:
    asked: list[str] = []
    ways = [Way("a", lambda: asked.append("a")), Way("b", lambda: asked.append("b"))]
    take_turns(ways, warm=1, blocks=2, calls=2)
    assert "".join(asked) == "ab" + "aabb" + "aabb"
    assert [len(one.walls) for one in ways] == [4, 4]


def test_a_way_is_told_by_its_median_its_99th_and_its_mean_cpu() -> None:
    assert way("x", 3.0, 1.0, 2.0, cpu_ms=1.5).figures() == pytest.approx(
        {"x_p50_ms": 2.0, "x_p99_ms": 3.0, "x_cpu_ms": 1.5}
    )


@pytest.mark.parametrize(("over", "ratio", "holds"), [(1.5, 1.5, True), (2.0, 2.0, True), (2.5, 2.5, False)])
def test_grpc_is_held_against_the_same_model_in_process(over: float, ratio: float, holds: bool) -> None:
    result = _result([way("m_in_process", 1.0, cpu_ms=1.0), way("m_grpc", over, cpu_ms=3.0)], 7)
    assert result.figures["m_p50_over_in_process"] == pytest.approx(ratio)
    assert result.figures["m_cpu_over_in_process"] == pytest.approx(3.0)
    assert [one.holds for one in result.bars] == [holds]
    assert set(result.baseline) == {"m_in_process_p50_ms", "m_in_process_p99_ms", "m_in_process_cpu_ms"}


def test_the_reference_ranker_is_the_same_for_the_same_seed_alone(tmp_path: Path) -> None:
    inputs = reference_ranker.inputs(np.random.default_rng(1), 7)
    assert {name: (str(array.dtype), array.shape) for name, array in inputs.items()} == {
        "item_ids": ("int32", (7, 4)), "item_num": ("float32", (7, 100)),
    }  # fmt: skip
    answers = []
    for place, seed in enumerate((3, 3, 4)):
        reference_ranker.export(tmp_path / str(place), seed)
        answers.append(session_callable(tmp_path / str(place), "rank", inputs)())
        np.testing.assert_allclose(loaded_signature(tmp_path / str(place), "rank", inputs)(), answers[-1], rtol=1e-5)
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-3
    assert answers[0].shape == (7, 6)
    assert ((answers[0] > 0) & (answers[0] < 1)).all()
    assert answers[0].std(axis=0).min() > 1e-3
