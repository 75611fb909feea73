"""Puts the proxy together from its parts, and starts and stops them in order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from events.clock import Clock, WallClock
from events.log import EventWriter
from events.topics import IMPRESSIONS
from features.store import OnlineStore
from serving.attempt import DEFAULT, FeedConfig, FeedParts
from serving.background import Background
from serving.catalogue import Catalogue
from serving.hydration import Hydration
from serving.impressions import ImpressionLog
from serving.metrics import Metrics
from serving.models import Models
from serving.proxy_clock import ProxyClock
from serving.release_store import ReleaseStore
from serving.retrieval import Embedder
from serving.spool import Spool
from serving.tf_serving import TfServing

STORE_TIMEOUT_S = 0.25  # a store that is slower than this counts as gone for the request
BACKGROUND_TIMEOUT_S = 5.0  # nobody waits for the background's reads, which are large
WRITER_TIMEOUT_S = 5.0
SPOOL_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Proxy:
    """A whole proxy."""

    parts: FeedParts
    clock: ProxyClock

    def start(self) -> None:
        """Load what there is and keep it up to date."""
        self.parts.background.start()
        self.parts.impressions.start()

    def close(self) -> None:
        """Stop the threads; impressions that wait are sent or spooled."""
        self.parts.background.close()
        self.parts.impressions.close()


def assemble(
    store: OnlineStore,
    connect: Callable[[], EventWriter],
    models: Models,
    *,
    releases: Path,
    spool: Path,
    config: FeedConfig = DEFAULT,
    wall: Clock | None = None,
    follows_requests: bool = False,
    background_store: OnlineStore | None = None,
) -> Proxy:
    """A proxy over a store, a log and models; nothing runs before `start`.

    `background_store` is the same store behind a client with more patience, for reads that no request waits for.
    """
    log = structlog.get_logger()
    clock = ProxyClock(wall or WallClock(), follows_requests=follows_requests)
    metrics = Metrics()
    catalogue = Catalogue(store, patient=background_store)
    background = Background(
        catalogue,
        ReleaseStore(releases, report=log.info),
        Embedder(models),
        clock=clock,
        metrics=metrics,
        report=log.warning,
    )
    impressions = ImpressionLog(connect, Spool(spool, topic=IMPRESSIONS, max_bytes=SPOOL_BYTES), metrics=metrics)
    hydration = Hydration(store, catalogue.words)
    return Proxy(FeedParts(catalogue, hydration, models, background, impressions, metrics, config), clock)


def build(
    store: OnlineStore,
    connect: Callable[[], EventWriter],
    *,
    model_server: str,
    releases: Path,
    spool: Path,
    budget_s: float,
    follows_requests: bool,
    background_store: OnlineStore,
) -> Proxy:
    """A proxy whose models are on a model server."""
    models = TfServing(model_server)
    config = FeedConfig(budget_s=budget_s)
    return assemble(
        store,
        connect,
        models,
        releases=releases,
        spool=spool,
        config=config,
        follows_requests=follows_requests,
        background_store=background_store,
    )
