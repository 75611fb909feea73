"""The HTTP server of the REST API and the metrics: loopback, keep-alive, bounded bodies, no patience with slow clients."""

import io
import logging
import socket
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

import grpc

from stack.model_server.errors import ServingError
from stack.model_server.inference import Terms
from stack.model_server.observer import Observer
from stack.model_server.prometheus import PrometheusObserver
from stack.model_server.rest_routes import CORS, JSON, Reply, Routes, error_json
from stack.model_server.table import ModelTable

log = logging.getLogger("model_server")
LOOPBACK = "127.0.0.1"
STOP_GRACE_S = 2.0
LINGER_S = 0.5
MOST_HEX_DIGITS = 8
BAD_REQUEST, TOO_SLOW, TOO_LARGE, BUSY = 400, 408, 413, 503


@dataclass(frozen=True)
class RestOptions:
    """How the REST port runs; names follow upstream's flags."""

    port: int  # 0 takes a free one
    threads: int = 8  # requests that run at once
    timeout_s: float = 30.0  # of one run of a model; 0 sets no limit
    cors: bool = False
    metrics_path: str = ""  # empty: no metrics
    check_method: bool = False  # classify and regress only by signatures declared for them
    read_timeout_s: float = 30.0  # from the start of waiting for a request until its last byte
    most_bytes: int = 64 * 2**20  # of a body, after decompression too
    most_connections: int = 256


class RestServer:
    """A running REST server: `start()` opens the port, `stop()` lets running requests finish and closes it."""

    def __init__(
        self,
        table: ModelTable,
        observer: Observer,
        options: RestOptions,
        *,
        page: Callable[[], str] | None = None,
    ) -> None:
        if page is None and isinstance(observer, PrometheusObserver):
            page = observer.page
        self._options = options
        terms = Terms(options.timeout_s or None, observer, check_method=options.check_method)
        self._routes = Routes(table, terms, cors=options.cors)
        self._page = page
        self._slots = threading.Semaphore(options.threads)
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The bound port, 0 before `start()`."""
        return int(self._http.server_address[1]) if self._http else 0

    def start(self) -> None:
        """Open the port and serve in threads of its own; ServingError when the port cannot be had."""
        try:
            self._http = _Http(self._options, self._answer)
        except OSError:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, f"port {self._options.port} is taken or not allowed"
            ) from None
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End accepting, give running requests a moment, close every connection."""
        if self._http is None or self._thread is None:
            return
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up(STOP_GRACE_S)
        self._http.server_close()

    def _answer(self, method: str, path: str, *, body: bytes, origin: str) -> Reply:
        with self._slots:
            if self._page is not None and path == self._options.metrics_path:
                return Reply(200, self._page().encode(), {"Content-Type": "text/plain"} | self._cors())
            return self._routes.answer(method, path, body=body, origin=origin)

    def _cors(self) -> dict[str, str]:
        return CORS if self._options.cors else {}


class _Http(HTTPServer):
    """Accepts connections, each in a thread, up to a bound; knows them all, to end them."""

    request_queue_size = 128

    def __init__(self, options: RestOptions, answer: Callable[..., Reply]) -> None:
        self.options = options
        self.answer = answer
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((LOOPBACK, options.port), _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name that the standard server makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; beyond the bound it is closed with 503."""
        with self._changed:
            room = len(self._open) < self.options.most_connections
            if room:
                self._open.add(request)
        if not room:
            request.settimeout(1.0)
            body = error_json(f"more than {self.options.most_connections} connections are open").encode()
            _send(request, Reply(BUSY, body, JSON), close=True)
            self.shutdown_request(request)
            return
        threading.Thread(target=self._serve, args=(request, client_address), name="rest-client", daemon=True).start()

    def hang_up(self, grace_s: float) -> None:
        """End reading on every connection, so that idle ones close and running requests still answer; wait for them."""
        with self._changed:
            for connection in self._open:
                _end_reading(connection)
            self._changed.wait_for(lambda: not self._open, grace_s)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except (ConnectionError, TimeoutError):
            log.debug("the client at %s went away", client_address)
        except Exception:
            log.exception("a REST connection failed inside the server")
        finally:
            with self._changed:
                self._open.discard(request)
                self._changed.notify_all()
            self.shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests off one connection and writes their replies."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Read through a deadline, which a client that sends a byte now and then cannot move."""
        super().setup()
        self._reader = _UntilDeadline(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """One request within its time to arrive."""
        self._options = cast(_Http, self.server).options
        self._reader.deadline = time.monotonic() + self._options.read_timeout_s
        super().handle_one_request()

    def serve(self) -> None:
        """Read the body and answer."""
        try:
            body = self._body()
        except _Refused as refused:
            self._reply(Reply(refused.status, error_json(str(refused)).encode(), JSON), close=True)
            _linger(self.connection)
            return
        except TimeoutError:
            text = error_json(f"the request did not arrive within {self._options.read_timeout_s:g} s")
            self._reply(Reply(TOO_SLOW, text.encode(), JSON), close=True)
            return
        path = self.path.removeprefix(f"http://{self.headers.get('Host', '')}").split("?")[0].split("#")[0]
        answer = cast(_Http, self.server).answer
        self._reply(answer(self.command, path, body=body, origin=self.headers.get("Origin", "")))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard server refuses (request line, headers), as JSON."""
        self._reply(Reply(code, error_json(message or responses.get(code, "")).encode(), JSON), close=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet about every request: the metrics count them."""
        log.debug(format, *args)

    def _reply(self, reply: Reply, *, close: bool = False) -> None:
        self.close_connection = self.close_connection or close
        self.connection.settimeout(self._options.read_timeout_s)
        _send(self.connection, reply, close=self.close_connection, head=self.command == "HEAD")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length")
        chunked = self.headers.get("Transfer-Encoding")
        if length is not None and chunked is not None:
            raise _Refused(BAD_REQUEST, "Content-Length and Transfer-Encoding must not both be given")
        if chunked is not None and chunked.lower() != "chunked":
            raise _Refused(BAD_REQUEST, f"Transfer-Encoding {chunked!r} is not allowed: chunked")
        if length is not None and not (length.isascii() and length.isdigit()):
            raise _Refused(BAD_REQUEST, f"Content-Length {length!r} is not a count of bytes")
        body = self._chunks() if chunked else self._exactly(self._bounded(int(length or 0)))
        return self._unzipped(body) if self.headers.get("Content-Encoding", "").lower() == "gzip" else body

    def _chunks(self) -> bytes:
        out = bytearray()
        while True:
            text = self.rfile.readline(128).split(b";")[0].strip()
            try:
                size = int(text, 16) if text.isalnum() and len(text) <= MOST_HEX_DIGITS else -1
            except ValueError:
                size = -1
            if size < 0:
                raise _Refused(BAD_REQUEST, f"chunk size {text[:20]!r} is not a hexadecimal count of bytes")
            if size == 0:
                break
            self._bounded(len(out) + size)
            out += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise _Refused(BAD_REQUEST, "a chunk is longer than its size says")
        while self.rfile.readline(1024).strip():  # trailers, which nothing here reads
            continue
        return bytes(out)

    def _exactly(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("the client closed within a request")
        return body

    def _bounded(self, size: int) -> int:
        most = self._options.most_bytes
        if size > most:
            raise _Refused(TOO_LARGE, f"a body of {size} bytes is too large: {most} at most")
        return size

    def _unzipped(self, body: bytes) -> bytes:
        most = self._options.most_bytes
        inflate = zlib.decompressobj(wbits=31)
        try:
            out = inflate.decompress(body, most + 1)
        except zlib.error:
            raise _Refused(BAD_REQUEST, "the body is not gzip, as Content-Encoding says") from None
        if len(out) > most:
            raise _Refused(TOO_LARGE, f"a body of more than {most} bytes is too large: {most} at most")
        return out


class _Refused(Exception):
    """A request that is not read to its end."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _UntilDeadline(io.RawIOBase):
    """A connection's incoming bytes; TimeoutError once `deadline` (monotonic seconds) has passed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        """It reads."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes until the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _send(connection: socket.socket, reply: Reply, *, close: bool, head: bool = False) -> None:
    """Headers and body in one write: two would wait for the client's acknowledgement in between."""
    headers = reply.headers | {"Content-Length": str(len(reply.body))} | ({"Connection": "close"} if close else {})
    lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, 'Client Closed Request')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else reply.body))


def _linger(connection: socket.socket) -> None:
    """Read on for a moment after the last reply: closing on unread bytes resets the connection and loses the reply."""
    end = time.monotonic() + LINGER_S
    try:
        connection.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return
    except OSError:
        log.debug("the client was still sending or has gone")


def _end_reading(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        log.debug("a connection was closed already")
