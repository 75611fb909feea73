"""What a connection may do to the proxy: how long a request's head may be and take, and how many connections there may be."""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.answers import plain


@dataclass(frozen=True)
class ConnectionConfig:
    """Bounds of one process; the application's own, smaller ones answer more politely."""

    head_bytes: int = 32_768  # of a request line and headers that have not ended
    request_s: float = 10.0  # from a request's first byte, or the connection's begin, to the request's end
    linger_s: float = 5.0  # for the client to take the last answer
    connections: int = 2_000


def guarded(config: ConnectionConfig) -> type[Any]:
    """uvicorn's HTTP protocol within those bounds."""
    return type("Guarded", (_Guarded,), {"bounds": config})


class _Guarded(HttpToolsProtocol):
    """Refuses what is no request in one JSON sentence, and lets nobody hold a connection without asking something."""

    bounds = ConnectionConfig()
    _deadline: asyncio.TimerHandle | None = None
    _head = 0  # bytes of the head under way
    _in_head = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._end(f"there are {self.bounds.connections} connections, and no more are allowed", 503)
            return
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head > self.bounds.head_bytes:
            status = 431 if self.headers else 414
            self._end(f"the head of the request has over {self.bounds.head_bytes} bytes, which are allowed", status)
        elif self._idle():
            self._arm()  # line ends before a request keep no connection alive

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._end("what was sent is no HTTP/1.1 request; allowed is GET with a path that /openapi.json lists", 400)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.bounds.request_s, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._idle():
            self._end(f"no whole request came within {self.bounds.request_s:g} s, which are allowed", 408)
        else:
            self._arm()  # the answer to the request before is on its way

    def _end(self, sentence: str, status: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(plain(sentence, status))
            self._close()

    def _close(self) -> None:
        """Close when the client has taken what was written, or after `linger_s`."""
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self.bounds.linger_s, self.transport.abort)
