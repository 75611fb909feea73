"""Redis connections whose time limit holds for everything a thread does within it.

A socket's own limit holds for each read: a server whose answer comes in drops would never be late.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.connection import Connection

_now = threading.local()


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Reads of the calling thread from punctual connections end by then; None: each has the connection's own limit."""
    _now.until = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _now.until = None


class PunctualSocket(socket.socket):
    """A socket that waits for the shorter of its own limit and what is left of `within`.

    Past the limit it still gives what has already come: its thread may have waited for the processor, not for the server.
    """

    _own: float | None = None

    @classmethod
    def of(cls, plain: socket.socket) -> "PunctualSocket":
        """The same connection; `plain` is empty afterwards."""
        own = plain.gettimeout()
        held = cls(plain.family, plain.type, plain.proto, plain.detach())
        held.settimeout(own)
        return held

    def settimeout(self, value: float | None, /) -> None:
        """Set its own limit."""
        self._own = value
        super().settimeout(value)

    def recv_into(self, *args: Any, **named: Any) -> int:
        """Receive; TimeoutError at the limit."""
        self._limit()
        try:
            return super().recv_into(*args, **named)
        except BlockingIOError:
            if self._own == 0:
                raise
            raise TimeoutError("timed out") from None

    def recv(self, *args: Any, **named: Any) -> bytes:
        """Receive; TimeoutError at the limit."""
        self._limit()
        try:
            return super().recv(*args, **named)
        except BlockingIOError:
            if self._own == 0:
                raise
            raise TimeoutError("timed out") from None

    def sendall(self, *args: Any, **named: Any) -> None:
        """Send; TimeoutError at the limit."""
        self._limit()
        super().sendall(*args, **named)

    def _limit(self) -> None:
        until: float | None = getattr(_now, "until", None)
        if until is None or self._own == 0:
            super().settimeout(self._own)
        else:
            left = max(until - time.monotonic(), 0.0)
            super().settimeout(left if self._own is None else min(left, self._own))


class PunctualConnection(Connection):
    """A connection over a PunctualSocket."""

    def _connect(self) -> Any:
        return PunctualSocket.of(super()._connect())  # type: ignore[no-untyped-call]
