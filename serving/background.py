"""The proxy's background threads: one follows the store into the catalogue, one the release and its embeddings."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from events.clock import Clock
from features.errors import StoreUnavailable
from serving.catalogue import Catalogue
from serving.feed import STABLE
from serving.metrics import Metrics
from serving.models import Models
from serving.release_store import ReleaseStore
from serving.retrieval import Embedder, Retrieval

# Wall seconds between two looks. A room must be recommendable, and a closed one gone, within a second, of which the
# collector may take 0.3; a release that loads or a model server that is slow must not hold that up, hence two threads.
FOLLOW_EVERY_S, EMBED_EVERY_S = 0.2, 0.4
WATCH_EVERY_S = 0.2  # a kill switch waits for neither of the two
LOADING = "the catalogue is being read for the first time"
LEAP_S = 10.0  # event-time seconds between two requests after which a time lapse is followed first


class Background:
    """Calls `follow`, `embed` and `watch` again and again; requests read `retrieval` and the catalogue's view."""

    def __init__(
        self,
        catalogue: Catalogue,
        releases: ReleaseStore,
        models: Models,
        *,
        clock: Clock,
        metrics: Metrics,
        report: Callable[[str], None],
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalogue = catalogue
        self.releases = releases
        self._models = models
        self._embedders: dict[str, Embedder] = {}  # by name of the release
        self._clock = clock
        self._metrics = metrics
        self._report = report
        self._watch = watch
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._every, args=(step, every), name=step.__name__, daemon=True)
            for step, every in ((self.follow, FOLLOW_EVERY_S), (self.embed, EMBED_EVERY_S), (self.watch, WATCH_EVERY_S))
        ]
        self._following = threading.Lock()  # one writes the catalogue at a time
        self._embedding = threading.Lock()
        self._said: dict[str, str] = {}
        self._embedded: tuple[object, ...] = ()  # what `retrievals` were built from
        self.retrievals: Mapping[str, Retrieval] = {}  # by label
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
            try:
                step()
            except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: without it nothing is followed
                self._report(f"{step.__name__}: {failure!r}")
            took = time.monotonic() - begun

    def tick(self) -> None:
        """Every step, once."""
        self.watch()
        self.follow()
        self.embed()

    def watch(self) -> None:
        """Follow the experiments, whose trouble they report themselves."""
        self._watch()

    def catch_up(self, now: float) -> None:
        """Follow before a request whose time is far from the view's: in a time lapse 0.2 wall seconds are minutes."""
        as_of = self._catalogue.view.as_of
        if as_of is None or abs(now - as_of) > LEAP_S:  # back, too: another world's requests may come next
            self.follow()

    def follow(self) -> None:
        """Refresh the catalogue; a store that does not answer leaves what is held, which then ages."""
        try:
            with self._following:
                self._catalogue.refresh(self._clock.now())
            self.store_trouble = "" if self._catalogue.view.loaded else LOADING
        except StoreUnavailable as error:
            self.store_trouble = str(error)
        self._say("store", self.store_trouble)
        view = self._catalogue.view
        self._metrics.items.set(len(view.items))
        if view.loaded:
            self._metrics.features_age.labels("items").set(time.monotonic() - view.refreshed)

    @property
    def retrieval(self) -> Retrieval | None:
        """The stable release's."""
        return self.retrievals.get(STABLE)

    def embed(self) -> None:
        """Follow live.json and embed what is new; what cannot be had now leaves the last in place."""
        with self._embedding:
            self._embed()

    def _embed(self) -> None:
        releases, view = self.releases.poll(), self._catalogue.view
        named = {label: release.name for label, release in releases.items()}
        built_from = (named, view.shape, view.rooms, view.newest)
        if built_from != self._embedded or self.model_trouble:
            held = {release.name: release for release in releases.values()}
            for name, release in held.items():
                if name not in self._embedders:
                    self._embedders[name] = Embedder(self._models, release, self._catalogue)
            now = self._clock.now()
            built = {name: self._embedders[name].build(view, now=now) for name in held}
            self.retrievals = {label: built[name] for label, name in named.items()}
            for label, retrieval in self.retrievals.items():
                self._metrics.added.labels(label).set(len(retrieval.media.added))
            self._say("index", _crowded(built.values()), over="holds all but a few again")
            for name in [one for one in self._embedders if one not in held]:
                self._embedders.pop(name).close()
            self.model_trouble = next((one.trouble for one in self._embedders.values() if one.trouble), "")
            self._embedded = () if self.model_trouble else built_from
        self._say("embeddings", self.model_trouble)
        stable = releases.get(STABLE)
        self._metrics.version.set(0 if stable is None else stable.manifest.version)

    def _say(self, about: str, trouble: str, *, over: str = "answers again") -> None:
        """Report a trouble when it begins and when it is over."""
        if self._said.get(about, "") != trouble:
            self._said[about] = trouble
            self._report(f"{about}: {trouble or over}")


def _crowded(retrievals: Iterable[Retrieval]) -> str:
    """Which releases have so many media beside their index that a new one is due; empty when none."""
    over = [(one.media.bound, one.release.name) for one in retrievals if one.media.is_over_bound]
    named = (f"more than {bound:,} media are searched one by one beside the index of {name}" for bound, name in over)
    return f"{'; '.join(named)}: train a release" if over else ""
