"""Hostile bytes against a proxy that really listens: each is refused or dropped, and the next request is answered."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from serving.connections import ConnectionConfig, guarded
from serving.http import FEED, create_app
from tests.serving.small_world import NOW, SmallWorld

BOUNDS = ConnectionConfig(head_bytes=32_768, request_s=0.6, linger_s=0.5, connections=40)
HEAD = b"Host: x\r\nX-Livefeed-Now: %d\r\n" % NOW
GOOD = b"GET " + FEED.encode() + b"?user_id=u1 HTTP/1.1\r\n" + HEAD + b"\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    world = SmallWorld(tmp_path_factory.mktemp("world")).fill()
    world.release()
    proxy = world.proxy()
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(proxy.parts, proxy.clock), loop="uvloop", http=guarded(BOUNDS), ws="none", access_log=False,
        log_config=None, log_level="error", timeout_keep_alive=1, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    while True:
        try:
            some = connection.recv(65_536)
        except ConnectionResetError:
            return found
        if not some:
            return found
        found += some


def said(port: int, raw: bytes) -> bytes:
    """The answer to these bytes, and then the end of the connection, within ten seconds."""
    with connect(port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        return everything(connection)


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def still_answers(port: int) -> bool:
    return statuses(said(port, GOOD.replace(HEAD, HEAD + b"Connection: close\r\n"))) == [200]


def get(target: bytes, headers: bytes = HEAD) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n"


FEED_LINE = FEED.encode() + b"?user_id=u1"
HOSTILE: dict[str, tuple[bytes, int]] = {
    "nonsense": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, 400),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no method": (b" / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an unknown method": (b"FEED / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no version": (b"GET " + FEED_LINE + b" HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "a space in the path": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "NUL in the path": (get(b"/\x00"), 400),
    "NUL in a header": (get(FEED_LINE, HEAD + b"X-A: \x00\r\n"), 400),
    "raw bytes in the query": (get(FEED_LINE + b"\xff\xfe"), 400),
    "invalid UTF-8": (get(FEED.encode() + b"?user_id=%c3%28"), 400),
    "a surrogate": (get(FEED.encode() + b"?user_id=%ed%a0%80"), 400),
    "overlong UTF-8": (get(FEED.encode() + b"?user_id=%c0%ae"), 400),
    "an escaped NUL": (get(FEED.encode() + b"?user_id=a%00b"), 400),
    "a folded header": (get(FEED_LINE, HEAD + b"X-A: a\r\n b\r\n"), 400),
    "a space before the colon": (get(FEED_LINE, HEAD + b"X-A : a\r\n"), 400),
    "a bare CR": (get(FEED_LINE, HEAD + b"X-A: a\rX-B: b\r\n"), 400),
    "no host": (get(FEED_LINE, b""), 400),
    "two hosts": (get(FEED_LINE, HEAD + b"Host: y\r\n"), 400),
    "two lengths": (get(FEED_LINE, HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n") + b"abcd", 400),
    "a negative length": (get(FEED_LINE, HEAD + b"Content-Length: -1\r\n"), 400),
    "a length beyond numbers": (get(FEED_LINE, HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n"), 400),
    "length and chunks": (
        get(FEED_LINE, HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400,
    ),
    "chunks that are none": (get(FEED_LINE, HEAD + b"Transfer-Encoding: chunked\r\n") + b"zz\r\n", 400),
    "an endless chunk": (get(FEED_LINE, HEAD + b"Transfer-Encoding: chunked\r\n") + b"f" * 30 + b"\r\n", 400),
    "an unknown encoding": (get(FEED_LINE, HEAD + b"Transfer-Encoding: gzip\r\n"), 400),
    "a body that waits to be asked for": (get(FEED_LINE, HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n"), 400),
    "a long URL": (get(FEED_LINE + b"&locale=" + b"a" * 9_000), 414),
    "an endless URL": (b"GET /" + b"a" * 400_000, 414),
    "a long header": (get(FEED_LINE, HEAD + b"X-A: " + b"a" * 20_000 + b"\r\n"), 431),
    "many headers": (get(FEED_LINE, HEAD + b"A: b\r\n" * 1_000), 431),
    "an endless header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 400_000, 431),
    "headers without end": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 60_000, 431),
    "an upgrade": (get(FEED_LINE, HEAD + b"Upgrade: websocket\r\n").replace(b"close", b"Upgrade"), 200),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "another site": (get(b"http://evil.example" + FEED_LINE), 200),
    "dots": (get(b"/api/v1/../../admin/versions"), 404),
    "an escaped line end": (get(b"/%0d%0aX-Evil:%201"), 404),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_get_one_answer_and_the_next_request_is_served(port: int, name: str) -> None:
    raw, status = HOSTILE[name]
    answer = said(port, raw)
    assert statuses(answer) == [status]
    assert b"Traceback" not in answer
    assert b"X-Evil:" not in answer.partition(b"\r\n\r\n")[0]
    assert still_answers(port)


def test_who_sends_nothing_is_told_and_let_go(port: int) -> None:
    assert statuses(said(port, b"")) == [408]


@pytest.mark.parametrize("trickle", [b"\r\n", b"X-A: b\r\n"])
def test_who_sends_a_line_now_and_then_is_let_go(port: int, trickle: bytes) -> None:
    """Slowloris: a connection is not kept by trickling headers, nor by empty lines."""
    with connect(port) as connection:
        if trickle != b"\r\n":
            connection.sendall(b"GET / HTTP/1.1\r\n")
        ended = threading.Event()
        reader = threading.Thread(target=lambda: (everything(connection), ended.set()))
        reader.start()
        for _ in range(200):
            if ended.wait(0.05):
                break
            try:
                connection.sendall(trickle)
            except OSError:
                break
        assert ended.wait(5.0)
        reader.join()
    assert still_answers(port)


def test_empty_lines_after_an_answer_keep_no_connection(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(GOOD)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        ended = threading.Event()
        threading.Thread(target=lambda: (everything(connection), ended.set()), daemon=True).start()
        for _ in range(200):
            if ended.wait(0.05):
                break
            try:
                connection.sendall(b"\r\n")
            except OSError:
                break
        assert ended.wait(5.0)


def test_requests_sent_at_once_are_answered_in_order(port: int) -> None:
    ids = [b"a", b"b", b"c"]
    raw = b"".join(GOOD.replace(b"u1", one) for one in ids[:-1])
    answer = said(port, raw + GOOD.replace(b"u1", b"c").replace(HEAD, HEAD + b"Connection: close\r\n"))
    assert statuses(answer) == [200, 200, 200]
    places = [answer.index(b'"user_id":"' + one + b'"') for one in ids]
    assert places == sorted(places)


def test_nonsense_after_a_request_ends_the_connection_and_no_more(port: int) -> None:
    said(port, GOOD + b"\x00\x01nonsense\r\n\r\n")
    assert still_answers(port)


def test_who_hangs_up_in_the_middle_hurts_nobody(port: int) -> None:
    for cut in range(1, len(GOOD), 7):
        with connect(port) as connection:
            connection.sendall(GOOD[:cut])
    for _ in range(20):
        with connect(port) as connection:
            connection.sendall(GOOD)
    assert still_answers(port)


def test_more_connections_than_allowed_are_told_so(port: int) -> None:
    held = [connect(port) for _ in range(BOUNDS.connections)]
    try:
        until = time.monotonic() + 10
        while statuses(said(port, b"")) != [503]:
            assert time.monotonic() < until
    finally:
        for one in held:
            one.close()
    until = time.monotonic() + 10
    while not still_answers(port):
        assert time.monotonic() < until
