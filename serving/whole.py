"""A whole read of the catalogue under way, beside which announcements are followed."""

from collections.abc import Iterable


class Whole:
    """A whole read under way: what is left of it, and what it has seen."""

    def __init__(self, ids: list[str]) -> None:
        self.left = ids
        self.creators: set[str] = set()  # read since it began
        self._listed = frozenset(ids)
        self._since: set[str] = set()

    def followed(self, ids: Iterable[str]) -> None:
        """These were announced meanwhile, and read."""
        if self.left:
            self._since.update(ids)

    def has(self, item_id: str) -> bool:
        """Whether an item was listed, or announced since."""
        return item_id in self._listed or item_id in self._since
