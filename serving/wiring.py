"""Puts the proxy together from its parts, and starts and stops them in order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from events.clock import Clock, WallClock
from events.log import EventWriter
from events.topics import IMPRESSIONS
from features.store import OnlineStore
from serving.assignment import Assignment
from serving.attempt import DEFAULT, FeedConfig, FeedParts
from serving.background import Background
from serving.breaker import Breaker, BreakerConfig, Breakers
from serving.catalogue import Catalogue
from serving.hydration import Hydration
from serving.impressions import ImpressionLog
from serving.metrics import Metrics
from serving.models import Models
from serving.prober import Alarm, Prober
from serving.proxy_clock import ProxyClock
from serving.release_store import ReleaseStore
from serving.shadow import Shadow
from serving.spool import Spool
from serving.tf_serving import TfServing

BACKGROUND_TIMEOUT_S = 5.0  # nobody waits for the background's reads, which are large
WRITER_TIMEOUT_S = 2.0
SPOOL_BYTES = 256 * 1024 * 1024
# One failure is enough: what was last known is a good answer, and a store that hangs costs a third of the budget each time.
# It may have been chance, hence the short rest.
STORE_BREAKER = BreakerConfig(failures=1, rest_s=0.05)


@dataclass(frozen=True)
class Proxy:
    """A whole proxy."""

    parts: FeedParts
    clock: ProxyClock
    assignment: Assignment
    prober: Prober
    shadow: Shadow

    def start(self) -> None:
        """Load what there is and keep it up to date."""
        self.parts.background.start()
        self.parts.impressions.start()
        self.shadow.start()
        self.prober.start()

    def close(self) -> None:
        """Stop the threads; impressions that wait are sent or spooled."""
        self.prober.close()
        self.parts.background.close()
        self.shadow.close()  # what waits there goes to the impressions' log
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
    recheck_store: OnlineStore | None = None,
) -> Proxy:
    """A proxy over a store, a log and models; nothing runs before `start`.

    `background_store` is the same store behind a client with more patience, for reads that no request waits for;
    `recheck_store` behind one with less, for reading a page's items again.
    """
    log = structlog.get_logger()
    clock = ProxyClock(wall or WallClock(), follows_requests=follows_requests)
    metrics = Metrics()
    catalogue = Catalogue(recheck_store or store, patient=background_store or store)
    assignment = Assignment(releases, clock=clock, report=log.warning)
    background = Background(
        catalogue,
        ReleaseStore(releases, report=log.info),
        models,
        clock=clock,
        metrics=metrics,
        report=log.warning,
        watch=assignment.poll,
    )
    impressions = ImpressionLog(connect, Spool(spool, topic=IMPRESSIONS, max_bytes=SPOOL_BYTES), metrics=metrics)
    hydration = Hydration(store, catalogue.words)
    alarm = Alarm(metrics.breakers)
    breakers = Breakers(alarm)
    shadow = Shadow(
        assignment.in_shadow, lambda: background.retrievals, models, log=impressions.put, breakers=breakers,
        metrics=metrics, report=log.warning, arrange=config.arrange, config=config.shadow,
    )  # fmt: skip
    parts = FeedParts(
        catalogue, hydration, models, background, impressions, metrics, config, assign=assignment,
        store_breaker=Breaker("store", STORE_BREAKER, alarm), model_breakers=breakers,
        shadow=shadow,
    )  # fmt: skip
    return Proxy(parts, clock, assignment, Prober(parts, alarm, clock=clock, report=log.warning), shadow)


def build(
    store: OnlineStore,
    connect: Callable[[], EventWriter],
    *,
    model_server: str,
    releases: Path,
    spool: Path,
    config: FeedConfig,
    follows_requests: bool,
    background_store: OnlineStore,
    recheck_store: OnlineStore,
) -> Proxy:
    """A proxy whose models are on a model server."""
    models = TfServing(model_server)
    return assemble(
        store,
        connect,
        models,
        releases=releases,
        spool=spool,
        config=config,
        follows_requests=follows_requests,
        background_store=background_store,
        recheck_store=recheck_store,
    )
