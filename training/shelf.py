"""What the `recommend` signature knows of items: their attributes and statistics as of the export, of a bounded number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from events.schema import ContentType, FeatureValue, Surface
from features.definitions import BY_ENTITY, Entity
from features.snapshot import read_known, snapshot
from features.state import value
from features.store import OnlineStore
from training.data import Mask

LIMIT = 100_000  # media: half the most played, half the newest of the rest; rooms that are live come on top
CHUNK = 4096  # items read at once
NOBODY = ""  # a viewer of whom nothing is known: what needs viewer and item together is as for one who never met it
_ITEM = {feature.name: feature for feature in BY_ENTITY[Entity.ITEM]}


@dataclass(frozen=True)
class Shelf:
    """Items by id, [n] each: snapshot rows without a viewer, and which were live rooms as of the export."""

    ids: tuple[str, ...]
    rows: Sequence[Mapping[str, FeatureValue]]
    live: Mask


def shelf_of(store: OnlineStore, *, now: float, limit: int = LIMIT) -> Shelf:
    """Every room live at `now` (epoch seconds), then at most `limit` shown media, each as the store knows it then."""
    rooms = store.live_rooms(now)
    ids = (*rooms, *_chosen(store, set(rooms), now=now, limit=limit))
    rows = [row for some in _chunks(ids) for row in _rows(store, some, now)]
    return Shelf(ids, rows, np.arange(len(ids)) < len(rooms))


def _chosen(store: OnlineStore, rooms: set[str], *, now: float, limit: int) -> list[str]:
    """Shown media, sorted by id; beyond the limit the most played and the newest of them."""
    found: list[tuple[str, float, float]] = []  # id, plays, published at
    for some in _chunks([one for one in store.ids(Entity.ITEM) if one not in rooms]):
        for item_id, state in zip(some, store.read(Entity.ITEM, some), strict=True):
            kind, shown, plays, published = (
                value(_ITEM[name], state, now) for name in ("content_type", "shown", "plays", "published_at")
            )
            if "content_type" in state and kind != ContentType.LIVE and shown > 0:
                found.append((item_id, float(plays), float(published or 0.0)))
    if len(found) > limit:
        found.sort(key=lambda one: (-one[1], one[0]))
        played, rest = found[: limit // 2], found[limit // 2 :]
        rest.sort(key=lambda one: (-one[2], one[0]))
        found = played + rest[: limit - len(played)]
    return sorted(item_id for item_id, _, _ in found)


def _rows(store: OnlineStore, ids: Sequence[str], now: float) -> list[dict[str, FeatureValue]]:
    known = read_known(store, NOBODY, ids, now=now)
    return [snapshot(NOBODY, one, it, now=now, surface=Surface.HOME) for one, it in zip(ids, known, strict=True)]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), CHUNK):
        yield ids[begin : begin + CHUNK]
