"""The REST port as an HTTP server: kept connections, bodies in every wrapping, and clients that mean no good."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stack.model_server.errors import ServingError
from stack.model_server.prometheus import PrometheusObserver
from stack.model_server.rest import RestOptions, RestServer
from stack.model_server.table import ModelTable
from tests.stack.numpy_models import Api, Fake, doing, fake_table

PREDICT = "/v1/models/line:predict"
BODY = b'{"instances": [2.0]}'
ANSWER = {"predictions": [5.0]}
LOOK = b"GET /v1/models/line HTTP/1.1\r\nConnection: close\r\n\r\n"
Serve = Callable[..., RestServer]


@pytest.fixture(scope="module")
def loaded() -> dict[tuple[str, int], Fake]:
    return {}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, loaded: dict[tuple[str, int], Fake]) -> ModelTable:
    return fake_table(Path(tmp_path_factory.mktemp("models")), loaded)


@pytest.fixture
def serve(table: ModelTable) -> Iterator[Serve]:
    """Starts REST servers with options of their own and stops them after the test."""
    servers: list[RestServer] = []

    def start(**options: Any) -> RestServer:
        server = RestServer(table, PrometheusObserver(), RestOptions(port=0, **options))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def raw(port: int, request: bytes) -> socket.socket:
    """A connection on which these bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(request)
    return connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes or, turning a connection away, resets it."""
    out = b""
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(65536):
            out += part
    return out


def post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def test_one_connection_carries_many_requests(serve: Serve) -> None:
    api = Api(serve().port)
    api.post(PREDICT, BODY)
    first = api.connection.sock
    assert api.post(PREDICT, BODY) == (200, ANSWER)
    assert api.connection.sock is first


def test_a_refused_request_leaves_the_connection_open(serve: Serve) -> None:
    api = Api(serve().port)
    assert api.post(PREDICT, b"{")[0] == 400
    first = api.connection.sock
    assert api.post(PREDICT, BODY) == (200, ANSWER)
    assert api.connection.sock is first


def test_a_body_may_come_in_chunks(serve: Serve) -> None:
    chunks = b"5\r\n" + BODY[:5] + b"\r\nF;note=1\r\n" + BODY[5:] + b"\r\n0\r\nTrailer: 1\r\n\r\n"
    request = post("Transfer-Encoding: chunked", "Connection: close", body=chunks)
    assert everything(raw(serve().port, request)).endswith(b'"predictions": [5.0\n    ]\n}')


def test_a_body_may_be_gzip(serve: Serve) -> None:
    headers = {"Content-Encoding": "gzip"}
    status, text, _ = Api(serve().port).ask("POST", PREDICT, body=gzip.compress(BODY), headers=headers)
    assert (status, json.loads(text)) == (200, ANSWER)


def test_a_head_request_is_answered_without_a_body(serve: Serve) -> None:
    status, text, headers = Api(serve().port).ask("HEAD", "/v1/models/line")
    assert (status, text) == (400, "")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        (("Content-Length: 1001",), b"", 413, "a body of 1001 bytes is too large: 1000 at most"),
        (("Content-Length: 99999999999999999999999",), b"", 413, "is too large: 1000 at most"),
        (("Content-Length: -1",), b"", 400, "Content-Length '-1' is not a count of bytes"),
        (("Content-Length: ten",), b"", 400, "Content-Length 'ten' is not a count of bytes"),
        (("Content-Length: 2", "Transfer-Encoding: chunked"), b"{}", 400, "must not both be given"),
        (("Transfer-Encoding: gzip",), b"", 400, "Transfer-Encoding 'gzip' is not allowed: chunked"),
        (("Transfer-Encoding: chunked",), b"zz\r\n", 400, "is not a hexadecimal count of bytes"),
        (("Transfer-Encoding: chunked",), b"FFFFFFFFF\r\n", 400, "is not a hexadecimal count of bytes"),
        (("Transfer-Encoding: chunked",), b"3E9\r\n", 413, "a body of 1001 bytes is too large: 1000 at most"),
        (("Transfer-Encoding: chunked",), b"1\r\n{}\r\n", 400, "a chunk is longer than its size says"),
        (("Content-Encoding: gzip", "Content-Length: 2"), b"{}", 400, "the body is not gzip"),
    ],
)
def test_a_body_that_is_too_large_or_wrongly_wrapped_is_refused_unread(
    serve: Serve, headers: tuple[str, ...], body: bytes, status: int, words: str
) -> None:
    reply = everything(raw(serve(most_bytes=1000).port, post(*headers, body=body))).decode()
    head, text = reply.split("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert words in json.loads(text)["error"]


def test_a_client_that_sends_on_regardless_still_gets_its_refusal(serve: Serve) -> None:
    api = Api(serve(most_bytes=1000).port)
    status, body = api.post(PREDICT, b" " * 8_000_000)
    assert (status, body) == (413, {"error": "a body of 8000000 bytes is too large: 1000 at most"})


def test_a_small_body_that_unzips_to_a_large_one_is_refused(serve: Serve) -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    api = Api(serve(most_bytes=10_000).port)
    assert api.ask("POST", PREDICT, body=bomb, headers={"Content-Encoding": "gzip"})[0] == 413


@pytest.mark.parametrize("request_line", [b"nonsense\r\n\r\n", b"GET /v1/models/line HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_refused_as_json(serve: Serve, request_line: bytes) -> None:
    reply = everything(raw(serve().port, request_line)).decode()
    assert "error" in json.loads(reply.split("\r\n\r\n")[1])


def test_endless_headers_are_refused(serve: Serve) -> None:
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(200))
    assert everything(raw(serve().port, b"GET /v1/models/line HTTP/1.1\r\n" + many + b"\r\n")).startswith(
        b"HTTP/1.1 431 "
    )


@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (post("Content-Length: 20", body=b'{"in'), b"HTTP/1.1 408 "),
        (b"POST /v1/mod", b""),
        (b"", b""),
    ],
    ids=["half a body", "half a line", "nothing"],
)
def test_a_client_that_stops_sending_is_let_go(serve: Serve, sent: bytes, start: bytes) -> None:
    assert everything(raw(serve(read_timeout_s=0.2).port, sent)).startswith(start)


def test_a_byte_now_and_then_buys_no_time(serve: Serve) -> None:
    connection = raw(serve(read_timeout_s=0.3).port, post("Content-Length: 1000"))
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    reply = connection.recv(12)  # the test's own time-out fails it when the server is patient
    ended.set()
    dripping.join()
    connection.close()
    assert reply == b"HTTP/1.1 408"


def test_slow_clients_take_no_turn_from_the_others(serve: Serve) -> None:
    port = serve(threads=1).port
    slow = [raw(port, post("Content-Length: 20", body=b"{")) for _ in range(5)]
    assert Api(port).post(PREDICT, BODY) == (200, ANSWER)
    for connection in slow:
        connection.close()


def test_a_connection_too_many_is_turned_away_and_room_comes_back(serve: Serve) -> None:
    port = serve(most_connections=2).port
    two = [Api(port), Api(port)]
    assert [api.post(PREDICT, BODY)[0] for api in two] == [200, 200]
    assert everything(raw(port, b"")).startswith(b"HTTP/1.1 503 ")
    two[0].connection.close()
    deadline = time.monotonic() + 10
    while (answer := everything(raw(port, LOOK))).startswith(b"HTTP/1.1 503 ") and time.monotonic() < deadline:
        continue
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_the_port_is_on_loopback_and_may_be_taken_once(serve: Serve, table: ModelTable) -> None:
    first = serve()
    with pytest.raises(ServingError, match=f"port {first.port} is taken or not allowed"):
        RestServer(table, PrometheusObserver(), RestOptions(port=first.port)).start()
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{first.port:04X} 00000000:0000 0A" in listening


def test_stopping_lets_a_running_request_finish_and_closes_idle_connections(
    serve: Serve, loaded: dict[tuple[str, int], Fake]
) -> None:
    server = serve()
    idle = raw(server.port, b"")
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        go_on.wait(10)

    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(Api(server.port).post(PREDICT, BODY)))
    with doing(loaded["line", 4], wait):
        client.start()
        assert inside.wait(10)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert everything(idle) == b""
        go_on.set()
        client.join()
        stopping.join()
    assert answers == [(200, ANSWER)]


def test_stopping_a_server_that_never_started_does_nothing(table: ModelTable) -> None:
    server = RestServer(table, PrometheusObserver(), RestOptions(port=0))
    server.stop()
    assert server.port == 0
