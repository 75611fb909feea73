"""What the catalogue tells whoever follows which row holds which item."""

from typing import Protocol


class Learner(Protocol):
    """Follows which row holds which item."""

    def item(self, item_id: str, row: int) -> None:
        """The item has that row."""
        ...

    def gone(self, item_id: str, row: int) -> None:
        """The item is gone from it."""
        ...

    def creator(self, creator_id: str, row: int) -> None:
        """The creator has that row."""
        ...
