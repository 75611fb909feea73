"""The proxy's HTTP answers by value: JSON bodies, one sentence for every error, and how they are sent over ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
JSON = "application/json"
_ENCODER = msgspec.json.Encoder()


class Answer(Struct, frozen=True, kw_only=True):
    """One answer."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def as_json(body: Any, status: int = 200, *, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A JSON answer."""
    return Answer(body=_ENCODER.encode(body), status=status, headers=headers)


def error(sentence: str, status: int, *, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """`{"error": "one sentence"}`; no control character of what the client sent comes back."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in sentence)
    return as_json({"error": shown}, status, headers=headers)


async def send_answer(answer: Answer, send: Send) -> None:
    """Send it whole."""
    head = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    head += [(name.encode(), value.encode("ascii", "replace")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": head})
    await send({"type": "http.response.body", "body": answer.body})


async def live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan: there is nothing to start, the caller owns the parts."""
    while True:
        message = await receive()
        name = message["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{name}.complete"})
        if name == "shutdown":
            return


def plain(sentence: str, status: int) -> bytes:
    """A whole HTTP/1.1 answer that closes its connection, for what is no request."""
    body = _ENCODER.encode({"error": sentence})
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body
