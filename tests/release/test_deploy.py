"""From a candidate with a pass to traffic and back, on folders and a model server in memory that reads them."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from registry.errors import NotPassed, RegistryUnavailable
from registry.manifest import LIVE, read_live, read_manifest
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy, rollback, status
from release.errors import BadCandidate, Busy, CannotPublish, NotServed, UnknownRelease
from release.model_config import versions_in, write_model_config
from serving.models import Matrix, MemoryModels, Tensors
from serving.wire import VersionStatus
from tests.serving.small_world import SmallWorld

PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))


@dataclass
class FolderServer(MemoryModels):
    """Serves the version folders it finds, unless told that a version cannot be loaded."""

    models: Path = Path()
    broken: Sequence[int] = ()

    def status(self, model: str, *, timeout_s: float = 1.0) -> list[VersionStatus]:
        return [
            VersionStatus(one, "END", "no graph in it") if one in self.broken else VersionStatus(one, "AVAILABLE", "")
            for one in versions_in(self.models / model)
        ]


@dataclass
class Champions:
    """A registry that remembers."""

    promoted: list[tuple[str, int]] = field(default_factory=list)
    down: bool = False

    def promote(self, verdict: Verdict, *, line: str, version: int) -> None:
        assert verdict.passed
        self.alias(line, version)

    def alias(self, line: str, version: int) -> None:
        if self.down:
            raise RegistryUnavailable("MLflow does not answer")
        self.promoted.append((line, version))


class Place:
    """A platform's folders with candidates to deploy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = SmallWorld(folder / "made").fill()
        self.server = FolderServer(models=folder / "models")
        self.registry = Champions()
        self.said: list[str] = []

    def candidate(self, version: int) -> Path:
        made = self.world.release(version, live=False)
        target = self.folder / "candidates" / made.name
        shutil.copytree(made, target, dirs_exist_ok=True)
        for model in ("two_tower", "ranker"):
            (target / "models" / model / "variables").mkdir(parents=True, exist_ok=True)
            (target / "models" / model / "saved_model.pb").write_bytes(f"{model} {version}".encode())
        return target

    def deploy(self, candidate: Path, verdict: Verdict = PASS) -> str:
        return deploy(candidate, verdict, **self.ends(), wait_s=0.3)

    def rollback(self, name: str) -> None:
        rollback(name, **self.ends(), wait_s=0.3)

    def ends(self) -> dict:
        return {
            "releases": self.folder / "releases", "models": self.folder / "models", "server": self.server,
            "registry": self.registry, "report": self.said.append,
        }  # fmt: skip

    def live(self) -> str | None:
        return read_live(self.folder / "releases").get("stable")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("release.deploy.CONFIG_POLL_S", 0.0)
    return Place(tmp_path)


def test_a_candidate_that_passed_comes_into_traffic(place: Place) -> None:
    assert place.deploy(place.candidate(1)) == "demo-1"
    assert place.live() == "demo-1"
    assert place.registry.promoted == [("demo", 1)]
    assert read_manifest(place.folder / "releases" / "demo-1").version == 1
    assert (place.folder / "models" / "ranker" / "1" / "saved_model.pb").read_bytes() == b"ranker 1"
    assert place.said == [
        "demo-1: published", "two_tower/1 is AVAILABLE, ranker/1 is AVAILABLE", "demo-1: both models answer",
        "demo-1: in traffic as stable",
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNDECIDED])
def test_nothing_but_a_pass_is_deployed(place: Place, outcome: Outcome) -> None:
    candidate = place.candidate(1)
    with pytest.raises(NotPassed, match=rf"^demo-1 is not deployed: its verdict is {outcome} \(no_data\), not a pass$"):
        place.deploy(candidate, Verdict(outcome=outcome, reasons=(Reason.NO_DATA,)))
    assert place.live() is None
    assert not (place.folder / "models").exists()


def test_a_version_that_does_not_load_leaves_the_old_release_and_says_why(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.server.broken = [2]
    with pytest.raises(NotServed, match=r"does not serve version 2 after 0\.3 s: two_tower/2 END: no graph in it$"):
        place.deploy(place.candidate(2))
    assert place.live() == "demo-1"


def test_a_model_server_that_is_not_there_leaves_the_old_release(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deploy(place.candidate(1))
    monkeypatch.setattr(place.server, "status", lambda model, **_: [])
    with pytest.raises(NotServed, match="two_tower/2 is not listed, ranker/2 is not listed"):
        place.deploy(place.candidate(2))
    assert place.live() == "demo-1"


def test_a_ranker_that_answers_another_shape_is_not_pointed_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_objectives(version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        return np.zeros((len(inputs["item_key"]), 2), np.float32)

    monkeypatch.setattr(place.server, "rank", two_objectives)
    with pytest.raises(NotServed, match=r"answers scores of shape \(3, 2\); its manifest and index say \(3, 3\)"):
        place.deploy(place.candidate(1))
    assert place.live() is None


def test_deploying_again_after_the_registry_was_down_goes_on(place: Place) -> None:
    candidate = place.candidate(1)
    place.registry.down = True
    with pytest.raises(RegistryUnavailable):
        place.deploy(candidate)
    place.registry.down = False
    assert place.deploy(candidate) == "demo-1"
    assert place.registry.promoted == [("demo", 1)]


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
    assert not (place.folder / "models").exists()
    assert status(place.folder / "releases") == []


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

    monkeypatch.setattr(shutil, "copytree", breaks)
    with pytest.raises(CannotPublish, match=r"ranker could not be copied to .*/models/ranker/1: disk full$"):
        place.deploy(candidate)
    assert versions_in(place.folder / "models" / "two_tower") == [1]
    assert list((place.folder / "models" / "ranker").iterdir()) == []
    assert place.live() is None
    monkeypatch.undo()
    monkeypatch.setattr("release.deploy.CONFIG_POLL_S", 0.0)
    assert place.deploy(candidate) == "demo-1"
    assert (place.folder / "models" / "ranker" / "1" / "saved_model.pb").read_bytes() == b"ranker 1"


def test_rolling_back_points_at_the_earlier_release(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(place.candidate(2))
    place.rollback("demo-1")
    assert place.live() == "demo-1"
    assert place.registry.promoted[-1] == ("demo", 1)
    assert [(one.name, one.labels) for one in status(place.folder / "releases")] == [
        ("demo-2", ()),
        ("demo-1", ("stable",)),
    ]
    with pytest.raises(UnknownRelease, match=r"^release 'demo-9' is not published; allowed are demo-2, demo-1$"):
        place.rollback("demo-9")


def test_two_deployments_at_once_are_not_allowed(place: Place) -> None:
    import fcntl

    place.deploy(place.candidate(1))
    with (place.folder / "releases" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            place.deploy(place.candidate(2))
    assert place.live() == "demo-1"


def test_the_model_server_is_told_to_keep_what_is_in_traffic(place: Place) -> None:
    models = place.folder / "models"
    assert config_of(models) == "latest { num_versions: 2 }"
    for version in (1, 2, 3):
        place.deploy(place.candidate(version))
    assert config_of(models, 3) == "latest { num_versions: 2 }"
    place.rollback("demo-1")
    assert "specific { versions: 1 versions: 3 }" in (models / "models.config").read_text()
    place.deploy(place.candidate(4))  # 1 is in traffic while 4 comes, and must not be let go for 3
    assert "specific { versions: 1 versions: 4 }" in (models / "models.config").read_text()


def config_of(models: Path, *keep: int) -> str:
    text = write_model_config(models, keep=keep).read_text()
    assert text.count("config {") == 2
    return text.split("model_version_policy { ")[1].split(" } }")[0] + " }"


def test_the_configuration_is_tensorflow_servings(tmp_path: Path) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    for keep, policy in (((), "latest"), ((1, 5), "latest")):
        parsed = model_server_config_pb2.ModelServerConfig()
        text_format.Parse(write_model_config(tmp_path, keep=keep).read_text(), parsed)
        assert [one.name for one in parsed.model_config_list.config] == ["two_tower", "ranker"]
        assert parsed.model_config_list.config[0].model_version_policy.WhichOneof("policy_choice") == policy
    for version in (7, 8):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
    parsed = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(write_model_config(tmp_path, keep=(1, 8)).read_text(), parsed)
    assert list(parsed.model_config_list.config[1].model_version_policy.specific.versions) == [1, 8]


def test_live_json_is_never_seen_in_part(place: Place) -> None:
    place.deploy(place.candidate(1))
    before = (place.folder / "releases" / LIVE).stat().st_ino
    place.deploy(place.candidate(2))
    assert (place.folder / "releases" / LIVE).stat().st_ino != before
