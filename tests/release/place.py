"""A platform's folders with candidates to deploy, and a model server that keeps the real one's table over fake models."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.errors import RegistryUnavailable
from registry.manifest import read_live
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy, rollback, withdraw
from serving.errors import ModelRefused
from serving.models import Matrix, MemoryModels, Tensors
from serving.wire import VersionStatus
from stack.model_server.errors import ServingError
from stack.model_server.reload import ConfigFile, Configuration
from stack.model_server.table import ModelTable
from tests.serving.small_world import SmallWorld

PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))
MODELS = ("two_tower", "ranker")


@dataclass
class FakeModel:
    """A loaded version that nobody holds for long."""

    name: str
    version: int

    def hold(self) -> bool:
        return True

    def let_go(self) -> None:
        pass

    def close(self, *, wait_s: float | None = None) -> bool:
        return True


class TableServer(MemoryModels):
    """The real server's configuration file, table and label rules; it looks whenever it is asked something."""

    def __init__(self, models: Path, *, broken: Sequence[int] = ()) -> None:
        super().__init__()
        self.broken = broken
        self.down = False
        self._config = models / "models.config"
        self.start()

    def start(self) -> None:
        """Begin anew, knowing only what is on disk."""
        self.table = ModelTable(load=self._load, retries=0, labels_before_load=True)  # type: ignore[arg-type]
        self._file = ConfigFile(self._config, Configuration(self.table))

    def _load(self, path: Path, name: str, version: int) -> FakeModel:
        if version in self.broken:
            raise ServingError.invalid("no graph in it")
        assert (path / "saved_model.pb").is_file(), path
        return FakeModel(name, version)

    def look(self) -> None:
        if self._config.exists():
            self._file.poll()
            self.table.poll()

    def status(self, model: str, *, timeout_s: float = 1.0) -> list[VersionStatus]:
        self.look()
        if self.down:
            return []
        try:
            found = self.table.versions(model)
        except ServingError:
            return []
        return [VersionStatus(one.number, one.state.name, str(one.error or "")) for one in found]

    def version_of(self, model: str, label: str, *, inputs: Tensors, signature: str, timeout_s: float = 1.0) -> int:
        self.look()
        try:
            with self.table.lease(model, label=label) as held:
                return held.version
        except ServingError as error:
            raise ModelRefused(str(error)) from None

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        with self.table.lease("two_tower", version=version):
            return super().embed_user(version, user, timeout_s=timeout_s)

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        with self.table.lease("ranker", version=version):
            return super().rank(version, inputs, timeout_s=timeout_s)

    def available(self, model: str = "ranker") -> list[int]:
        """Versions that answer now, ascending."""
        return sorted(one.version for one in self.status(model) if one.state == "AVAILABLE")

    def under(self, label: str) -> list[int | str]:
        """The version that each model answers with under a label, or `none`."""
        found: list[int | str] = []
        for model in MODELS:
            try:
                found.append(self.version_of(model, label, inputs={}, signature=""))
            except ModelRefused:
                found.append("none")
        return found


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


@dataclass
class FollowingProxy:
    """A proxy that reads live.json whenever it is asked, unless it is stuck on what it has or gone."""

    releases: Path
    stuck: dict[str, str] | None = None
    gone: bool = False
    address: str = "http://127.0.0.1:1"

    def in_use(self) -> dict[str, str] | None:
        return None if self.gone else self.stuck if self.stuck is not None else read_live(self.releases)


class Place:
    """A platform's folders with candidates to deploy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.releases, self.models = folder / "releases", folder / "models"
        self.world = SmallWorld(folder / "made").fill()
        self.server = TableServer(self.models)
        self.registry = Champions()
        self.proxies: list[FollowingProxy] = []
        self.said: list[str] = []
        self.report: Callable[[str], None] = self.said.append

    def candidate(self, version: int) -> Path:
        made = self.world.release(version, live=False)
        target = self.folder / "candidates" / made.name
        shutil.copytree(made, target, dirs_exist_ok=True)
        for model in MODELS:
            (target / "models" / model / "variables").mkdir(parents=True, exist_ok=True)
            (target / "models" / model / "saved_model.pb").write_bytes(f"{model} {version}".encode())
        return target

    def deploy(self, candidate: Path, verdict: Verdict = PASS, *, label: str = "stable") -> str:
        return deploy(candidate, verdict, label=label, registry=self.registry, **self.ends())

    def rollback(self, name: str, *, label: str = "stable") -> None:
        rollback(name, label=label, registry=self.registry, **self.ends())

    def withdraw(self, label: str = "canary") -> None:
        withdraw(label, **self.ends())

    def ends(self) -> dict[str, Any]:
        return {
            "releases": self.releases, "models": self.models, "server": self.server, "proxies": self.proxies,
            "report": self.report, "wait_s": 0.3,
        }  # fmt: skip

    def live(self, label: str = "stable") -> str | None:
        return read_live(self.releases).get(label)
