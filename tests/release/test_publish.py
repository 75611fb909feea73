"""What publication adds to a candidate: the index that is searched, and the requests that warm the models up."""

import os
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from registry.manifest import ENCODER, INDEX, INDEX_FOLDER, checksums, read_manifest, write_manifest
from release.errors import BadCandidate, CannotPublish
from release.publish import publish
from serving.index_file import IndexDials, open_index, read_card
from serving.release_store import load_release
from tests.release.place import Place


def test_a_published_release_is_searched_in_the_index_made_for_it(place: Place) -> None:
    candidate = place.candidate(1)
    publish(candidate, releases=place.releases, models=place.models)
    folder = place.releases / "demo-1" / INDEX_FOLDER
    card = read_card(folder)
    assert (card.kind, card.rows, card.width) == ("exact", 30, 8)
    # m0, m3, m6 ... are of the category of m0: all of them as near to it as an embedding can be
    nearest = open_index(folder).search(open_index(folder).vector(0), 10).rows
    assert sorted(nearest.tolist()) == list(range(0, 30, 3))
    assert load_release(place.releases / "demo-1").index.rows == 30
    assert not (candidate / INDEX_FOLDER).exists()


def test_a_large_catalogue_is_tuned_on_the_viewers_that_the_candidate_brings(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.publish.IndexDials", lambda: IndexDials(exact_up_to=20, k=5, recall=0.9))
    candidate = place.candidate(1)
    with np.load(candidate / INDEX) as body:
        held = dict(body)
    np.savez(candidate / INDEX, **held, queries=np.eye(8, dtype=np.float32)[:4])
    publish(candidate, releases=place.releases, models=place.models)
    card = read_card(place.releases / "demo-1" / INDEX_FOLDER)
    assert (card.kind, card.queries, card.k) == ("ivf", 4, 5)
    without = place.candidate(2)
    publish(without, releases=place.releases, models=place.models)
    assert read_card(place.releases / "demo-2" / INDEX_FOLDER).queries == 30  # stand-ins, as many as there are items


def test_a_candidate_that_is_not_what_its_training_wrote_is_not_published(place: Place) -> None:
    candidate = place.candidate(1)
    manifest = read_manifest(candidate)
    write_manifest(candidate, msgspec.structs.replace(manifest, artefacts=checksums(candidate, [candidate / ENCODER])))
    publish(candidate, releases=place.releases, models=place.models)
    other = place.candidate(2)
    held = read_manifest(other)
    write_manifest(other, msgspec.structs.replace(held, artefacts=checksums(other, [other / ENCODER])))
    (other / ENCODER).write_text((other / ENCODER).read_text() + " ")
    with pytest.raises(BadCandidate, match=ENCODER):
        publish(other, releases=place.releases, models=place.models)
    assert not (place.releases / "demo-2").exists()


def test_publishing_again_changes_nothing(place: Place) -> None:
    candidate = place.candidate(1)
    publish(candidate, releases=place.releases, models=place.models)
    before = {path: path.stat().st_mtime_ns for path in place.folder.glob("[rm]*/**/*")}
    publish(candidate, releases=place.releases, models=place.models)
    assert {path: path.stat().st_mtime_ns for path in place.folder.glob("[rm]*/**/*")} == before


def test_an_index_that_cannot_be_written_publishes_no_release(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    candidate = place.candidate(1)
    with monkeypatch.context() as patch:
        patch.setattr("release.publish.write_index", full)
        with pytest.raises(CannotPublish, match=r"demo-1 could not be copied to .*/releases/demo-1: disk full$"):
            publish(candidate, releases=place.releases, models=place.models)
    assert list(place.releases.iterdir()) == []
    publish(candidate, releases=place.releases, models=place.models)
    assert (place.releases / "demo-1" / INDEX_FOLDER / "index.json").is_file()


def test_an_index_that_the_candidate_brings_is_kept(place: Place) -> None:
    first = place.candidate(1)
    publish(first, releases=place.releases, models=place.models)
    second = place.candidate(2)
    shutil.copytree(place.releases / "demo-1" / INDEX_FOLDER, second / INDEX_FOLDER)
    card = second / INDEX_FOLDER / "index.json"
    card.write_text(card.read_text().replace('"seed": 0', '"seed": 99'))
    publish(second, releases=place.releases, models=place.models)
    assert read_card(place.releases / "demo-2" / INDEX_FOLDER).seed == 99


def test_models_lie_with_their_warm_up_requests_before_they_are_seen(place: Place, tmp_path: Path) -> None:
    from tests.serving.small_models import write_models

    candidate = place.candidate(1)
    shutil.rmtree(candidate / "models")
    write_models(candidate, place.world.encoder())
    publish(candidate, releases=place.releases, models=place.models)
    for model in ("two_tower", "ranker"):
        assert (place.models / model / "1" / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0


@pytest.mark.parametrize("part", ["half", "queries"])
def test_an_index_of_which_a_part_is_missing_or_wrong_is_a_sentence_and_publishes_nothing(
    place: Place, part: str
) -> None:
    candidate = place.candidate(1)
    path = candidate / INDEX
    if part == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        with np.load(path) as body:
            np.savez(path, **body, queries=np.eye(8, dtype=np.float32))
        path.write_bytes(path.read_bytes().replace(np.eye(8, dtype=np.float32).tobytes(), bytes(256)))
    with pytest.raises(BadCandidate, match=r"item index .*index\.npz cannot be read: "):
        publish(candidate, releases=place.releases, models=place.models)
    assert not (place.releases / "demo-1").exists()


def test_a_release_is_on_the_disk_before_it_has_its_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda held: (kept.append(str(Path(f"/proc/self/fd/{held}").readlink())), fsync(held))[1]
    )
    publish(place.candidate(1), releases=place.releases, models=place.models)
    assert any(re.search(r"releases/\.draft-demo-1-\d+/index\.npz$", one) for one in kept)
    assert kept[-1] == str(place.releases)
