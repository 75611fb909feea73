"""Item attributes in memory, over the online store: what engagement events need to know of the thing they are about."""

from collections.abc import Iterable, Mapping
from typing import Any

from features.definitions import FEATURES, Entity
from features.state import EntityState
from features.store import OnlineStore

# The attributes that definitions ask for as `item.<name>`, and the creator, whom events without one are credited to.
ATTRIBUTES = frozenset(
    path.removeprefix("item.")
    for feature in FEATURES
    for take in feature.on.values()
    for path in (take.key, take.value)
    if path.startswith("item.")
) | {"creator_id"}
_NOTHING: Mapping[str, Any] = {}


def attributes_of(state: EntityState) -> dict[str, Any]:
    """The attributes held by an item's state (each the last by event time)."""
    return {name: state[name][1] for name in ATTRIBUTES if state.get(name) is not None}


class ItemCatalogue:
    """`features.state.Catalogue` over a bounded cache; an id that nobody has published is asked for again each time."""

    def __init__(self, store: OnlineStore, *, size: int) -> None:
        self._store = store
        self._size = size
        self._items: dict[str, Mapping[str, Any]] = {}

    def attributes(self, item_id: str) -> Mapping[str, Any]:
        """Attribute values by name; empty if unknown."""
        return self._items.get(item_id, _NOTHING)

    def fetch(self, item_ids: Iterable[str]) -> None:
        """Read those that are not in memory from the store, at once."""
        while len(self._items) > self._size:  # before the look-up, so that nothing needed now is dropped
            del self._items[next(iter(self._items))]
        missing = self.unknown(item_ids)
        for item_id, state in zip(missing, self._store.read(Entity.ITEM, missing) if missing else (), strict=True):
            if attributes := attributes_of(state):
                self._items[item_id] = attributes

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Those not in memory."""
        return [one for one in dict.fromkeys(item_ids) if one not in self._items]

    def publish(self, item_id: str, state: EntityState) -> None:
        """An item's attributes changed."""
        self._items[item_id] = attributes_of(state)

    def clear(self) -> None:
        """Forget all: the store was set back."""
        self._items.clear()
