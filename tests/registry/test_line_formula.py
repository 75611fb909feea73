"""An increment is trained under the formula of its line's release."""

from pathlib import Path

import pytest

from registry.line_formula import formula_of
from registry.manifest import Manifest, point_live, write_manifest

OBJECTIVES = ("click", "completion", "like")
USUAL = {"click": 1.0, "completion": 1.0, "like": 1.0}


def publish(releases: Path, line: str, version: int, formula: dict[str, float]) -> None:
    made = Manifest(
        line=line,
        version=version,
        created_at="",
        objectives=OBJECTIVES,
        formula=formula,
        tables={},
        metrics={},
        dials={},
    )
    (releases / made.name).mkdir(parents=True)
    write_manifest(releases / made.name, made)


def test_a_line_in_traffic_hands_its_own_formula_on(tmp_path: Path) -> None:
    publish(tmp_path, "demo", 7, USUAL)
    publish(tmp_path, "demo-likes", 7, {"like": 3.0})
    publish(tmp_path, "demo-likes", 9, {"like": 4.0})
    point_live(tmp_path, {"stable": "demo-likes-7"})
    assert formula_of(tmp_path, "demo-likes") == {"like": 3.0}
    assert formula_of(tmp_path, "demo") is None
    point_live(tmp_path, {"stable": "demo-7", "canary": "demo-likes-9"})
    assert formula_of(tmp_path, "demo-likes") == {"like": 4.0}


def test_a_line_that_is_in_no_traffic_hands_on_that_of_its_newest_release(tmp_path: Path) -> None:
    for version, weight in ((2, 2.0), (10, 10.0)):
        publish(tmp_path, "demo-likes", version, {"like": weight})
    publish(tmp_path, "demo-likes-more", 11, {"like": 11.0})
    (tmp_path / "demo-likes-12").mkdir()
    assert formula_of(tmp_path, "demo-likes") == {"like": 10.0}


@pytest.mark.parametrize("line", ["demo", "new"])
def test_the_usual_formula_is_left_to_the_objectives_of_the_day(tmp_path: Path, line: str) -> None:
    publish(tmp_path / "releases", "demo", 1, USUAL)
    assert formula_of(tmp_path / "releases", line) is None
    assert formula_of(tmp_path / "none", line) is None
