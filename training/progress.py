"""How training tells its caller where it is: one callback, called at least once an epoch."""

from typing import Protocol


class Report(Protocol):
    """Receives progress; `done` of `total` steps of `stage`, with a note for people."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show or record it; must not raise."""
        ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""
