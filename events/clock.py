"""The one source of "now": the wall clock in production, a hand-set one in worlds, replays and tests."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is, as UTC epoch seconds."""

    def now(self) -> float:
        """Epoch seconds, UTC."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> float:
        """Epoch seconds, UTC."""
        return time.time()


class SetClock:
    """A clock that stands where it was last set."""

    def __init__(self, at: float) -> None:
        self._at = at

    def now(self) -> float:
        """Epoch seconds, UTC."""
        return self._at

    def set(self, at: float) -> None:
        """Move the clock to `at` epoch seconds."""
        self._at = at


def utc(at: float) -> datetime:
    """Epoch seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(at, tz=UTC)
