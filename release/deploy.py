"""The main path of a deployment: verdict, published, loaded, labelled, in traffic, champion; and the way back."""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from registry.errors import NotPassed, RegistryError
from registry.manifest import Manifest, read_live, read_manifest
from registry.verdict import Reason, Verdict
from release.errors import Busy, UnknownRelease
from release.proxies import Proxy
from release.publish import check, publish
from release.served import ModelServer
from release.traffic import Report, Traffic, check_label, silent
from serving.feed import STABLE

May = Callable[[Manifest], None]


def anybody(_: Manifest) -> None:
    """No objection: for those who have asked already, as a promotion has, and for platforms without promotions."""


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


def deploy(
    candidate: Path,
    verdict: Verdict,
    *,
    releases: Path,
    models: Path,
    server: ModelServer,
    registry: Promotes,
    label: str = STABLE,
    proxies: Sequence[Proxy] = (),
    wait_s: float = 60.0,
    report: Report = silent,
    may: May = anybody,
) -> str:
    """Bring a candidate that passed its gate into traffic under a label; returns the release's name.

    `may` (release.guard.Guard) is asked first, and raises when the release must not come under the label.

    Each step can be repeated: after a failure, whatever it was, the old release is still or again in traffic, and deploying
    again goes on. The champion alias follows the label stable alone. NotPassed, BadCandidate, NotServed, NotUsed and
    RegistryError say which step it was.
    """
    check_label(label)
    name = candidate.name
    if not verdict.passed:
        raise NotPassed(
            f"{name} is not deployed: its verdict is {verdict.outcome} ({', '.join(verdict.reasons)}), not a pass"
        )
    if label == STABLE and Reason.MODELS_PASSED in verdict.reasons:
        raise NotPassed(f"{name} is not deployed as {STABLE}: its models passed, and its formula needs a canary first")
    release = check(candidate)
    manifest = release.manifest
    traffic = Traffic(releases, models, server, proxies, wait_s, report)
    with alone(releases):
        may(manifest)
        traffic.pin()
        publish(candidate, releases=releases, models=models)
        report(f"{manifest.name}: published")
        traffic.load(release)
        with traffic.or_back():
            traffic.point(release, label)
            if label == STABLE:
                registry.promote(verdict, line=manifest.line, version=manifest.version)
    return manifest.name


def rollback(
    name: str,
    *,
    releases: Path,
    models: Path,
    server: ModelServer,
    registry: Promotes,
    label: str = STABLE,
    proxies: Sequence[Proxy] = (),
    wait_s: float = 60.0,
    report: Report = silent,
    may: May = anybody,
) -> None:
    """Put an already published release into traffic under a label: back to an earlier one, or a canary made stable.

    `may` is asked first, as in a deployment.
    The same path as a deployment's. It stays there when the registry does not answer: whoever rolls back is in a hurry.
    """
    check_label(label)
    if name not in {one.name for one in status(releases)}:
        known = ", ".join(one.name for one in status(releases)) or "none yet"
        raise UnknownRelease(f"release {name!r} is not published; allowed are {known}")
    release = check(releases / name)
    traffic = Traffic(releases, models, server, proxies, wait_s, report)
    with alone(releases):
        may(release.manifest)
        traffic.pin()
        traffic.load(release)
        with traffic.or_back():
            traffic.point(release, label)
        if label == STABLE:
            registry.alias(release.manifest.line, release.manifest.version)


def withdraw(
    label: str,
    *,
    releases: Path,
    models: Path,
    server: ModelServer,
    proxies: Sequence[Proxy] = (),
    wait_s: float = 60.0,
    report: Report = silent,
) -> None:
    """Take a canary out of traffic; stable alone answers from then on. Harmless when there is none."""
    with alone(releases):
        Traffic(releases, models, server, proxies, wait_s, report).withdraw(label)


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


@contextmanager
def alone(releases: Path) -> Iterator[None]:
    """One deployment or roll-back at a time, over all processes; Busy."""
    releases.mkdir(parents=True, exist_ok=True)
    with (releases / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another deployment or roll-back holds {releases / '.lock'}; wait for it to end") from None
        yield
