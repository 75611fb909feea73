"""The registry on a real MLflow store (SQLite): numbers, runs, aliases, and the refusal of anything but a pass."""

from pathlib import Path

import msgspec
import pytest

from registry.errors import NotPassed, RegistryError, RegistryUnavailable, UnknownRelease
from registry.manifest import DEFAULT_FORMULA, Manifest, read_manifest, write_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import Outcome, Reason, Verdict

PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making it takes seconds. Each test has a line of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def registry(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistry:
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts of a SQLite store beside where it runs
    return MlflowRegistry(uri)


def candidate(
    folder: Path, line: str, version: int, *, created_at: str = "2027-01-15T08:00:00+00:00"
) -> tuple[Path, Manifest]:
    manifest = Manifest(
        line=line, version=version, created_at=created_at, objectives=("click",), formula=DEFAULT_FORMULA,
        tables={"samples": 4}, metrics={"loss": 0.5}, dials={"ranker": {"epochs": 2}},
    )  # fmt: skip
    path = folder / manifest.name
    for model in ("two_tower", "ranker"):
        (path / "models" / model).mkdir(parents=True, exist_ok=True)
        (path / "models" / model / "saved_model.pb").write_bytes(model.encode())
    write_manifest(path, manifest)
    return path, manifest


def test_a_release_is_registered_once_with_what_made_it(registry: MlflowRegistry, tmp_path: Path) -> None:
    number = registry.next_version("alpha")
    path, manifest = candidate(tmp_path, "alpha", number)
    run = registry.register(path, manifest, {"recall_at_100": 0.25})
    assert registry.register(path, read_manifest(path), {"recall_at_100": 0.25}) == run
    assert read_manifest(path).mlflow_run == run
    shown = registry.show("alpha", number)
    assert shown["metrics"] == {"loss": 0.5, "recall_at_100": 0.25}
    assert shown["params"]["ranker.epochs"] == "2"
    assert shown["params"]["table.samples"] == "4"
    assert shown["tags"]["livefeed.version"] == str(number)
    assert [(one.name, one.run_id) for one in registry.releases("alpha")] == [(manifest.name, run)]
    saved = registry._client.download_artifacts(run, "release/models/ranker/saved_model.pb", str(tmp_path))
    assert Path(saved).read_bytes() == b"ranker"


def test_numbers_never_repeat_even_between_lines(registry: MlflowRegistry, tmp_path: Path) -> None:
    first = registry.next_version("beta")
    registry.register(*candidate(tmp_path, "beta", first), {})
    assert registry.next_version("beta") == registry.next_version("gamma") == first + 1


def test_a_number_taken_by_another_candidate_is_refused(registry: MlflowRegistry, tmp_path: Path) -> None:
    number = registry.next_version("delta")
    registry.register(*candidate(tmp_path, "delta", number), {})
    other = candidate(tmp_path / "other", "delta", number, created_at="2027-01-16T00:00:00+00:00")
    with pytest.raises(
        RegistryError, match=rf"version {number} of line 'delta' is registered for the candidate of 2027-01-15"
    ):
        registry.register(*other, {})


def test_a_registration_that_broke_off_between_the_models_is_completed(
    registry: MlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = registry.next_version("eps")
    path, manifest = candidate(tmp_path, "eps", number)
    whole = MlflowRegistry._create_version

    def breaks(self: MlflowRegistry, made: Manifest, model: str, run_id: str) -> None:
        if model == "ranker":
            raise RegistryUnavailable("gone")
        whole(self, made, model, run_id)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowRegistry, "_create_version", breaks)
        with pytest.raises(RegistryUnavailable):
            registry.register(path, manifest, {})
    assert registry.releases("eps") == []
    registry.register(path, read_manifest(path), {})
    assert [one.version for one in registry.releases("eps")] == [number]


def test_promotion_moves_the_champion_alias_of_both_models(registry: MlflowRegistry, tmp_path: Path) -> None:
    numbers = []
    for n in range(2):
        numbers.append(registry.next_version("zeta"))
        registry.register(*candidate(tmp_path / str(n), "zeta", numbers[-1]), {})
        registry.promote(PASS, line="zeta", version=numbers[-1])
    assert {one.version: one.aliases for one in registry.releases("zeta")} == {
        numbers[1]: ("champion",),
        numbers[0]: (),
    }
    registry.alias("zeta", numbers[0])
    assert registry.releases("zeta")[1].aliases == ("champion",)


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNDECIDED])
def test_nothing_but_a_pass_is_promoted(registry: MlflowRegistry, outcome: Outcome) -> None:
    verdict = Verdict(outcome=outcome, reasons=(Reason.INTERVAL_COVERS_ZERO,))
    with pytest.raises(NotPassed, match=rf"^x-1 cannot be promoted: its verdict is {outcome} \(interval_covers_zero\)"):
        registry.promote(verdict, line="x", version=1)


def test_what_is_not_registered_is_named(registry: MlflowRegistry) -> None:
    with pytest.raises(UnknownRelease, match=r"two_tower of line 'nothing' has no version 3; registered are none yet"):
        registry.promote(PASS, line="nothing", version=3)


def test_an_mlflow_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable, match=r"^MLflow at http://127\.0\.0\.1:1 did not answer: ") as caught:
        MlflowRegistry("http://127.0.0.1:1").next_version("demo")
    assert "\n" not in str(caught.value)
    path, manifest = candidate(tmp_path, "eta", 1)
    with pytest.raises(RegistryUnavailable):
        MlflowRegistry("http://127.0.0.1:1").register(path, manifest, {})
    assert msgspec.structs.asdict(read_manifest(path))["mlflow_run"] == ""
