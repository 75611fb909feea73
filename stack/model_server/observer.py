"""What the services tell about their work: one protocol, the silent one, and one that counts for a reload's answer."""

import threading
from collections import Counter
from typing import Protocol


class Observer(Protocol):
    """Told of every request, run and warm-up; called by many threads, and must not raise. Durations are in seconds."""

    def request(self, model: str, api: str, *, entrypoint: str, status: str, seconds: float, examples: int = 0) -> None:
        """A request ended: `api` is Predict, Classify, ..., `entrypoint` GRPC or REST, `status` a code's name, e.g. OK."""

    def runtime(self, model: str, api: str, *, runtime: str, seconds: float) -> None:
        """A model ran for a request; `runtime` is TF1."""

    def warmup(self, path: str, status: str, *, seconds: float) -> None:
        """The warm-up records of the version in folder `path` were replayed; `status` is OK or what went wrong."""


class Quiet:
    """Tells nobody."""

    def request(self, model: str, api: str, *, entrypoint: str, status: str, seconds: float, examples: int = 0) -> None:
        """Nothing."""

    def runtime(self, model: str, api: str, *, runtime: str, seconds: float) -> None:
        """Nothing."""

    def warmup(self, path: str, status: str, *, seconds: float) -> None:
        """Nothing."""


QUIET = Quiet()


class Tally:
    """Passes everything on and counts what a reload may be asked the increase of."""

    REQUESTS = "/tensorflow/serving/request_count"
    EXAMPLES = "/tensorflow/serving/request_example_count_total"
    WARMUPS = "/tensorflow/serving/model_warmup_latency"

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, metric: str) -> int:
        """How often something of that metric was seen; 0 for a name that is not counted."""
        return self._counts[metric]

    def add(self, metric: str, number: int = 1) -> None:
        """Count something that is no request."""
        with self._lock:
            self._counts[metric] += number

    def request(self, model: str, api: str, *, entrypoint: str, status: str, seconds: float, examples: int = 0) -> None:
        """Count it and pass it on."""
        with self._lock:
            self._counts[self.REQUESTS] += 1
            self._counts[self.EXAMPLES] += examples
        self._inner.request(model, api, entrypoint=entrypoint, status=status, seconds=seconds, examples=examples)

    def runtime(self, model: str, api: str, *, runtime: str, seconds: float) -> None:
        """Pass it on."""
        self._inner.runtime(model, api, runtime=runtime, seconds=seconds)

    def warmup(self, path: str, status: str, *, seconds: float) -> None:
        """Count it and pass it on."""
        self.add(self.WARMUPS)
        self._inner.warmup(path, status, seconds=seconds)
