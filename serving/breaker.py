"""Stops asking a part that does not answer: requests then cost nothing instead of its whole time limit."""

import threading
import time
from dataclasses import dataclass, field


@dataclass
class Breaker:
    """Open for `rest_s` after `failures` in a row; then one more failure opens it again. Safe among threads."""

    failures: int = 3
    rest_s: float = 0.5
    trouble: str = ""  # what the last failure said; empty since the last answer
    _failed: int = 0
    _open_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_open(self) -> bool:
        """Whether not to ask now."""
        return time.monotonic() < self._open_until

    def answered(self) -> None:
        """The part answered."""
        with self._lock:
            self._failed, self._open_until, self.trouble = 0, 0.0, ""

    def failed(self, trouble: str) -> None:
        """The part did not answer."""
        with self._lock:
            self._failed += 1
            self.trouble = trouble
            if self._failed >= self.failures:
                self._open_until = time.monotonic() + self.rest_s
