"""Moves a label, and with it traffic, from one published release to another: model server, live.json, proxies, in this order.

A label in use may only be moved to a version that is AVAILABLE: TensorFlow Serving refuses the whole configuration otherwise,
and would drop requests if it did not. So the new version is loaded beside the old one, tried, and only then labelled; what a
label left stays loaded until the next deployment, which makes the way back immediate.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.manifest import point_live, read_live, read_manifest
from release.errors import BadLabel
from release.model_config import Held, read_model_config, write_model_config
from release.proxies import Proxy, wait_until_used
from release.served import ModelServer, available, smoke, wait_until_labelled, wait_until_served
from serving.feed import STABLE
from serving.release_store import LoadedRelease

CANARY = "canary"
LABELS = (STABLE, CANARY)
CONFIG_POLL_S = 2.0  # the model server reads its configuration every second
Report = Callable[[str], None]


def silent(_: str) -> None:
    """A report that nobody reads."""


def check_label(label: str) -> None:
    """BadLabel unless it is one that traffic knows."""
    if label not in LABELS:
        raise BadLabel(f"label {label!r} is not allowed; allowed are {', '.join(LABELS)}")


@dataclass(frozen=True)
class Traffic:
    """Where releases and models lie, who serves them, and how many seconds each step may take."""

    releases: Path
    models: Path
    server: ModelServer
    proxies: Sequence[Proxy] = ()
    wait_s: float = 60.0
    report: Report = silent

    def pin(self) -> None:
        """Have the model server hold what is in traffic before a folder appears beside it.

        Needed once: a configuration that leaves the versions to the server is as the platform starts with it.
        """
        in_traffic = self._in_traffic()
        if in_traffic and not read_model_config(self.models).versions:
            write_model_config(self.models, Held(frozenset(in_traffic)))
            time.sleep(CONFIG_POLL_S)

    def load(self, release: LoadedRelease) -> None:
        """Have the model server load the release beside what it holds for traffic, and try it; NotServed."""
        labels, version = read_model_config(self.models).labels, release.manifest.version
        held = {version, *labels.values(), *self._in_traffic()}
        write_model_config(self.models, Held(frozenset(held), labels))
        wait_until_served(self.server, version, wait_s=self.wait_s, report=self.report)
        smoke(self.server, release)
        self.report(f"{release.name}: both models answer")

    def point(self, release: LoadedRelease, label: str) -> None:
        """Move the label to a release that was loaded: on the server, in live.json, in every proxy; NotServed, NotUsed."""
        before, version = read_model_config(self.models), release.manifest.version
        write_model_config(self.models, Held(before.versions | {version}, self._labels() | {label: version}))
        wait_until_labelled(self.server, release, label, wait_s=self.wait_s)
        self.report(f"{release.name}: answers as {label}")
        point_live(self.releases, read_live(self.releases) | {label: release.name})
        wait_until_used(self.proxies, label, release.name, wait_s=self.wait_s, report=self.report)
        self.report(f"{release.name}: in traffic as {label}")

    def withdraw(self, label: str) -> None:
        """Take a label other than stable away, from traffic first; nothing to do where there is none."""
        check_label(label)
        if label == STABLE:
            raise BadLabel(f"label {STABLE!r} is not withdrawn; allowed is {CANARY}, or another release as {STABLE}")
        live = read_live(self.releases)
        if label in live:
            point_live(self.releases, {other: name for other, name in live.items() if other != label})
        wait_until_used(self.proxies, label, None, wait_s=self.wait_s, report=self.report)
        held = read_model_config(self.models)
        labels = {other: version for other, version in held.labels.items() if other != label}
        if labels != held.labels:
            write_model_config(self.models, Held(held.versions, labels))
        self.report(f"nothing is in traffic as {label}")

    @contextmanager
    def or_back(self) -> Iterator[None]:
        """Put labels and live.json back as they were when the block fails, whatever it was."""
        held, live = read_model_config(self.models), read_live(self.releases)
        try:
            yield
        except BaseException:
            now = read_model_config(self.models)
            write_model_config(self.models, Held(now.versions | held.versions, held.labels))
            if live != read_live(self.releases):
                point_live(self.releases, live)
            raise

    def _in_traffic(self) -> dict[int, str]:
        """Versions of the releases that live.json names."""
        return {read_manifest(self.releases / name).version: name for name in read_live(self.releases).values()}

    def _labels(self) -> dict[str, int]:
        """The labels as they are, but where live.json says otherwise and the server can follow it."""
        labels = dict(read_model_config(self.models).labels)
        for label, name in read_live(self.releases).items():
            version = read_manifest(self.releases / name).version
            if labels.get(label) != version and available(self.server, version):
                labels[label] = version
        return labels
