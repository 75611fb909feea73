"""TensorFlow Serving's own Prometheus metrics: the same names, labels and buckets, so one dashboard reads both servers."""

import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate

from stack.model_server.protos import METRICS_PATH

PREFIX = ":tensorflow:serving:"
MOST_SERIES = 1000
OTHERS = "(others)"


def exponential(scale: float, growth: float, *, count: int) -> tuple[float, ...]:
    """Bucket limits scale · growth^i, made by repeated multiplication as upstream makes them."""
    return tuple(accumulate([scale] + [growth] * (count - 1), lambda bound, factor: bound * factor))


MICROSECONDS = exponential(10, 1.8, count=33)
EXAMPLES = exponential(1, 2, count=15)
QUEUEING = exponential(100, 1.2, count=52)


class Counter:
    """A count by label values; a client that invents ever new values fills one series, not the memory."""

    kind = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        self.name = PREFIX + name
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, by: int = 1) -> None:
        """Count under these label values."""
        with self._lock:
            key = _bounded(values, self._counts)
            self._counts[key] = self._counts.get(key, 0) + by

    def lines(self) -> Iterable[str]:
        """The metric in Prometheus's text format."""
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            counts = list(self._counts.items())
        for values, count in counts:
            yield f"{self.name}{{{_labelled(self._labels, values)}}} {count}"


class Histogram:
    """A distribution by label values over fixed limits; a value on a limit counts above it, as upstream does."""

    def __init__(self, name: str, limits: tuple[float, ...], *labels: str) -> None:
        self.name = PREFIX + name
        self._limits = limits
        self._labels = labels
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, value: float) -> None:
        """Count a value under these label values."""
        with self._lock:
            key = _bounded(values, self._counts)
            counts = self._counts.setdefault(key, [0] * (len(self._limits) + 1))
            counts[bisect_right(self._limits, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> Iterable[str]:
        """The metric in Prometheus's text format."""
        yield f"# TYPE {self.name} histogram"
        with self._lock:
            rows = [(key, list(accumulate(counts)), self._sums[key]) for key, counts in self._counts.items()]
        limits = [f"{limit:g}" for limit in self._limits] + ["+Inf"]
        for values, counts, total in rows:
            labelled = _labelled(self._labels, values)
            for limit, count in zip(limits, counts, strict=True):
                yield f'{self.name}_bucket{{{labelled},le="{limit}"}} {count}'
            yield f"{self.name}_sum{{{labelled}}} {total:g}"
            yield f"{self.name}_count{{{labelled}}} {counts[-1]}"


class PrometheusObserver:
    """Observes requests, runs and warm-ups as metrics; `page()` is what the REST port gives under `path`."""

    def __init__(self, path: str = METRICS_PATH) -> None:
        self.path = path
        self.requests = Counter("request_count", "model_name", "status")
        self.request_latency = Histogram("request_latency", MICROSECONDS, "model_name", "API", "entrypoint")
        self.runtime_latency = Histogram("runtime_latency", MICROSECONDS, "model_name", "API", "runtime")
        self.example_counts = Histogram("request_example_counts", EXAMPLES, "model")
        self.example_total = Counter("request_example_count_total", "model")
        self.warmup_latency = Histogram("model_warmup_latency", MICROSECONDS, "model_path", "status")
        self.logged = Counter("request_log_count", "model_name", "status")
        self.queueing = Histogram("batching_session:queuing_latency", QUEUEING, "thread_pool_name")
        self._all: list[Counter | Histogram] = sorted(
            (item for item in vars(self).values() if isinstance(item, Counter | Histogram)), key=lambda item: item.name
        )

    def request(self, model: str, api: str, *, entrypoint: str, status: str, seconds: float, examples: int = 0) -> None:
        """A finished request: counted by status; its latency is kept when it is OK, as upstream does."""
        self.requests.add(model, status)
        if status == "OK":
            self.request_latency.add(model, api, entrypoint, value=_microseconds(seconds))
        if examples:
            self.example_counts.add(model, value=examples)
            self.example_total.add(model, by=examples)

    def runtime(self, model: str, api: str, *, runtime: str, seconds: float) -> None:
        """A run of a model's graph."""
        self.runtime_latency.add(model, api, runtime, value=_microseconds(seconds))

    def warmup(self, path: str, status: str, *, seconds: float) -> None:
        """A model's warm-up, by the folder of its version."""
        self.warmup_latency.add(path, status, value=_microseconds(seconds))

    def queued(self, pool: str, seconds: float) -> None:
        """A request's wait in a batching queue."""
        self.queueing.add(pool, value=_microseconds(seconds))

    def page(self) -> str:
        """Every metric, by name, in Prometheus's text format."""
        return "\n".join(line for metric in self._all for line in metric.lines()) + "\n"


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


def _bounded(values: tuple[str, ...], known: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
    return values if values in known or len(known) < MOST_SERIES else (OTHERS,) * len(values)


def _labelled(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
