"""What recall needs of one release: its index, what was embedded beside it, and its encoder over the item table.

Media published since the index was built and live rooms are embedded through the two-tower's `embed_item`, in batches, by a
background thread. Searches give rows of the item table; a place in the index whose item is gone gives row 0, which nobody is
shown.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from events.schema import ContentType, Surface
from features.definitions import Entity
from features.encoder import ITEM_TENSORS
from features.snapshot import Known, snapshot
from features.state import values
from serving.catalogue import Catalogue
from serving.catalogue_view import CatalogueView, Item
from serving.codes import Codes
from serving.delta import ALL, Delta, IndexView
from serving.errors import ModelRefused, ModelUnavailable
from serving.exact import Exact
from serving.index import Mask
from serving.item_columns import Growing, Rows
from serving.item_rows import UNKNOWN
from serving.models import Matrix, Models
from serving.release_store import LoadedRelease

EMBED_BATCH = 256
EMBED_TIMEOUT_S = 2.0
MAX_FRESH = 5_000
SLICE = 8_192
GONE_SHARE = 0.05  # of an index's rows: up to that much what searches ask for beyond their quota makes up for it
_NOBODY = values(Entity.USER, {}, 0.0)
_NO_CREATOR = values(Entity.CREATOR, {}, 0.0)
_NO_PAIR = values(Entity.PAIR, {}, 0.0)
_NO_PLACE = -1
NO_ROWS: Rows = np.zeros(0, np.intp)


@dataclass(frozen=True)
class Retrieval:
    """One release as of one moment."""

    release: LoadedRelease
    codes: Codes
    media: IndexView
    rooms: Exact
    room_rows: Rows  # item rows of `rooms`
    places: "Places"

    def nearest_media(self, query: Matrix, k: int, content_type: ContentType | None) -> Rows:
        """Item rows of media, nearest first; UNKNOWN where the item is gone."""
        keep = self.media.left[self._only(content_type)]
        return self.places.row_at.array[self.media.index.search(query, k, keep=keep).rows]

    def nearest_fresh(self, query: Matrix, k: int, content_type: ContentType | None) -> Rows:
        """Item rows of media that came after the index was built, nearest first; UNKNOWN where the item is gone."""
        found = self.media.search_added(query, k, only=self._only(content_type))
        return self.places.row_at.array[found.rows]

    def _only(self, content_type: ContentType | None) -> str:
        return str(content_type) if content_type in self.media.left else ALL

    def nearest_rooms(self, query: Matrix, k: int) -> Rows:
        """Item rows of live rooms, nearest first."""
        return self.room_rows[self.rooms.search(query, k).rows]

    def embedding_of(self, row: int) -> Matrix | None:
        """The embedding of an item row, wherever it is held."""
        place = self.places.place_of(row)
        if place is not None:
            return self.media.vector(place) if place < self.media.rows else None
        found = np.flatnonzero(self.room_rows == row)
        return self.rooms.vector(int(found[0])) if found.size else None

    def neighbours_of(self, rows: Sequence[int]) -> Rows:
        """Item rows that viewers of those items also chose, best first."""
        if not len(self.release.neighbours.media.of):
            return NO_ROWS
        seeds = [place for row in rows if (place := self.places.place_of(row)) is not None]
        if not seeds:
            return NO_ROWS
        return self.places.row_at.array[self.release.neighbours.of_many(seeds)[0]]


class Places:
    """Which place of a release's index, or beside it, holds which item row; told of the catalogue's changes (Learner).

    The catalogue's thread and the Embedder's write, one at a time; readers need no lock.
    """

    def __init__(self, release: LoadedRelease) -> None:
        self._release = release
        self._writing = threading.Lock()
        self.row_at = Growing(np.intp)  # by place; UNKNOWN where the item is gone
        self._place_at = Growing(np.int32, fill=_NO_PLACE)  # by item row
        self.row_at.reach(release.index.rows)
        self._emptied: list[tuple[str, int]] = []  # places beside the index and what they held, since last asked
        self._moved = True  # whether the index's own places changed, since last asked

    def fill(self, row_of: Mapping[str, int]) -> None:
        """Find the rows of what the index holds."""
        names = self._release.item_ids
        for start in range(0, len(names), SLICE):
            with self._writing:
                for place, name in enumerate(names[start : start + SLICE], start):
                    row = row_of.get(name)
                    if row is not None:
                        self._hold(place, row)

    def _hold(self, place: int, row: int) -> None:
        self.row_at.put(place, row)
        self._place_at.put(row, place)

    def place_of(self, row: int) -> int | None:
        """The place that holds an item row."""
        places = self._place_at.array
        place = int(places[row]) if row < len(places) else _NO_PLACE
        return None if place == _NO_PLACE else place

    def _empty(self, item_id: str, row: int) -> None:
        place = self.place_of(row)
        if place is None:
            return
        self._place_at.put(row, _NO_PLACE)
        self.row_at.put(place, UNKNOWN)
        if place < self._release.index.rows:
            self._moved = True
        else:
            self._emptied.append((item_id, place))

    def hold_added(self, place: int, item_id: str, view: CatalogueView) -> bool:
        """Whether a place beside the index could be given to an item, which may have gone meanwhile."""
        with self._writing:
            row = view.table.row_of.get(item_id)
            if row is None or item_id not in view.items:  # it leaves `items` before it is told gone, and its row after
                return False
            self._empty(item_id, row)
            self._hold(place, row)
            return True

    def item(self, item_id: str, row: int) -> None:
        """The item has that row."""
        place = self._release.row_of.get(item_id)
        if place is not None:
            with self._writing:
                self._hold(place, row)
                self._moved = True

    def gone(self, item_id: str, row: int) -> None:
        """The item is gone from the row."""
        with self._writing:
            self._empty(item_id, row)

    def creator(self, creator_id: str, row: int) -> None:
        """Of no concern here."""

    def emptied(self) -> list[tuple[str, int]]:
        """Places beside the index that hold nothing any more, and the items they held; each is told once."""
        with self._writing:
            found, self._emptied = self._emptied, []
        return found

    def missing(self) -> Mask | None:
        """Which of the index's rows hold no item; None where that is as it was when last asked."""
        with self._writing:
            moved, self._moved = self._moved, False
        return self.row_at.array[: self._release.index.rows] == UNKNOWN if moved else None


class Embedder:
    """Keeps one release's Retrieval up to date; used by one thread."""

    def __init__(self, models: Models, release: LoadedRelease, catalogue: Catalogue) -> None:
        self._models, self._catalogue = models, catalogue
        self.release = release
        self._codes = Codes(release.encoder, catalogue, release.packing)
        self._places = Places(release)
        kinds = np.array(release.kinds)
        masks = {str(kind): kinds == str(kind) for kind in ContentType if kind is not ContentType.LIVE}
        self._delta = Delta(release.index, labels=masks if len(kinds) else {str(one): _all(release) for one in masks})
        self._rooms: dict[str, tuple[int, Matrix]] = {}  # fingerprint and embedding
        self._added: dict[str, tuple[int, int]] = {}  # fingerprint and place of the media added to the index
        self.trouble = ""  # why the last build left something out; empty when it did not
        for learner in (self._codes, self._places):  # first told of what changes, then filled: nothing falls between
            catalogue.attach(learner)
        self._codes.fill()
        self._places.fill(catalogue.view.table.row_of)

    def close(self) -> None:
        """The release is no longer in traffic."""
        for learner in (self._codes, self._places):
            self._catalogue.detach(learner)

    def build(self, view: CatalogueView, *, now: float) -> Retrieval:
        """Embed what is new; what the model server does not embed now is left out and tried again at the next build."""
        self.trouble = ""
        row_of = view.table.row_of
        rooms = list(view.known(view.rooms))
        self._rooms = {one.item_id: held for one in rooms if (held := self._rooms.get(one.item_id)) is not None}
        changed = [one for one in rooms if self._rooms.get(one.item_id, (None,))[0] != one.fingerprint]
        for item, vector in self._embed(changed, now):
            self._rooms[item.item_id] = (item.fingerprint, vector)
        self._take_out(view)
        names = (one for one in view.newest if one not in self.release.row_of)
        fresh = [one for one in view.known(names) if self._added.get(one.item_id, (None,))[0] != one.fingerprint]
        self._add(list(self._embed(fresh[:MAX_FRESH], now)), view)
        here = [one for one in self._rooms if one in row_of]
        matrix = np.stack([self._rooms[one][1] for one in here]) if here else np.zeros((0, self.release.index.width))
        return Retrieval(
            self.release, self._codes, self._delta.view, Exact(matrix.astype(np.float32)), view.table.rows(here),
            self._places,
        )  # fmt: skip

    def _take_out(self, view: CatalogueView) -> None:
        """What is gone takes no place among what is nearest.

        The index's own rows are searched with what is gone among them until that is much: a search that leaves rows out
        costs more than the few rows that it asks for too many.
        """
        emptied = self._places.emptied()
        for item_id, place in emptied:
            if self._added.get(item_id, (0, -1))[1] == place:
                del self._added[item_id]
        if emptied:
            self._delta.remove([place for _, place in emptied])
        missing = self._places.missing() if view.loaded else None
        if missing is not None:
            self._delta.keep_only(~missing if np.count_nonzero(missing) > GONE_SHARE * len(missing) else None)

    def _add(self, pairs: Sequence[tuple[Item, Matrix]], view: CatalogueView) -> None:
        """Add media beside the index; one that changed is added anew and its old place emptied."""
        if not pairs:
            return
        places = self._delta.add(np.stack([vector for _, vector in pairs]), [item.content_type for item, _ in pairs])
        for place, (item, _) in zip(places.tolist(), pairs, strict=True):
            if self._places.hold_added(place, item.item_id, view):
                self._added[item.item_id] = (item.fingerprint, place)
            else:
                self._delta.remove([place])
        self._take_out(view)

    def _embed(self, items: Sequence[Item], now: float) -> Iterable[tuple[Item, Matrix]]:
        for start in range(0, len(items) if not self.trouble else 0, EMBED_BATCH):
            batch = items[start : start + EMBED_BATCH]
            tensors = self.release.encoder.encode([_item_row(item, now) for item in batch], ITEM_TENSORS)
            try:
                vectors = self._models.embed_item(self.release.manifest.version, tensors, timeout_s=EMBED_TIMEOUT_S)
            except (ModelUnavailable, ModelRefused) as error:
                self.trouble = str(error)
                return
            wanted = (len(batch), self.release.index.width)
            if vectors.shape != wanted:
                self.trouble = (
                    f"release {self.release.name}: items got embeddings of shape {vectors.shape}, not {wanted}"
                )
                return
            yield from zip(batch, vectors, strict=True)


def _all(release: LoadedRelease) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.ones(release.index.rows, bool)


def _item_row(item: Item, now: float) -> dict[str, object]:
    """A snapshot of which only the item's side counts."""
    known = Known(_NOBODY, item.held.values(now), _NO_CREATOR, _NO_PAIR)
    return dict(snapshot("", item.item_id, known, now=now, surface=Surface.HOME))
