"""From a candidate with a pass to traffic and back, on folders and the real model server's table."""

import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from registry.errors import NotPassed, RegistryUnavailable
from registry.manifest import LIVE, read_manifest
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import status
from release.errors import BadCandidate, BadLabel, Busy, CannotPublish, NotServed, UnknownRelease
from serving.models import Matrix, Tensors
from tests.release.place import Place


def test_a_candidate_that_passed_comes_into_traffic(place: Place) -> None:
    assert place.deploy(place.candidate(1)) == "demo-1"
    assert place.live() == "demo-1"
    assert place.registry.promoted == [("demo", 1)]
    assert read_manifest(place.releases / "demo-1").version == 1
    assert (place.models / "ranker" / "1" / "saved_model.pb").read_bytes() == b"ranker 1"
    assert place.said == [
        "demo-1: published", "two_tower/1 is AVAILABLE, ranker/1 is AVAILABLE", "demo-1: both models answer",
        "demo-1: answers as stable", "demo-1: in traffic as stable",
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNDECIDED])
@pytest.mark.parametrize("label", ["stable", "canary"])
def test_nothing_but_a_pass_is_deployed(place: Place, outcome: Outcome, label: str) -> None:
    candidate = place.candidate(1)
    with pytest.raises(NotPassed, match=rf"^demo-1 is not deployed: its verdict is {outcome} \(no_data\), not a pass$"):
        place.deploy(candidate, Verdict(outcome=outcome, reasons=(Reason.NO_DATA,)), label=label)
    assert place.live(label) is None
    assert not place.models.exists()


def test_a_label_that_traffic_does_not_know_is_refused_before_anything_is_done(place: Place) -> None:
    with pytest.raises(BadLabel, match=r"^label 'beta' is not allowed; allowed are stable, canary$"):
        place.deploy(place.candidate(1), label="beta")
    assert not place.models.exists()


def test_a_version_that_does_not_load_leaves_the_old_release_and_says_why(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.server.broken = [2]
    with pytest.raises(NotServed, match=r"does not serve version 2 after 0\.3 s: two_tower/2 END: .*no graph in it$"):
        place.deploy(place.candidate(2))
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])


def test_a_model_server_that_is_not_there_leaves_the_old_release(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.server.down = True
    with pytest.raises(NotServed, match="two_tower/2 is not listed, ranker/2 is not listed"):
        place.deploy(place.candidate(2))
    assert place.live() == "demo-1"


def test_a_ranker_that_answers_another_shape_is_not_pointed_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_objectives(version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        return np.zeros((len(inputs["item_key"]), 2), np.float32)

    monkeypatch.setattr(place.server, "rank", two_objectives)
    with pytest.raises(NotServed, match=r"answers scores of shape \(3, 2\); its manifest and index say \(3, 3\)"):
        place.deploy(place.candidate(1))
    assert (place.live(), place.server.under("stable")) == (None, ["none", "none"])


def test_a_registry_that_is_down_puts_the_old_release_back_and_deploying_again_goes_on(place: Place) -> None:
    place.deploy(place.candidate(1))
    candidate = place.candidate(2)
    place.registry.down = True
    with pytest.raises(RegistryUnavailable):
        place.deploy(candidate)
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])
    place.registry.down = False
    assert place.deploy(candidate) == "demo-2"
    assert place.registry.promoted == [("demo", 1), ("demo", 2)]


def test_rolling_back_does_not_wait_for_the_registry(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2))
    place.registry.down = True
    with pytest.raises(RegistryUnavailable):
        place.rollback("demo-1")
    assert (place.live(), place.server.under("stable")) == ("demo-1", [1, 1])


def test_another_candidate_under_a_published_name_is_refused(place: Place) -> None:
    candidate = place.candidate(1)
    place.deploy(candidate)
    body = json.loads((candidate / "manifest.json").read_text())
    (candidate / "manifest.json").write_text(json.dumps(body | {"created_at": "2027-01-16T00:00:00+00:00"}))
    with pytest.raises(BadCandidate, match="release demo-1 is published already and is not this candidate"):
        place.deploy(candidate)


@pytest.mark.parametrize("missing", ["encoder.json", "index.npz", "manifest.json", "models/ranker/saved_model.pb"])
def test_a_candidate_that_is_not_whole_publishes_nothing(place: Place, missing: str) -> None:
    candidate = place.candidate(1)
    (candidate / missing).unlink()
    with pytest.raises(BadCandidate, match=missing.split("/")[-1]):
        place.deploy(candidate)
    assert not place.models.exists()
    assert status(place.releases) == []


def test_a_copy_that_breaks_off_is_never_seen_and_is_made_whole_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = place.candidate(1)
    whole = shutil.copytree

    def breaks(source: Path, target: Path, *more: object) -> Path:
        if "ranker" in str(source):
            Path(target).mkdir()
            (Path(target) / "saved_model.pb").write_bytes(b"half")
            raise OSError("disk full")
        return Path(whole(source, target, *more))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", breaks)
        with pytest.raises(CannotPublish, match=r"ranker could not be copied to .*/models/ranker/1: disk full$"):
            place.deploy(candidate)
    assert [one.name for one in (place.models / "two_tower").iterdir()] == ["1"]
    assert list((place.models / "ranker").iterdir()) == []
    assert place.live() is None
    assert place.deploy(candidate) == "demo-1"
    assert (place.models / "ranker" / "1" / "saved_model.pb").read_bytes() == b"ranker 1"


def test_rolling_back_points_at_the_earlier_release(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2))
    place.rollback("demo-1")
    assert place.live() == "demo-1"
    assert place.server.under("stable") == [1, 1]
    assert place.registry.promoted[-1] == ("demo", 1)
    assert [(one.name, one.labels) for one in status(place.releases)] == [("demo-2", ()), ("demo-1", ("stable",))]
    with pytest.raises(UnknownRelease, match=r"^release 'demo-9' is not published; allowed are demo-2, demo-1$"):
        place.rollback("demo-9")


def test_a_release_that_the_server_let_go_is_loaded_again_to_roll_back(place: Place) -> None:
    for version in (1, 2, 3):
        place.deploy(place.candidate(version))
    assert place.server.available() == [2, 3]
    place.rollback("demo-1")
    assert (place.server.under("stable"), place.server.available()) == ([1, 1], [1, 3])


def test_two_deployments_at_once_are_not_allowed(place: Place) -> None:
    place.deploy(place.candidate(1))
    with (place.releases / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            place.deploy(place.candidate(2))
    assert place.live() == "demo-1"


def test_live_json_is_never_seen_in_part(place: Place) -> None:
    place.deploy(place.candidate(1))
    before = (place.releases / LIVE).stat().st_ino
    place.deploy(place.candidate(2))
    assert (place.releases / LIVE).stat().st_ino != before
