"""How much one viewer, one address and all of them together may ask of a proxy process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_KEYS = 50_000  # buckets remembered; the one not asked for longest goes, and would be full again soon anyway


@dataclass(frozen=True)
class LimitConfig:
    """What a process answers; it is one of several workers, and each has its own count."""

    viewer_per_s: float = 100.0  # feeds a viewer; 0: any number
    address_per_s: float = 2_000.0  # requests an address, but of health and readiness; 0: any number
    burst_s: float = 2.0  # seconds' worth that may come at once
    feeds_at_once: int = 32  # feeds under way; more are shed to trending
    shed_at_once: int = 512  # feeds being shed; more get 503
    url_bytes: int = 8_192
    header_bytes: int = 16_384
    headers: int = 64


class Rates:
    """A token bucket a key, in bounded memory. For one thread."""

    def __init__(
        self, per_s: float, burst: float, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_KEYS
    ) -> None:
        self._per_s, self._burst, self._clock, self._most = per_s, max(burst, 1.0), clock, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> tokens as of when

    def wait_s(self, key: str) -> float:
        """Take one: 0 when there was one, else seconds until there will be."""
        if self._per_s <= 0:
            return 0.0
        now = self._clock()
        tokens, at = self._left.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._per_s
        self._left[key] = (tokens if wait else tokens - 1.0, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._left)


class Gate:
    """Lets so many in at once; safe among threads."""

    def __init__(self, most: int) -> None:
        self._most, self._inside, self._lock = most, 0, threading.Lock()

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Whether there was room; it is given back at the end."""
        with self._lock:
            room = self._inside < self._most
            self._inside += room
        try:
            yield room
        finally:
            with self._lock:
                self._inside -= room
