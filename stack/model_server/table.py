"""The served models: finds versions on disk, loads and unloads them, and knows which version answers a request.

A swap preserves availability, as upstream's default policy does: the new version is AVAILABLE before the old one goes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from stack.model_server.config import ModelConfig
from stack.model_server.errors import ServingError, code_of
from stack.model_server.lifecycle import Model, State, Version, failed
from stack.model_server.servable import Served
from stack.model_server.versions import aspired, found

log = logging.getLogger("model_server")
Load = Callable[[Path, str, int], Served]


class ModelTable:
    """Models by name. One thread at a time looks and advances; configuring, labels and look-ups never wait for a load."""

    def __init__(
        self, *, load: Load, retries: int = 5, retry_wait_s: float = 60.0, labels_before_load: bool = False
    ) -> None:
        self._load = load
        self._retries = retries
        self._retry_wait_s = retry_wait_s
        self._labels_before_load = labels_before_load
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] | None = None
        self._served: frozenset[str] = frozenset()
        self._complaint = ""
        self._writing = threading.Lock()
        self._advancing = threading.Lock()
        self._news = threading.Event()  # something may be due that was not when `advance` began

    def configure(self, models: Iterable[ModelConfig]) -> frozenset[str]:
        """Label and serve these models; the names that are new. FAILED_PRECONDITION, no change, when a label may not be."""
        models = tuple(models)
        self.label(models)
        return self.serve(models)

    def label(self, models: Iterable[ModelConfig]) -> None:
        """Put these models' labels in the place of all others, or none of them: FAILED_PRECONDITION."""
        with self._writing:
            models = tuple(models)
            for config in models:
                self._check_labels(config)
            self._labels = {config.name: dict(config.labels) for config in models if config.labels}

    def serve(self, models: Iterable[ModelConfig]) -> frozenset[str]:
        """Serve exactly these models from the next look on, and want no version of any other; the names that are new."""
        with self._writing:
            before = self._served
            known = dict(self._models)
            for config in models:
                before_it = known.get(config.name)
                if before_it is None or before_it.config != config:
                    known[config.name] = Model(config, before_it.versions if before_it else {})
            self._models = known
            self._served = frozenset(config.name for config in models)
            for name in set(known) - self._served:
                known[name].aspire({})
            self._tell()
            return self._served - before

    def poll(self) -> None:
        """Look at the disk once, load what is new and unload what is no longer wanted."""
        self.look()
        self.advance()

    def look(self) -> None:
        """Find out which versions are wanted.

        A base path that is missing abandons the whole look and unloads nothing, as upstream does.
        """
        with self._writing:
            seen, complaint = {}, ""
            for name in sorted(self._served):
                base = self._models[name].config.base_path
                try:
                    seen[name] = found(base)
                except ValueError as error:
                    # A path that can never be, as one with a NUL in it, is this model's trouble alone.
                    complaint = f"Could not find base path {str(base)!r} for servable {name} with error {error}"
                except OSError as error:
                    self._complain(f"Could not find base path {base} for servable {name} with error {error}")
                    return
            self._complain(complaint)
            for name, on_disk in seen.items():
                self._aspire(self._models[name], on_disk)
            self._tell()

    def rest(self, least_s: float) -> None:
        """Sleep after `advance` until it has something to do again, or `wake`; what time alone makes due takes `least_s`."""
        rest_s = self._rest_s()
        self._news.wait(None if rest_s is None else max(rest_s, least_s))

    def wake(self) -> None:
        """End `rest`, or the next one where none is under way."""
        self._news.set()

    def advance(self) -> None:
        """Do every load and unload that is due, each load once; look-ups and configuring go on meanwhile."""
        with self._advancing:
            self._news.clear()  # first: what is wanted from here on is news
            tried: set[int] = set()
            for name in sorted(self._models):
                while self._step(self._models[name], tried):
                    continue
            for model in self._models.values():
                for version in model.unloading():
                    self._finish_unload(model, version, wait_s=0.0)

    def serves(self, name: str) -> bool:
        """Whether a version of the model answers now."""
        model = self._models.get(name)
        return model is not None and bool(model.available())

    def failures(self, name: str) -> list[Version]:
        """Why the model will not answer: its failed versions when none of those wanted can load any more; else none."""
        model = self._models.get(name)
        return failed(model) if model and not model.available() else []

    def names(self) -> frozenset[str]:
        """The configured models."""
        return self._served

    def versions(self, name: str) -> list[Version]:
        """Every version known of a model, highest first; NOT_FOUND when there is none."""
        model = self._models.get(name)
        if model is None or not model.versions:
            raise ServingError.not_found(f"Could not find any versions of model {name}")
        return sorted(model.versions.values(), key=lambda version: -version.number)

    def clear(self, *, wait_s: float) -> None:
        """Unload everything; a version that still runs a request after `wait_s` seconds is left as it is."""
        self.serve(())
        with self._advancing:
            for model in self._models.values():
                for version in [*model.available(), *model.unloading()]:
                    version.state = State.UNLOADING
                    self._finish_unload(model, version, wait_s=wait_s)

    @contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[Served]:
        """Hold the model that answers: of the version or label asked for, else the highest AVAILABLE.

        A swap may close the model found before it is held; then the look-up finds the one after it.
        """
        while not (servable := self._find(name, version, label)).hold():
            continue
        try:
            yield servable
        finally:
            servable.let_go()

    def _find(self, name: str, version: int | None, label: str | None) -> Served:
        if not name:
            raise ServingError.invalid("ModelSpec has no name specified.")
        if label is not None:
            version = self._labelled(name, label)
        model = self._models.get(name)
        for candidate in model.available() if model else ():
            servable = candidate.servable
            if version in (None, candidate.number) and servable is not None:
                return servable
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError.not_found(f"Servable not found for request: {asked}")

    def _labelled(self, name: str, label: str) -> int:
        if self._labels is None:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, f"Model labels does not init yet.{label}")
        number = self._labels.get(name, {}).get(label)
        if number is None:
            raise ServingError.invalid(f"Unrecognized servable version label: {label}")
        return number

    def _check_labels(self, config: ModelConfig) -> None:
        model = self._models.get(config.name)
        available = {version.number for version in model.available()} if model else set()
        in_use = (self._labels or {}).get(config.name, {})
        for label, number in config.labels.items():
            moved = label in in_use and in_use[label] != number
            if number not in available and (moved or not self._labels_before_load):
                raise ServingError.precondition(
                    f"Request to assign label to version {number} of model {config.name}, which is not currently "
                    "available for inference"
                )

    def _rest_s(self) -> float | None:
        now = time.monotonic()
        rests = [model.rest_s(now=now) for model in self._models.values()]
        return min((one for one in rests if one is not None), default=None)

    def _tell(self) -> None:
        """Versions are wanted, or no longer."""
        if self._rest_s() is not None:
            self._news.set()

    def _aspire(self, model: Model, on_disk: dict[int, Path]) -> None:
        policy = model.config.policy
        wanted = aspired(policy, on_disk)
        missing = sorted((policy.specific or frozenset()) - set(wanted))
        if missing != model.missing:
            model.missing = missing
            for number in missing:
                log.warning(
                    "Version %d of servable %s, which was requested to be served as a 'specific' version in the servable's "
                    "version policy, was not found in the file system", number, model.config.name,
                )  # fmt: skip
        model.aspire(wanted)

    def _step(self, model: Model, tried: set[int]) -> bool:
        """One unload or else one load; False when nothing is due."""
        with self._writing:
            version = model.to_unload()
            if version is not None:
                # From here on no look-up finds it.
                version.state = State.UNLOADING
        if version is not None:
            self._finish_unload(model, version, wait_s=0.0)
            return True
        with self._writing:
            version = model.to_load(now=time.monotonic())
            if version is None or id(version) in tried:
                return False
            tried.add(id(version))
            version.state, version.busy = State.LOADING, True
            version.attempts += 1
        self._try_load(model.config.name, version)
        return True

    def _try_load(self, name: str, version: Version) -> None:
        try:
            servable = self._load(version.path, name, version.number)
        # Whatever a broken export raises is its status; the server lives on.
        except Exception as error:  # noqa: BLE001
            self._failed(name, version, error)
            return
        with self._writing:
            version.servable, version.error, version.busy = servable, None, False
            version.state = State.AVAILABLE
        log.info("Successfully loaded servable version {name: %s version: %d}", name, version.number)

    def _failed(self, name: str, version: Version, error: Exception) -> None:
        if not isinstance(error, ServingError):
            code = code_of(getattr(error, "error_code", 2) or 2)
            error = ServingError(code, str(getattr(error, "message", "") or error))
        with self._writing:
            version.error, version.busy = error, False
            version.retry_at = time.monotonic() + self._retry_wait_s
            if version.attempts > self._retries or not version.wanted:
                version.state = State.END
        log.error("Servable {name: %s version: %d} cannot be loaded: %s", name, version.number, error.status)

    def _finish_unload(self, model: Model, version: Version, *, wait_s: float) -> None:
        """Free an UNLOADING version if its last request has ended."""
        servable = version.servable
        if servable is not None and not servable.close(wait_s=wait_s):
            return
        with self._writing:
            version.servable, version.state = None, State.END
        log.info("Done unloading servable version {name: %s version: %d}", model.config.name, version.number)

    def _complain(self, text: str) -> None:
        """Log a complaint when it is new, not at every poll."""
        if text and text != self._complaint:
            log.warning(text)
        self._complaint = text
