"""What a benchmark prints: one JSON object as the last line; bars hold only for figures that were measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHES
from benchmarks.feed import percentile
from benchmarks.report import write_report
from benchmarks.result import Result, bar


def test_a_figure_that_was_not_measured_does_not_hold_its_bar() -> None:
    figures = {"feed_p99_ms": 20.0, "lost": None}
    assert bar(figures, "feed_p99_ms", "<", 150.0).holds
    assert not bar(figures, "feed_p99_ms", "<", 20.0).holds
    assert bar(figures, "feed_p99_ms", "<=", 20.0).holds
    assert not bar(figures, "lost", ">", -1e9).holds


def test_the_line_is_one_json_object_with_the_agreed_keys() -> None:
    figures: dict[str, float | None] = {"x_ms": 1.0, "y": None}
    result = Result(bench="b", figures=figures, baseline={"z_ms": 2.0}, bars=(bar(figures, "y", ">", 0),), seed=7)
    body = json.loads(result.line())
    assert set(body) == {"bench", "figures", "baseline", "bars", "seed", "version"}
    assert body["figures"] == {"x_ms": 1.0, "y": None}
    assert body["bars"] == [{"name": "y", "value": None, "op": ">", "bound": 0, "holds": False}]


def test_the_report_says_what_does_not_hold(tmp_path: Path) -> None:
    figures: dict[str, float | None] = {"y": None}
    write_report(
        [Result(bench="b<", figures=figures, baseline={}, bars=(bar(figures, "y", ">", 0),), seed=1)], tmp_path / "r"
    )
    page = (tmp_path / "r").read_text()
    assert "does not hold" in page
    assert "not measured" in page
    assert "b<" not in page


@pytest.mark.parametrize(
    ("values", "share", "want"), [([], 0.5, None), ([3.0], 0.99, 3.0), (list(range(100)), 0.99, 99)]
)
def test_percentiles_by_nearest_rank(values: list[float], share: float, want: float | None) -> None:
    assert percentile(values, share) == want


def test_a_benchmark_without_its_data_prints_nulls_and_no_bar_holds(tmp_path: Path) -> None:
    from settings import Settings

    command = [sys.executable, "-m", "cli", "bench", "movielens", "--json"]
    environment = Settings(var=tmp_path).environment() | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    body = json.loads(done.stdout.splitlines()[-1])
    assert all(value is None for value in body["figures"].values())
    assert body["bars"]
    assert not any(held["holds"] for held in body["bars"])
    assert "make movielens" in done.stderr


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    done = subprocess.run([sys.executable, "-m", "cli", "bench", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"unknown benchmark 'nope'; allowed are {', '.join(BENCHES)}"
