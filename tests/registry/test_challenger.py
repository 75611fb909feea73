"""The challenger's alias on a real MLflow store (SQLite): who is being tried, and nobody once that is over."""

from pathlib import Path

import pytest

from registry.errors import UnknownRelease
from registry.mlflow_store import MlflowRegistry
from tests.registry.test_mlflow_store import PASS, candidate


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistry:
    monkeypatch.chdir(tmp_path)
    return MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db")


def aliases(registry: MlflowRegistry) -> dict[str, tuple[str, ...]]:
    return {one.name: one.aliases for one in registry.releases("demo")}


def test_a_challenger_becomes_the_champion_and_challenges_no_longer(registry: MlflowRegistry, tmp_path: Path) -> None:
    for version in (1, 2):
        folder, manifest = candidate(tmp_path, "demo", version)
        registry.register(folder, manifest, {})
    registry.promote(PASS, line="demo", version=1)
    registry.challenge("demo", 2)
    assert aliases(registry) == {"demo-1": ("champion",), "demo-2": ("challenger",)}
    registry.promote(PASS, line="demo", version=2)
    registry.challenge("demo", None)
    assert aliases(registry) == {"demo-1": (), "demo-2": ("champion",)}
    registry.challenge("demo", None)
    registry.challenge("never seen", None)
    with pytest.raises(UnknownRelease, match="has no version 9"):
        registry.challenge("demo", 9)
