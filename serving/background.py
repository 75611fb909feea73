"""The proxy's background threads: one follows the store into the catalogue, one the release and its embeddings."""

import threading
import time
from collections.abc import Callable

from events.clock import Clock
from features.errors import StoreUnavailable
from serving.catalogue import Catalogue
from serving.metrics import Metrics
from serving.release_store import ReleaseStore
from serving.retrieval import Embedder, Retrieval

# Wall seconds between two looks. A room must be recommendable, and a closed one gone, within a second, of which the
# collector may take 0.3; a release that loads or a model server that is slow must not hold that up, hence two threads.
FOLLOW_EVERY_S, EMBED_EVERY_S = 0.2, 0.4
LEAP_S = 10.0  # event-time seconds between two requests after which a time lapse is followed first


class Background:
    """Calls `follow` and `embed` again and again; requests read `retrieval` and the catalogue's view."""

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
        self._threads = [
            threading.Thread(target=self._every, args=(step, every), name=step.__name__, daemon=True)
            for step, every in ((self.follow, FOLLOW_EVERY_S), (self.embed, EMBED_EVERY_S))
        ]
        self._following = threading.Lock()  # one writes the catalogue at a time
        self._said: dict[str, str] = {}
        self._embedded: tuple[object, ...] = ()  # what `retrieval` was built from
        self.retrieval: Retrieval | None = None
        self.store_trouble = ""
        self.model_trouble = ""

    def start(self) -> None:
        """One tick now, the rest from the threads."""
        self.tick()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop after the steps at hand."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10.0)

    def _every(self, step: Callable[[], None], every_s: float) -> None:
        took = 0.0
        while not self._stop.wait(max(every_s - took, min(took, every_s))):  # requests get at least half of the time
            begun = time.monotonic()
            step()
            took = time.monotonic() - begun

    def tick(self) -> None:
        """Both steps, once."""
        self.follow()
        self.embed()

    def catch_up(self, now: float) -> None:
        """Follow before a request whose time has leapt ahead of the view's: in a time lapse 0.2 wall seconds are minutes."""
        as_of = self._catalogue.view.as_of
        if as_of is None or now - as_of > LEAP_S:
            self.follow()

    def follow(self) -> None:
        """Refresh the catalogue; a store that does not answer leaves what is held, which then ages."""
        try:
            with self._following:
                self._catalogue.refresh(self._clock.now())
            self.store_trouble = ""
        except StoreUnavailable as error:
            self.store_trouble = str(error)
        self._say("store", self.store_trouble)
        view = self._catalogue.view
        self._metrics.items.set(len(view.items))
        if view.loaded:
            self._metrics.features_age.labels("items").set(time.monotonic() - view.refreshed)

    def embed(self) -> None:
        """Follow live.json and embed what is new; what cannot be had now leaves the last in place."""
        release, view = self.releases.poll(), self._catalogue.view
        built_from = (release and release.name, view.shape, view.rooms, view.newest)
        if built_from != self._embedded or self.model_trouble:
            self.retrieval = None if release is None else self._embedder.build(release, view, now=self._clock.now())
            self.model_trouble = "" if release is None else self._embedder.trouble
            self._embedded = () if self.model_trouble else built_from
        self._say("embeddings", self.model_trouble)
        self._metrics.version.set(0 if release is None else release.manifest.version)

    def _say(self, about: str, trouble: str) -> None:
        """Report a trouble when it begins and when it is over."""
        if self._said.get(about, "") != trouble:
            self._said[about] = trouble
            self._report(f"{about}: {trouble or 'answers again'}")
