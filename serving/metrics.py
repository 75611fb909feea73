"""The proxy's Prometheus metrics, in a registry of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters and histograms of one proxy process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter("livefeed_feed_requests", "Feed requests by outcome.", ["outcome"], registry=registry)
        self.seconds = Histogram("livefeed_feed_seconds", "Wall seconds of a feed.", buckets=SECONDS, registry=registry)
        self.stages = Histogram(
            "livefeed_feed_stage_seconds", "Wall seconds by stage.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.degradations = Counter(
            "livefeed_feed_degraded", "Degraded answers by reason.", ["reason"], registry=registry
        )
        self.impressions = Counter(
            "livefeed_impressions", "Impressions by what became of them.", ["outcome"], registry=registry
        )
        self.waiting = Gauge("livefeed_impressions_waiting", "Impressions in memory, not yet sent.", registry=registry)
        self.spooled = Gauge("livefeed_spool_bytes", "Bytes of impressions on disk, not yet sent.", registry=registry)
        self.items = Gauge("livefeed_catalogue_items", "Items known to the proxy.", registry=registry)
        self.features_age = Gauge(
            "livefeed_features_age_seconds",
            "Wall seconds since the features in use were read: items, and the viewer of the last feed (0: for it).",
            ["of"],
            registry=registry,
        )
        self.version = Gauge(
            "livefeed_model_version", "Model version of the release in use; 0 without.", registry=registry
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.stages.labels(name).observe(perf_counter() - start)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
