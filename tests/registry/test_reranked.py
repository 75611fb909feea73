"""Whose order is asked for: the canary that runs, else the newest of a line that is not in traffic."""

from pathlib import Path

import pytest

from registry.errors import BadReranked
from registry.experiment import Experiments, Record, State
from registry.manifest import MANIFEST, point_live
from registry.reranked import line_in_question, month_days, to_rerank
from tests.registry.test_experiment import experiment


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    (tmp_path / "releases").mkdir()
    point_live(tmp_path / "releases", {"stable": "old-1"})
    return tmp_path / "releases"


def put(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / MANIFEST).touch()


def names(releases: Path, line: str) -> tuple[str, str] | None:
    found = to_rerank(releases, releases.parent / "candidates", line)
    return None if found is None else (found[0].name, found[1].name)


def run(releases: Path, state: State) -> None:
    Experiments(releases).change(
        lambda _: Record(experiment=experiment(state=state)), who="ada", at=1.0, what="a", why="b"
    )


def test_a_canary_that_runs_is_taken_as_it_is_in_traffic_now(releases: Path) -> None:
    run(releases, State.CANARY)
    assert names(releases, "new") == ("new-2", "old-1")
    point_live(releases, {"stable": "old-4", "canary": "new-5"})  # both lines went on learning
    assert names(releases, "new") == ("new-5", "old-4")


def test_an_audit_is_about_the_canary_that_runs_else_about_the_platforms_line(releases: Path) -> None:
    assert line_in_question(releases, "demo") == "demo"
    run(releases, State.RAMP)
    assert line_in_question(releases, "demo") == "new"
    run(releases, State.STOPPED)
    assert line_in_question(releases, "demo") == "demo"


def test_what_waits_of_a_line_is_taken_by_its_number(releases: Path) -> None:
    put(releases / "new-9", releases.parent / "candidates" / "new-10", releases.parent / "candidates" / "new-b-11")
    assert names(releases, "new") == ("new-10", "old-1")


@pytest.mark.parametrize("line", ["old", "nobody"])
def test_the_line_in_traffic_and_a_line_without_releases_have_no_candidate(releases: Path, line: str) -> None:
    put(releases / "old-1", releases / "old-2")
    assert names(releases, line) is None


def test_before_the_first_release_nothing_is_held_against_anything(tmp_path: Path) -> None:
    put(tmp_path / "candidates" / "new-1")
    assert names(tmp_path / "releases", "new") is None


def test_a_month_is_a_month() -> None:
    assert [one.isoformat() for one in month_days("2027-12")] == ["2027-12-01", "2028-01-01"]
    with pytest.raises(BadReranked, match="'12-2027' is no month"):
        month_days("12-2027")
