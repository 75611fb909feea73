"""A formula's canary is a release of the same models under a line of its own."""

from pathlib import Path

import pytest

from registry.manifest import read_manifest
from release.errors import BadCandidate
from release.variant import make_variant
from tests.release.place import Place

LIKES = {"click": 1.0, "like": 5.0}


@pytest.fixture
def published(place: Place) -> Path:
    place.deploy(place.candidate(1))
    return place.releases / "demo-1"


def test_a_variant_has_its_own_line_and_formula_and_the_same_models(
    place: Place, published: Path, tmp_path: Path
) -> None:
    made = make_variant(published, line="demo-likes", formula=LIKES, into=tmp_path / "candidates")
    assert (read_manifest(made).name, read_manifest(made).formula) == ("demo-likes-1", LIKES)
    assert read_manifest(published).formula != LIKES
    before = sorted((place.models / "ranker").iterdir())
    assert place.deploy(made, label="canary") == "demo-likes-1"
    assert (place.live("stable"), place.live("canary")) == ("demo-1", "demo-likes-1")
    assert place.server.under("stable") == place.server.under("canary") == [1, 1]
    assert sorted((place.models / "ranker").iterdir()) == before


def test_making_it_again_is_harmless_and_another_under_its_name_is_refused(published: Path, tmp_path: Path) -> None:
    made = make_variant(published, line="demo-likes", formula=LIKES, into=tmp_path)
    assert make_variant(published, line="demo-likes", formula=LIKES, into=tmp_path) == made
    with pytest.raises(BadCandidate, match="is there already and is not this variant"):
        make_variant(published, line="demo-likes", formula={"like": 1.0}, into=tmp_path)


@pytest.mark.parametrize(
    ("line", "formula", "said"),
    [
        ("demo", LIKES, "needs a line of its own; given is demo"),
        ("other", {"click": 1.0, "completion": 1.0, "like": 1.0}, "the same formula"),
        ("other", {"gifts": 1.0}, "names 'gifts', which is no objective"),
    ],
)
def test_a_variant_that_changes_nothing_or_cannot_score_is_refused(
    published: Path, tmp_path: Path, line: str, formula: dict[str, float], said: str
) -> None:
    with pytest.raises(BadCandidate, match=said):
        make_variant(published, line=line, formula=formula, into=tmp_path)
