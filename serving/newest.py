"""The most lately published media in order, kept as they come and go instead of being sorted out of the whole catalogue."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import nsmallest

NEWEST = 10_000  # twice what is embedded beside the index, and far more than a request asks for
Key = tuple[float, str]  # (minus publish time, id): newest first, ties by id


class Newest:
    """At most `size` ids, newest first. Used by one thread; what `ids` returns may be read by any."""

    def __init__(self, size: int = NEWEST) -> None:
        self._size = size
        self._keys: list[Key] = []
        self._key_of: dict[str, Key] = {}
        self._cut = False  # whether something older was left out
        self._ids: tuple[str, ...] | None = ()

    def put(self, item_id: str, published_at: float) -> None:
        """An item is there, published then."""
        key = (-published_at, item_id)
        if self._key_of.get(item_id) == key:
            return
        self.drop(item_id)
        if self._cut and (not self._keys or key > self._keys[-1]):
            return  # older than what was left out may be
        insort(self._keys, key)
        self._key_of[item_id] = key
        self._ids = None
        if len(self._keys) > self._size:
            del self._key_of[self._keys.pop()[1]]
            self._cut = True

    def drop(self, item_id: str) -> None:
        """An item is gone."""
        key = self._key_of.pop(item_id, None)
        if key is not None:
            del self._keys[bisect_left(self._keys, key)]
            self._ids = None

    @property
    def is_short(self) -> bool:
        """Whether so many have gone that those left out should be asked for again."""
        return self._cut and len(self._keys) < self._size // 2

    def refill(self, every: Iterable[tuple[str, float]]) -> None:
        """Start again from every item with its publish time."""
        keys = nsmallest(self._size + 1, ((-at, one) for one, at in every))
        self._cut = len(keys) > self._size
        self._keys = keys[: self._size]
        self._key_of = {key[1]: key for key in self._keys}
        self._ids = None

    def ids(self) -> tuple[str, ...]:
        """Newest first, equal times by id."""
        if self._ids is None:
            self._ids = tuple(one for _, one in self._keys)
        return self._ids
