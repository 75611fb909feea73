"""The proxy's one background thread: catalogue, release and embeddings are brought up to date and swapped in whole."""

import threading
from collections.abc import Callable

from events.clock import Clock
from features.errors import StoreUnavailable
from serving.catalogue import Catalogue
from serving.metrics import Metrics
from serving.release_store import ReleaseStore
from serving.retrieval import Embedder, Retrieval

EVERY_S = 0.4


class Background:
    """Calls `tick` every 0.4 s of wall time; requests read `retrieval` and the catalogue's view."""

    def __init__(
        self,
        catalogue: Catalogue,
        releases: ReleaseStore,
        embedder: Embedder,
        *,
        clock: Clock,
        metrics: Metrics,
        report: Callable[[str], None],
    ) -> None:
        self._catalogue = catalogue
        self.releases = releases
        self._embedder = embedder
        self._clock = clock
        self._metrics = metrics
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._said: dict[str, str] = {}
        self.retrieval: Retrieval | None = None
        self.store_trouble = ""
        self.model_trouble = ""

    def start(self) -> None:
        """One tick now, the rest from the thread."""
        self.tick()
        self._thread.start()

    def close(self) -> None:
        """Stop after the tick at hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.tick()

    def tick(self) -> None:
        """Refresh the catalogue, follow live.json, embed what is new; what cannot be had now leaves the last in place."""
        now = self._clock.now()
        try:
            self._catalogue.refresh(now)
            self.store_trouble = ""
        except StoreUnavailable as error:
            self.store_trouble = str(error)
        self._say("store", self.store_trouble)
        release = self.releases.poll()
        self.retrieval = None if release is None else self._embedder.build(release, self._catalogue.view, now=now)
        self.model_trouble = "" if release is None else self._embedder.trouble
        self._say("embeddings", self.model_trouble)
        self._metrics.items.set(len(self._catalogue.view.items))
        self._metrics.version.set(0 if release is None else release.manifest.version)

    def _say(self, about: str, trouble: str) -> None:
        """Report a trouble when it begins and when it is over."""
        if self._said.get(about, "") != trouble:
            self._said[about] = trouble
            self._report(f"{about}: {trouble or 'answers again'}")
