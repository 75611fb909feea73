"""One request under way: what it is answered with, its time left, and what has failed it so far."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from features.errors import StoreUnavailable
from serving.arrange import ArrangeConfig
from serving.background import Background
from serving.bootstrap import BootstrapConfig
from serving.breaker import Breaker
from serving.candidates import Quotas
from serving.catalogue import Catalogue, CatalogueView
from serving.errors import ModelRefused, ModelUnavailable
from serving.feed import FEATURES_UNAVAILABLE, MODEL_UNAVAILABLE
from serving.hydration import Hydration
from serving.impressions import ImpressionLog
from serving.metrics import Metrics
from serving.models import Models

T = TypeVar("T")


@dataclass(frozen=True)
class FeedConfig:
    """How a feed is made."""

    budget_s: float = 0.150  # wall time of a request, all stages together
    quotas: Quotas = field(default_factory=Quotas)
    arrange: ArrangeConfig = field(default_factory=ArrangeConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)


DEFAULT = FeedConfig()


@dataclass(frozen=True)
class FeedParts:
    """What a request is answered with."""

    catalogue: Catalogue
    hydration: Hydration
    models: Models
    background: Background
    impressions: ImpressionLog
    metrics: Metrics
    config: FeedConfig = DEFAULT
    store_breaker: Breaker = field(default_factory=Breaker)
    model_breaker: Breaker = field(default_factory=Breaker)
    dice: Callable[[str], random.Random] = random.Random  # seeded by the request id: a request can be repeated


@dataclass
class Attempt:
    """One request under way: its time left and what has failed it so far."""

    parts: FeedParts
    started: float = field(default_factory=perf_counter)
    degraded: dict[str, str] = field(default_factory=dict)  # reason -> what was said
    view: CatalogueView = field(init=False)

    def __post_init__(self) -> None:
        self.view = self.parts.catalogue.view  # one view from start to end

    def left_s(self) -> float:
        """Seconds of the budget that are left, at least a millisecond."""
        return max(self.parts.config.budget_s - (perf_counter() - self.started), 0.001)

    def store(self, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """Ask the store; once it failed this request, do without."""
        breaker = self.parts.store_breaker
        if breaker.is_open:
            self.degraded.setdefault(FEATURES_UNAVAILABLE, breaker.trouble)
        if FEATURES_UNAVAILABLE not in self.degraded:
            try:
                found = ask()
                breaker.answered()
                return found
            except StoreUnavailable as error:
                self.degraded[FEATURES_UNAVAILABLE] = str(error)
                breaker.failed(str(error))
        return otherwise()

    def model(self, ask: Callable[[], T]) -> T | None:
        """Ask the model server; None once it failed this request."""
        breaker = self.parts.model_breaker
        if breaker.is_open:
            self.degraded.setdefault(MODEL_UNAVAILABLE, breaker.trouble)
        if MODEL_UNAVAILABLE not in self.degraded:
            try:
                found = ask()
                breaker.answered()
                return found
            except (ModelUnavailable, ModelRefused) as error:
                self.degraded[MODEL_UNAVAILABLE] = str(error)
                breaker.failed(str(error))
        return None
