"""The registry commands say what is wrong in one sentence."""

import pytest
from typer.testing import CliRunner

from registry.__main__ import app


def test_a_name_that_is_none_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["show", "demo"])
    assert (result.exit_code, result.stderr) == (
        1,
        "release 'demo' is not a name; allowed is <line>-<version>, such as demo-3\n",
    )


def test_an_mlflow_that_is_gone_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEFEED_MLFLOW_ADDRESS", "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 1
    assert result.stderr.startswith("MLflow at http://127.0.0.1:1 did not answer")
    assert result.stderr.count("\n") == 1
