"""One request under way: what it is answered with, its time left, and what has failed it so far."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar, TypeVar

from features.errors import StoreUnavailable
from registry.manifest import RANKER, TWO_TOWER
from serving.arms import Arm, Assign, everyone_stable
from serving.arrange import ArrangeConfig
from serving.background import Background
from serving.bootstrap import BootstrapConfig
from serving.breaker import Breaker, Breakers
from serving.candidates import Quotas
from serving.catalogue import Catalogue
from serving.catalogue_view import CatalogueView
from serving.errors import ModelRefused, ModelUnavailable
from serving.feed import FEATURES_UNAVAILABLE, INDEX_UNAVAILABLE, MODEL_UNAVAILABLE, STABLE
from serving.hydration import Hydration
from serving.impressions import ImpressionLog
from serving.metrics import Metrics
from serving.models import Models, Tensors
from serving.retrieval import Retrieval
from serving.shadow import Shadow, ShadowConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Deadlines:
    """How the budget is shared out; the store's shares are its clients' time limits."""

    hydrate: float = 0.33  # of the budget
    recheck: float = 0.2  # of the budget
    embed: float = 0.4  # of what is left when it is asked for
    reserve: float = 0.25  # of the budget, kept back from ranking: arranging, and reading the page again
    least_s: float = 0.002  # with less time than this a model is not asked: it would be blamed for what others took


@dataclass(frozen=True)
class FeedConfig:
    """How a feed is made."""

    budget_s: float = 0.150  # wall time of a request, all stages together
    deadlines: Deadlines = field(default_factory=Deadlines)
    quotas: Quotas = field(default_factory=Quotas)
    arrange: ArrangeConfig = field(default_factory=ArrangeConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    shadow: ShadowConfig = field(default_factory=ShadowConfig)


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
    model_breakers: Breakers = field(default_factory=Breakers)
    assign: Assign = everyone_stable
    shadow: Shadow | None = None  # None: no release in shadow is ever asked
    dice: Callable[[str], random.Random] = random.Random  # seeded by the request id: a request can be repeated


@dataclass
class Attempt:
    """One request under way: its time left and what has failed it so far."""

    parts: FeedParts
    arm: Arm
    started: float = field(default_factory=perf_counter)
    degraded: dict[str, str] = field(default_factory=dict)  # reason -> what was said
    user_tensors: Tensors = field(default_factory=dict)  # the viewer as the release encodes her
    shares_fate: ClassVar[bool] = True  # whether a two-tower that does not answer counts against the ranker too
    view: CatalogueView = field(init=False)
    retrieval: Retrieval | None = field(init=False)
    label: str = field(init=False)  # of the release that answers: the arm's, or stable where that is not loaded

    def __post_init__(self) -> None:
        """One view and one release from start to end."""
        self.view = self.parts.catalogue.view
        held = self.parts.background.retrievals
        self.label = self.arm.label if self.arm.label in held else STABLE
        self.retrieval = held.get(self.label)  # impressions name the release that answered

    def spent_s(self) -> float:
        """Wall seconds since the start."""
        return perf_counter() - self.started

    def left_s(self) -> float:
        """Seconds of the budget that are left, at least a millisecond."""
        return max(self.parts.config.budget_s - (perf_counter() - self.started), 0.001)

    def store(self, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """Ask the store; once it failed this request, do without."""
        breaker = self.parts.store_breaker
        if FEATURES_UNAVAILABLE not in self.degraded:
            if not self._may(breaker):
                self.degraded[FEATURES_UNAVAILABLE] = breaker.trouble
                return otherwise()
            try:
                found = ask()
                breaker.answered()
                return found
            except StoreUnavailable as error:
                self.degraded[FEATURES_UNAVAILABLE] = str(error)
                breaker.failed(str(error))
        return otherwise()

    def embed(self, ask: Callable[[float], T]) -> T | None:
        """Ask the two-tower, which gets its share of the time left; None: go on without what is nearest."""
        return self._model(TWO_TOWER, ask, self.left_s() * self.parts.config.deadlines.embed)

    def rank(self, ask: Callable[[float], T]) -> T | None:
        """Ask the ranker, which gets the time left but for the reserve; None: what trends."""
        config = self.parts.config
        found = self._model(RANKER, ask, self.left_s() - config.budget_s * config.deadlines.reserve)
        if found is None:
            self.degraded.pop(INDEX_UNAVAILABLE, None)  # what trends needs no index
        return found

    def _model(self, name: str, ask: Callable[[float], T], within_s: float) -> T | None:
        """Ask a model that has `within_s` for its answer; None once the model server failed this request."""
        if MODEL_UNAVAILABLE in self.degraded:
            return None
        without = MODEL_UNAVAILABLE if name == RANKER else INDEX_UNAVAILABLE
        breaker = self.parts.model_breakers.of(self.label, name)
        if within_s < self.parts.config.deadlines.least_s:
            self.parts.metrics.late.labels(name).inc()
            self.degraded[without] = f"the request had no time left to ask {name}"
        elif not self._may(breaker):
            self.degraded[without] = breaker.trouble
        else:
            try:
                found = ask(within_s)
                breaker.answered()
                return found
            except ModelRefused as error:
                self.degraded[without] = str(error)
                breaker.failed(str(error))
            except ModelUnavailable as error:
                self._gone(name, str(error), without)
        return None

    def _gone(self, name: str, trouble: str, without: str) -> None:
        """A model did not answer; the ranker, on the same server, is then not waited for as well."""
        breakers, label = self.parts.model_breakers, self.label
        breakers.of(label, name).failed(trouble)
        if name == TWO_TOWER and self.shares_fate:
            breakers.of(label, RANKER).failed(trouble)
            without = MODEL_UNAVAILABLE
        self.degraded[without] = trouble

    def _may(self, breaker: Breaker) -> bool:
        return breaker.admits()


@dataclass
class Probing(Attempt):
    """A request of nobody's that asks the parts which are left alone, each for itself."""

    shares_fate: ClassVar[bool] = False

    def _may(self, breaker: Breaker) -> bool:
        return breaker.probes()
