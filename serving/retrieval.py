"""What recall needs of one release, swapped whole: its index, and embeddings of what the index cannot have.

Live rooms and media published since the index was built are embedded through the two-tower's `embed_item`, in batches, by a
background thread, and kept for as long as the release and the item's attributes stay.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from events.schema import ContentType, Surface
from features.definitions import Entity
from features.encoder import ITEM_TENSORS
from features.snapshot import Known, snapshot
from features.state import values
from serving.catalogue import CatalogueView, Item
from serving.errors import ModelRefused, ModelUnavailable
from serving.models import Matrix, Models
from serving.release_store import LoadedRelease

EMBED_BATCH = 256
EMBED_TIMEOUT_S = 2.0
MAX_FRESH = 5_000
_NOBODY = values(Entity.USER, {}, 0.0)
_NO_CREATOR = values(Entity.CREATOR, {}, 0.0)
_NO_PAIR = values(Entity.PAIR, {}, 0.0)
Mask = npt.NDArray[np.bool_]


class CandidateIndex(Protocol):
    """Finds the items whose embeddings point nearest to a query's."""

    def search(self, query: Matrix, k: int, *, allowed: Mask | None = None) -> list[str]:
        """At most `k` item ids, nearest first, among the rows `allowed`."""
        ...


@dataclass(frozen=True)
class ExactIndex:
    """Inner product with every row: exact, and 0.06 ms at 5,000 rows (research/performance.md); ANN comes with 3 million."""

    ids: Sequence[str]
    matrix: Matrix  # [n, D]

    def search(self, query: Matrix, k: int, *, allowed: Mask | None = None) -> list[str]:
        """At most `k` item ids, nearest first; equal distances in row order."""
        rows = np.arange(len(self.ids)) if allowed is None else np.flatnonzero(allowed)
        k = min(k, rows.size)
        if k <= 0:
            return []
        near = (self.matrix if allowed is None else self.matrix[rows]) @ query
        best = np.argpartition(-near, k - 1)[:k]
        return [self.ids[row] for row in rows[best[np.lexsort((rows[best], -near[best]))]]]


@dataclass(frozen=True)
class Retrieval:
    """One release's index beside its rooms and fresh media."""

    release: LoadedRelease
    kinds: tuple[str, ...]  # content type by index row; empty where the item is unknown or not shown
    rooms: ExactIndex
    fresh: ExactIndex

    @cached_property
    def index(self) -> ExactIndex:
        """The release's own index."""
        return ExactIndex(self.release.item_ids, self.release.embeddings)

    @cached_property
    def _masks(self) -> dict[str, Mask]:
        kinds = np.array(self.kinds, dtype=object)
        return {str(kind): np.asarray(kinds == kind, bool) for kind in ContentType} | {
            "": np.asarray(kinds != "", bool)
        }

    def allowed(self, content_type: ContentType | None) -> Mask:
        """Index rows that may be retrieved under a content type (None: any)."""
        return self._masks[content_type or ""]

    def embedding_of(self, item_id: str) -> Matrix | None:
        """An item's embedding, wherever it is held."""
        row = self.release.row_of.get(item_id)
        if row is not None:
            return np.asarray(self.release.embeddings[row])
        for held in (self.fresh, self.rooms):
            if item_id in held.ids:
                return np.asarray(held.matrix[list(held.ids).index(item_id)])
        return None


class Embedder:
    """Builds Retrievals and remembers embeddings; used by one thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._release = ""
        self._held: dict[str, tuple[int, Matrix]] = {}
        self.trouble = ""  # why the last build left something out; empty when it did not

    def build(self, release: LoadedRelease, view: CatalogueView, *, now: float) -> Retrieval:
        """Embed what is new; what the model server does not embed now is left out and tried again at the next build."""
        if release.name != self._release:
            self._release, self._held = release.name, {}
        rooms = list(view.known(view.rooms))
        fresh = list(view.known(one for one in view.newest if one not in release.row_of))[:MAX_FRESH]
        self._forget({item.item_id for item in (*rooms, *fresh)})
        self._embed(release, (*rooms, *fresh), now)
        kinds = (view.items.get(one) for one in release.item_ids)
        shown = tuple(item.content_type if item is not None and item.shown else "" for item in kinds)
        return Retrieval(release, shown, self._index(release, rooms), self._index(release, fresh))

    def _forget(self, keep: set[str]) -> None:
        self._held = {one: held for one, held in self._held.items() if one in keep}

    def _embed(self, release: LoadedRelease, items: Iterable[Item], now: float) -> None:
        missing = [item for item in items if self._held.get(item.item_id, (None,))[0] != item.fingerprint]
        self.trouble = ""
        for start in range(0, len(missing), EMBED_BATCH):
            batch = missing[start : start + EMBED_BATCH]
            rows = [_item_row(item, now) for item in batch]
            tensors = release.encoder.encode(rows, ITEM_TENSORS)
            try:
                vectors = self._models.embed_item(release.manifest.version, tensors, timeout_s=EMBED_TIMEOUT_S)
            except (ModelUnavailable, ModelRefused) as error:
                self.trouble = str(error)
                return
            self._held.update((item.item_id, (item.fingerprint, v)) for item, v in zip(batch, vectors, strict=True))

    def _index(self, release: LoadedRelease, items: Sequence[Item]) -> ExactIndex:
        held = [(item.item_id, self._held[item.item_id][1]) for item in items if item.item_id in self._held]
        width = release.embeddings.shape[1]
        matrix = np.stack([vector for _, vector in held]) if held else np.zeros((0, width), np.float32)
        return ExactIndex(tuple(one for one, _ in held), matrix)


def _item_row(item: Item, now: float) -> dict[str, object]:
    """A snapshot of which only the item's side counts."""
    known = Known(_NOBODY, item.held.values(now), _NO_CREATOR, _NO_PAIR)
    return dict(snapshot("", item.item_id, known, now=now, surface=Surface.HOME))
