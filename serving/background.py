"""The proxy's background threads: one follows the store into the catalogue, one the release and its embeddings."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from events.clock import Clock
from features.errors import StoreUnavailable
from serving.catalogue import Catalogue
from serving.catalogue_view import CatalogueView
from serving.errors import ReleaseRefused
from serving.feed import STABLE
from serving.metrics import Metrics
from serving.models import Models
from serving.release_store import RETRY_S, LoadedRelease, ReleaseStore
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
        self._failed: dict[str, tuple[str, float]] = {}  # why a release cannot be used, and when it is tried again
        self._clock = clock
        self._metrics = metrics
        self._items_age = metrics.features_age.labels("items")
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
        """One tick now, as far as it goes, the rest from the threads."""
        for step in (self.watch, self.follow, self.embed):
            self._try(step)
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
            self._try(step)
            took = time.monotonic() - begun

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: without it nothing is followed
            self._report(f"{step.__name__}: {failure!r}")

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
        except Exception as failure:
            self.store_trouble = f"the catalogue cannot follow the store: {failure!r}"
            raise
        self._say("store", self.store_trouble)
        self._say("records", self._catalogue.records.trouble, over="all can be read again")
        view = self._catalogue.view
        self._metrics.items.set(len(view.items))
        if view.loaded:
            self._items_age.set(time.monotonic() - view.refreshed)

    @property
    def retrieval(self) -> Retrieval | None:
        """The stable release's."""
        return self.retrievals.get(STABLE)

    def embed(self) -> None:
        """Follow live.json and embed what is new; what cannot be had now leaves the last in place."""
        with self._embedding:
            self._embed()

    def reload(self) -> None:
        """Follow live.json now, and try what was refused without waiting."""
        with self._embedding:
            self._failed.clear()
            self.releases.look_again()
            self._embed()

    def _embed(self) -> None:
        releases, view = self.releases.poll(), self._catalogue.view
        named = {label: release.name for label, release in releases.items()}
        built_from = (named, view.shape, view.rooms, view.newest)
        if built_from != self._embedded or self.model_trouble or self.releases.unusable:
            held = {release.name: release for release in releases.values()}
            built = {name: made for name, one in held.items() if (made := self._build(one, view)) is not None}
            of_label = {label: built.get(name) or self._still(label, view) for label, name in named.items()}
            self._failed = {name: failed for name, failed in self._failed.items() if name in held}
            self.releases.unusable = {name: why for name, (why, _) in self._failed.items()}
            self.retrievals = {label: made for label, made in of_label.items() if made is not None}
            for label, retrieval in self.retrievals.items():
                self._metrics.added.labels(label).set(len(retrieval.media.added))
            self._say("index", _crowded(built.values()), over="holds all but a few again")
            in_use = {retrieval.release.name for retrieval in self.retrievals.values()} | held.keys()
            for name in [one for one in self._embedders if one not in in_use]:
                self._embedders.pop(name).close()
            self.model_trouble = next((one.trouble for one in self._embedders.values() if one.trouble), "")
            self._embedded = () if self.model_trouble else built_from
        self._say("embeddings", self.model_trouble)
        self._say("releases", "; ".join(self.releases.unusable.values()), over="all are used")
        stable = releases.get(STABLE)
        self._metrics.version.set(0 if stable is None else stable.manifest.version)

    def _still(self, label: str, view: CatalogueView) -> Retrieval | None:
        """What the label had, brought up to date."""
        old = self.retrievals.get(label)
        return None if old is None else self._build(old.release, view) or old

    def _build(self, release: LoadedRelease, view: CatalogueView) -> Retrieval | None:
        """What recall needs of a release; None where it cannot be had, which holds up no other release."""
        name = release.name
        if name in self._failed and time.monotonic() < self._failed[name][1]:
            return None
        try:
            if name not in self._embedders:
                self._embedders[name] = Embedder(self._models, release, self._catalogue)
            made = self._embedders[name].build(view, now=self._clock.now())
        except Exception as failure:  # noqa: BLE001  whatever is wrong with one release
            said = str(failure) if isinstance(failure, ReleaseRefused) else repr(failure)
            self._failed[name] = (f"release {name} cannot be used: {said}", time.monotonic() + RETRY_S)
            return None
        self._failed.pop(name, None)
        return made

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
