"""The release commands say what is wrong in one sentence."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from registry.experiment import Experiments
from registry.manifest import read_manifest, write_manifest
from release.__main__ import app
from tests.serving.small_world import SmallWorld


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    monkeypatch.setenv("LIVEFEED_MLFLOW_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("LIVEFEED_MODEL_SERVER_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("LIVEFEED_ADMIN_PORT", "1")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def models_of(folder: Path) -> None:
    for model in ("two_tower", "ranker"):
        (folder / "models" / model).mkdir(parents=True)
        (folder / "models" / model / "saved_model.pb").write_bytes(b"a graph")


def test_status_shows_what_is_in_traffic(var: Path) -> None:
    models_of(SmallWorld(var).fill().release(3))
    result = run("status")
    assert result.exit_code == 0
    assert "demo-3" in result.stdout
    assert "stable: demo-3; the model server: two_tower model server 127.0.0.1:1" in result.stdout
    assert "the proxy at http://127.0.0.1:1: is not there" in result.stdout


def test_deploying_what_is_no_candidate_is_one_sentence(var: Path) -> None:
    result = run("deploy", str(var / "nothing"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"verdict {var}/nothing/verdict.json cannot be read")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rollback", "demo-7"), "release 'demo-7' is not published; allowed are none yet"),
        (("rollback",), "no release was named; livefeed release status lists those that are published"),
        (("rollback", "demo-7", "--label", "beta"), "label 'beta' is not allowed; allowed are stable, canary"),
        (("rollback", "--label", "beta"), "label 'beta' is not allowed; allowed are stable, canary"),
        (("deploy", "somewhere", "--label", "beta"), "label 'beta' is not allowed; allowed are stable, canary"),
    ],
)
def test_wrong_words_are_one_sentence(var: Path, words: tuple[str, ...], sentence: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stderr) == (1, f"{sentence}\n")


def test_taking_out_a_canary_that_is_not_there_is_no_error(var: Path) -> None:
    result = run("rollback", "--label", "canary")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing is in traffic as canary")


def test_a_line_that_stable_is_not_of_needs_a_promotion_or_a_reason(var: Path) -> None:
    world = SmallWorld(var).fill()
    models_of(world.release(3))
    other = world.release(4, live=False)
    models_of(other)
    write_manifest(other, msgspec.structs.replace(read_manifest(other), line="other"))
    other = other.rename(other.with_name("other-4"))
    refused = run("rollback", "other-4")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "other-4 is not put under stable: line other is not the line of demo-3, which is stable: it comes to stable by a "
        "promotion alone; a reason given with --why overrides this and is kept in the history\n",
    )
    run("rollback", "other-4", "--why", "an order", "--wait-s", "1")  # goes on to a model server that is not there
    (change,) = Experiments(var / "releases").history()
    assert (change.why, change.what.startswith("other-4 put under stable by hand, against: line other")) == (
        "an order",
        True,
    )
