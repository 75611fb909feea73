"""What can be retrieved: every media item of the store, and the hosts that samples have met, encoded for the item tower."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from events.schema import ContentType
from features.definitions import Entity
from features.encoder import ITEM_TENSORS, Encoder, Tensor
from features.state import values
from features.store import OnlineStore
from training.data import Mask, SampleColumns

_NAMES = ("content_type", "category", "tags", "language", "creator_id", "duration_s")


@dataclass(frozen=True)
class Catalogue:
    """Items by key, [n] each; `shown` media are what an index holds (rooms come and go, so they never do)."""

    keys: Tensor
    rows: tuple[Mapping[str, Any], ...]  # snapshot values the item tower reads
    shown: Mask

    def tensors(self, encoder: Encoder) -> dict[str, Tensor]:
        """ITEM_TENSORS of every item."""
        return encoder.encode(self.rows, ITEM_TENSORS)

    def column(self, name: str) -> Tensor:
        """An item feature as words, e.g. `content_type`."""
        return np.array([str(row[f"item.{name}"]) for row in self.rows], dtype=np.str_)


def catalogue_of(store: OnlineStore, samples: SampleColumns) -> Catalogue:
    """All media the store knows, then item keys only the samples know (hosts, and items erased since), sorted by key."""
    found: dict[str, tuple[dict[str, Any], bool]] = {}
    for row, key in zip(samples.features, samples.item_key, strict=True):
        found[str(key)] = ({"item.item_key": str(key)} | {f"item.{n}": row.get(f"item.{n}") for n in _NAMES}, False)
    ids = store.ids(Entity.ITEM)
    for item_id, state in zip(ids, store.read(Entity.ITEM, ids), strict=True):
        known = values(Entity.ITEM, state, 0.0)
        if "content_type" in state and known["content_type"] != ContentType.LIVE:
            row = {"item.item_key": item_id} | {f"item.{n}": known[n] for n in _NAMES}
            found[item_id] = (row, known["shown"] > 0)
    keys = sorted(found)
    shown = np.array([found[key][1] for key in keys], dtype=np.bool_)
    return Catalogue(np.array(keys, dtype=np.str_), tuple(found[key][0] for key in keys), shown)
