"""The served models: finds versions on disk, loads and unloads them, and knows which version answers a request.

A swap preserves availability, as upstream's default policy does: the new version is AVAILABLE before the old one goes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from stack.model_server.config import ModelConfig
from stack.model_server.errors import ServingError, code_of
from stack.model_server.servable import Servable
from stack.model_server.versions import aspired, found

log = logging.getLogger("model_server")
Load = Callable[[Path, str, int], Servable]


class State(IntEnum):
    """A version's life, numbered as in ModelVersionStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version of a model: its folder, state, what went wrong if its load failed, and the model while it is loaded."""

    number: int
    path: Path
    state: State = State.START
    error: ServingError | None = None
    attempts: int = 0
    retry_at: float = 0.0
    servable: Servable | None = None
    wanted: bool = True


@dataclass
class Model:
    """A configured model and every version of it that was ever aspired."""

    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)

    def available(self) -> list[Version]:
        """Versions that answer, highest first."""
        return sorted((v for v in self.versions.values() if v.state is State.AVAILABLE), key=lambda v: -v.number)


def load_servable(path: Path, name: str, version: int) -> Servable:
    """Load a SavedModel for serving."""
    return Servable(path, name=name, version=version)


class ModelTable:
    """Models by name; `poll()` is called by one thread, look-ups by many."""

    def __init__(
        self,
        *,
        load: Load = load_servable,
        retries: int = 5,
        retry_wait_s: float = 60.0,
        labels_before_load: bool = False,
    ) -> None:
        self._load = load
        self._retries = retries
        self._retry_wait_s = retry_wait_s
        self._labels_before_load = labels_before_load
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._served: frozenset[str] = frozenset()
        self._complaint = ""
        self._writing = threading.Lock()

    def configure(self, models: Iterable[ModelConfig]) -> None:
        """Serve these models from the next poll on; FAILED_PRECONDITION, no change, when a label names none of theirs."""
        with self._writing:
            models = tuple(models)
            for config in models:
                self._check_labels(config)
            known = dict(self._models)
            for config in models:
                known[config.name] = Model(config, known[config.name].versions if config.name in known else {})
            self._models = known
            self._served = frozenset(config.name for config in models)
            for name in set(known) - self._served:
                self._retire(known[name])
            self._labels = {config.name: dict(config.labels) for config in models if config.labels}

    def poll(self) -> None:
        """Look at the disk once, load what is new, then unload what is no longer wanted.

        A base path that is missing abandons the whole look and unloads nothing, as upstream does.
        """
        with self._writing:
            try:
                seen = {name: found(self._models[name].config.base_path) for name in sorted(self._served)}
            except OSError as error:
                self._complain(f"file system poll abandoned, nothing changes: {error}")
                return
            self._complain("")
            for name, on_disk in seen.items():
                self._bring(self._models[name], on_disk)

    def serves(self, name: str) -> bool:
        """Whether a version of the model answers now."""
        model = self._models.get(name)
        return model is not None and bool(model.available())

    def versions(self, name: str) -> list[Version]:
        """Every version known of a model, highest first; NOT_FOUND when there is none."""
        model = self._models.get(name)
        if model is None or not model.versions:
            raise ServingError.not_found(f"Could not find any versions of model {name}")
        return sorted(model.versions.values(), key=lambda version: -version.number)

    @contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str = "") -> Iterator[Servable]:
        """Hold the model that answers: of the version or label asked for, else the highest AVAILABLE.

        A swap may close the model found before it is held; then the look-up finds the one after it.
        """
        while not (servable := self._find(name, version, label)).hold():
            continue
        try:
            yield servable
        finally:
            servable.let_go()

    def _find(self, name: str, version: int | None, label: str) -> Servable:
        if not name:
            raise ServingError.invalid("ModelSpec has no name specified.")
        if label:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise ServingError.invalid(f"Unrecognized servable version label: {label}")
        model = self._models.get(name)
        for candidate in model.available() if model else ():
            servable = candidate.servable
            if version in (None, candidate.number) and servable is not None:
                return servable
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError.not_found(f"Servable not found for request: {asked}")

    def _check_labels(self, config: ModelConfig) -> None:
        model = self._models.get(config.name)
        available = {version.number for version in model.available()} if model else set()
        in_use = self._labels.get(config.name, {})
        for label, number in config.labels.items():
            moved = label in in_use and in_use[label] != number
            if number not in available and (moved or not self._labels_before_load):
                raise ServingError.precondition(
                    f"Request to assign label to version {number} of model {config.name}, which is not currently "
                    "available for inference"
                )

    def _bring(self, model: Model, on_disk: dict[int, Path]) -> None:
        wanted = aspired(model.config.policy, on_disk)
        for version in model.versions.values():
            version.wanted = version.number in wanted
        for number, path in wanted.items():
            known = model.versions.get(number)
            if known is None or (known.state is State.END and known.error is None):
                known = Version(number, path)
                model.versions = {**model.versions, number: known}
            self._try_load(model, known)
        self._unload(model, wanted)

    def _try_load(self, model: Model, version: Version) -> None:
        if version.state not in (State.START, State.LOADING) or time.monotonic() < version.retry_at:
            return
        version.state = State.LOADING
        version.attempts += 1
        name = model.config.name
        try:
            version.servable = self._load(version.path, name, version.number)
        # Whatever a broken export raises is its status; the server lives on.
        except Exception as error:  # noqa: BLE001
            code = code_of(getattr(error, "error_code", 2) or 2)
            version.error = ServingError(code, str(getattr(error, "message", "") or error))
            version.retry_at = time.monotonic() + self._retry_wait_s
            if version.attempts > self._retries:
                version.state = State.END
            log.error("loading {name: %s version: %d} failed: %s", name, version.number, version.error)
            return
        version.error = None
        version.state = State.AVAILABLE
        log.info("successfully loaded servable version {name: %s version: %d}", name, version.number)

    def _unload(self, model: Model, wanted: dict[int, Path]) -> None:
        """Unload the unwanted, lowest first, but never the last one that answers while a wanted one is not ready."""
        for version in model.versions.values():
            if not version.wanted and version.state in (State.START, State.LOADING):
                version.state = State.END
        unwanted = [version for version in reversed(model.available()) if not version.wanted]
        ready = any(version.wanted for version in model.available())
        for version in unwanted if ready or not wanted else unwanted[:-1]:
            self._retire_version(model, version)

    def _retire(self, model: Model) -> None:
        for version in model.available():
            self._retire_version(model, version)

    def _retire_version(self, model: Model, version: Version) -> None:
        servable, version.state, version.servable = version.servable, State.UNLOADING, None
        if servable is not None:
            servable.close()
        version.state = State.END
        log.info("unloaded servable version {name: %s version: %d}", model.config.name, version.number)

    def _complain(self, text: str) -> None:
        """Log a complaint when it is new, not at every poll."""
        if text and text != self._complaint:
            log.warning(text)
        self._complaint = text
