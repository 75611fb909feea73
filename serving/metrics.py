"""The proxy's Prometheus metrics, in a registry of their own."""

from collections import deque
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.breaker import State

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)

STAGES = ("hydrate", "embed", "recall", "rank", "arrange", "log")


AT_ONCE = 256  # observations that are told together: one by one each finds its code in no cache


class Observed:
    """Observations that histograms are told of later, many at once."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Histogram, float]] = deque()

    def observe(self, histogram: Histogram, amount: float) -> None:
        """Take one; safe among threads."""
        self._waiting.append((histogram, amount))
        if len(self._waiting) >= AT_ONCE:
            self.tell()

    def tell(self) -> None:
        """Tell of all that wait."""
        while self._waiting:
            try:
                histogram, amount = self._waiting.popleft()
            except IndexError:  # another thread told of it
                return
            histogram.observe(amount)


class Timed:
    """A block whose wall seconds are observed; a generator's context manager costs twice as much."""

    __slots__ = ("_begun", "_histogram", "_observed")

    def __init__(self, histogram: Histogram, observed: Observed) -> None:
        self._histogram, self._observed = histogram, observed

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._observed.observe(self._histogram, perf_counter() - self._begun)


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
        self.candidates = Histogram(
            "livefeed_feed_candidates", "Candidates that were ranked.", buckets=(0, 10, 50, 100, 200, 300, 400, 500, 1000),
            registry=registry,
        )  # fmt: skip
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
        self.late = Counter(
            "livefeed_feed_late", "Models not asked because a request had no time left.", ["model"], registry=registry
        )
        self.shadowed = Counter(
            "livefeed_shadow_pages", "Pages with explored places by what a release in shadow made of them.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.breakers = BreakerMetrics(registry)
        self.added = Gauge(
            "livefeed_index_added", "Media held beside the index of the release; past its bound a new index is due.",
            ["label"], registry=registry,
        )  # fmt: skip
        self.version = Gauge(
            "livefeed_model_version", "Model version of the release in use; 0 without.", registry=registry
        )

        self._stages = {name: self.stages.labels(name) for name in STAGES}
        self._observed = Observed()

    def stage(self, name: str) -> "Timed":
        """Time one of STAGES."""
        return Timed(self._stages[name], self._observed)

    def made(self, seconds: float) -> None:
        """A feed took that long."""
        self._observed.observe(self.seconds, seconds)

    def ranked(self, candidates: int) -> None:
        """So many candidates were ranked."""
        self._observed.observe(self.candidates, candidates)

    def text(self) -> bytes:
        """The exposition format."""
        self._observed.tell()
        return generate_latest(self._registry)


class BreakerMetrics:
    """What the breakers do, by part: `store`, `two_tower/LABEL`, `ranker/LABEL`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._state = Gauge(
            "livefeed_breaker_state", "Whether a part is asked: 0 it is, 1 by one only, 2 it is left alone.", ["part"],
            registry=registry,
        )  # fmt: skip
        self._moves = Counter(
            "livefeed_breaker_transitions", "Changes of a breaker's state.", ["part", "to"], registry=registry
        )
        self._rejected = Counter(
            "livefeed_breaker_rejected", "Requests that went without a part.", ["part"], registry=registry
        )
        self._known: dict[str, State] = {}

    def moved(self, part: str, state: State) -> None:
        """The breaker of that part is in that state now."""
        self._state.labels(part).set(state)
        if self._known.get(part, State.CLOSED) is not state:
            self._moves.labels(part, state.name.lower()).inc()
        self._known[part] = state

    def rejected(self, part: str) -> None:
        """A request went without that part."""
        self._rejected.labels(part).inc()
