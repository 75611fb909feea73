"""The main path of a deployment: verdict, publish, served, answering, in traffic, champion; and the way back."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from registry.errors import NotPassed, RegistryError
from registry.manifest import point_live, read_live, read_manifest
from registry.verdict import Verdict
from release.errors import Busy, UnknownRelease
from release.model_config import write_model_config
from release.publish import check, publish
from release.served import ModelServer, smoke, wait_until_served
from serving.feed import STABLE

CONFIG_POLL_S = 2.0  # the model server reads its configuration every second
Report = Callable[[str], None]


class Promotes(Protocol):
    """What a deployment asks of the registry; registry.mlflow_store.MlflowRegistry is one."""

    def promote(self, verdict: Verdict, *, line: str, version: int) -> None:
        """Make it the line's champion; NotPassed for anything but a pass."""
        ...

    def alias(self, line: str, version: int) -> None:
        """Point the champion alias at it."""
        ...


class Published(Struct, frozen=True, kw_only=True):
    """One published release: its labels in traffic and what the manifest says of it."""

    name: str
    version: int
    created_at: str
    labels: tuple[str, ...]


def silent(_: str) -> None:
    """A report that nobody reads."""


def deploy(
    candidate: Path,
    verdict: Verdict,
    *,
    releases: Path,
    models: Path,
    server: ModelServer,
    registry: Promotes,
    wait_s: float = 60.0,
    report: Report = silent,
) -> str:
    """Bring a registered candidate that passed its gate into traffic; returns the release's name.

    Each step can be repeated: after a failure, whatever it was, the old release is still in traffic and deploying again
    goes on. NotPassed, BadCandidate, NotServed and RegistryError say which step it was.
    """
    name = candidate.name
    if not verdict.passed:
        raise NotPassed(
            f"{name} is not deployed: its verdict is {verdict.outcome} ({', '.join(verdict.reasons)}), not a pass"
        )
    release = check(candidate)
    manifest = release.manifest
    with _alone(releases):
        _hold(models, {manifest.version, *_versions_in_traffic(releases)})
        publish(candidate, releases=releases, models=models)
        report(f"{manifest.name}: published")
        wait_until_served(server, manifest.version, wait_s=wait_s, report=report)
        smoke(server, release)
        report(f"{manifest.name}: both models answer")
        point_live(releases, read_live(releases) | {STABLE: manifest.name})
        report(f"{manifest.name}: in traffic as {STABLE}")
        registry.promote(verdict, line=manifest.line, version=manifest.version)
    return manifest.name


def rollback(
    name: str,
    *,
    releases: Path,
    models: Path,
    server: ModelServer,
    registry: Promotes,
    wait_s: float = 60.0,
    report: Report = silent,
) -> None:
    """Put an earlier release back into traffic: loaded again if the model server had let it go, then pointed at."""
    if name not in {one.name for one in status(releases)}:
        known = ", ".join(one.name for one in status(releases)) or "none yet"
        raise UnknownRelease(f"release {name!r} is not published; allowed are {known}")
    release = check(releases / name)
    manifest = release.manifest
    with _alone(releases):
        _hold(models, {manifest.version, *_versions_in_traffic(releases)})
        wait_until_served(server, manifest.version, wait_s=wait_s, report=report)
        smoke(server, release)
        point_live(releases, read_live(releases) | {STABLE: name})
        report(f"{name}: in traffic as {STABLE}")
        registry.alias(manifest.line, manifest.version)


def status(releases: Path) -> list[Published]:
    """Published releases, newest version first; folders that are no release are left out."""
    live = read_live(releases)
    out = []
    for folder in sorted(releases.iterdir()) if releases.is_dir() else ():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            manifest = read_manifest(folder)
        except RegistryError:
            continue
        labels = tuple(sorted(label for label, name in live.items() if name == folder.name))
        out.append(Published(name=folder.name, version=manifest.version, created_at=manifest.created_at, labels=labels))
    return sorted(out, key=lambda one: -one.version)


def _versions_in_traffic(releases: Path) -> set[int]:
    return {read_manifest(releases / name).version for name in read_live(releases).values()}


def _hold(models: Path, versions: set[int]) -> None:
    """Have the model server hold these versions before a new one comes: what is in traffic must never be let go."""
    path = models / "models.config"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if write_model_config(models, keep=versions).read_text(encoding="utf-8") != before:
        time.sleep(CONFIG_POLL_S)


@contextmanager
def _alone(releases: Path) -> Iterator[None]:
    """One deployment or roll-back at a time, over all processes."""
    releases.mkdir(parents=True, exist_ok=True)
    with (releases / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another deployment or roll-back holds {releases / '.lock'}; wait for it to end") from None
        yield
