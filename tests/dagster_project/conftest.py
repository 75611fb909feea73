"""The asset graph over rooms that answer at once: what they return can be spoilt by a test."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import absl.logging
import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from dagster_project import resources
from dagster_project.assets import events, features, models, monitoring, releases, skew
from dagster_project.definitions import defs
from dagster_project.run import Learned, learn_range
from dagster_project.stored import Stored
from features.encoder import Encoder
from features.samples import SampleReport
from monitoring.drift import DriftReport
from monitoring.skew import FeatureSkew, SkewRecord
from registry.evaluation import Evaluation, RankingRows, RetrievalRows
from registry.manifest import Manifest, write_manifest
from registry.verdict import Outcome
from training.errors import UnreadableExport

FIRST, LAST = date(2026, 11, 2), date(2026, 11, 4)


@pytest.fixture(autouse=True)
def logging_leaves_pytests_own_stream_open() -> None:
    """Dagster sets logging up anew, which closes every handler; TensorFlow's closes its stream unless it is the process's."""
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


@dataclass
class Rooms:
    """What the rooms answer, and what they were asked for."""

    rows: int = 40
    loss: float = 0.5
    hits: float = 0.6
    popular: float = 0.3
    viewers: int = 200
    saved_model: bytes | None = b"x"  # None: there is no such file
    skew: Outcome = Outcome.PASS
    train_error: Exception | None = None
    build_error: Exception | None = None
    asked_dates: list[tuple[date, ...]] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    deployed: list[str] = field(default_factory=list)

    def build_samples(self, *_: object, dates: tuple[date, ...], **__: object) -> SampleReport:
        self.asked_dates.append(dates)
        if self.build_error:
            raise self.build_error
        return SampleReport(self.rows, 10, 9, 0.9, 1, 0, {"click": 5}, 0)

    def report_skew(self, *_: object, **__: object) -> SkewRecord:
        plays = FeatureSkew(
            name="item.plays", outcome=self.skew, reason="it says so", rows=9, missing=0, settled=9, equal_rate=0.5,
            low=None, high=None, ages=(), distance=0.4, ks_p=None,
        )  # fmt: skip
        return SkewRecord(outcome=self.skew, sentence="item.plays: it says so", sampled=9, features=(plays,))

    def read_samples(self, *_: object, **__: object) -> Any:
        class Read:
            source, user_id, click = np.array(["live", "two_tower"]), np.array(["u1", "u2"]), np.array([1, 0])
            features: tuple[dict[str, float], ...] = ({"user.plays": 1.0},)

            def split(self, _: float) -> tuple["Read", "Read"]:
                return self, self

        return Read()

    def train(
        self, _samples: object, _store: object, folder: Path, *, line: str, version: int, **given: Any
    ) -> Manifest:
        if self.train_error:
            raise self.train_error
        given["report"]("ranker", 1, 1, "loss 0.5")
        evaluation = self.evaluation()
        folder.mkdir(parents=True)
        evaluation.save(folder)
        manifest = Manifest(
            line=line, version=version, created_at="2026-11-04T00:00:00+00:00", objectives=("click",),
            formula={"click": 1.0}, tables=given["tables"], metrics=evaluation.measured(), dials={},
        )  # fmt: skip
        write_manifest(folder, manifest)
        Encoder.fit([{"user.user_id": "u1"}]).save(folder / "encoder.json")
        np.savez(folder / "index.npz", item_ids=np.array(["m1", "m2"]), embeddings=np.eye(2, dtype=np.float32))
        for model in ("two_tower", "ranker") if self.saved_model is not None else ():
            (folder / "models" / model).mkdir(parents=True)
            (folder / "models" / model / "saved_model.pb").write_bytes(self.saved_model or b"")
        return manifest

    def evaluation(self) -> Evaluation:
        rng = np.random.default_rng(0)
        users, positives = np.array([f"u{i}" for i in range(self.viewers)]), np.full(self.viewers, 10)
        hits, popular = rng.binomial(positives, self.hits), rng.binomial(positives, self.popular)
        y, noise = rng.integers(0, 2, 3000), rng.normal(size=(2, 3000))
        ranking = RankingRows(y=y, score=1.5 * y + noise[0], baseline=0.5 * y + noise[1], user=rng.choice(users, 3000))
        retrieval = RetrievalRows(users, np.ones(self.viewers, bool), positives, hits, popular)
        return Evaluation(retrieval, {"click": ranking}, {"two_tower.loss": np.array([1.0, self.loss])})


class FakeRegistry:
    """MLflow's place: counts what is registered."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def next_version(self, line: str) -> int:
        return len(self._rooms.registered) + 1

    def register(self, candidate: Path, manifest: Manifest, figures: dict[str, float]) -> str:
        self._rooms.registered.append(manifest.name)
        return f"run-of-{manifest.name}"


class FakeTables:
    """The offline store's place: a samples table of so many rows."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def read(self, table: str, *, columns: list[str]) -> pa.Table:
        return pa.table({columns[0]: pa.array(["x"] * self._rooms.rows)})

    def version(self, table: str) -> int | None:
        return 3 if table == "samples" else None


def drift(reference: Any, current: Any, out: Path) -> DriftReport:
    return DriftReport(features=(), share=0.25, threshold=0.1, reference_rows=1, current_rows=1, page=str(out))


def load_scorers(folder: Path) -> None:
    if (folder / "models" / "ranker" / "saved_model.pb").read_bytes() != b"x":
        raise UnreadableExport(f"the model in {folder / 'models' / 'ranker'} does not load: it is cut off")


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rooms:
    """The rooms behind the assets, replaced for one test."""
    rooms = Rooms()
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path / "var"))
    monkeypatch.setattr(events, "wait_until_stored", lambda *_, report, **__: report(12, 12))
    monkeypatch.setattr(events, "read_dead_letters", lambda _: [])
    monkeypatch.setattr(events, "stored_figures", lambda *_: Stored(12, 10, 1, 1, {"engagement": 10}))
    monkeypatch.setattr(features, "build_feature_tables", lambda *_, **__: dict.fromkeys(features.FEATURE_TABLES, 7))
    monkeypatch.setattr(features, "build_samples", rooms.build_samples)
    for module in (features, models, monitoring):
        monkeypatch.setattr(module, "read_samples", rooms.read_samples)
    monkeypatch.setattr(models, "store_as_of", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "training.pipeline", SimpleNamespace(train_candidate=rooms.train))
    monkeypatch.setitem(sys.modules, "training.export", SimpleNamespace(load_scorers=load_scorers))
    monkeypatch.setattr(monitoring, "compare", drift)
    monkeypatch.setattr(skew, "report_skew", rooms.report_skew)
    monkeypatch.setattr(resources, "MlflowRegistry", lambda _: FakeRegistry(rooms))
    monkeypatch.setattr(resources, "DeltaTables", lambda _: FakeTables(rooms))
    monkeypatch.setattr(resources.Platform, "spark", lambda _: None)
    monkeypatch.setattr(resources.Platform, "stop_spark", lambda _: None)

    def deploy(candidate: Path, *_: object, **__: object) -> str:
        rooms.deployed.append(candidate.name)
        return candidate.name

    monkeypatch.setattr(releases, "deploy", deploy)
    return rooms


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of its own."""
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def learn(rooms: Rooms, instance: dg.DagsterInstance) -> Callable[[], Learned]:
    """Runs the whole graph for three days."""
    job = defs.resolve_job_def("learn")
    return lambda: learn_range(job, instance, first=FIRST, last=LAST, seed=1, report=lambda _: None)
