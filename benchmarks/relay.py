"""A TCP relay on loopback that can make a server slow: what it answers is held back, and then comes in drops.

A broker tells its clients its own address; in what passes, the relay writes its own in its place.
"""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

HOLD_S = 0.5  # how long an answer is held back
DROP_BYTES, DROP_EVERY_S = 16, 0.01
CHUNK = 65_536
CONNECT_S = 1.0


@dataclass(frozen=True)
class Address:
    """A port on a host."""

    host: str
    port: int

    def as_kafka_writes_it(self) -> bytes:
        """The end of a host's name and its port in a broker's metadata."""
        return self.host.encode() + struct.pack(">i", self.port)


class Relay:
    """Passes connections to `target` on; as a context manager it stops listening and lets all of them go at the end."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server((target.host, 0))
        self.address = Address(target.host, int(self._listener.getsockname()[1]))
        self._fast = threading.Event()
        self._fast.set()
        self._open: set[socket.socket] = set()
        self._closing = False

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._fast.set()
        _shut(self._listener)
        for one in list(self._open):
            _shut(one)

    def slow(self) -> None:
        """From now on answers are late and come in drops."""
        self._fast.clear()

    def restore(self) -> None:
        """What was held back passes at once, and so does everything after it."""
        self._fast.set()

    def _spawn(self, run: object, *args: object) -> None:
        threading.Thread(target=run, args=args, daemon=True, name="relay").start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((self._target.host, self._target.port), timeout=CONNECT_S)
        except OSError:
            _shut(client)
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open |= {client, server}
        self._spawn(self._pass_on, client, server, False)
        self._pass_on(server, client, True)
        self._open -= {client, server}

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        """One direction of a connection, until either end closes."""
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if answers:
                    data = data.replace(self._target.as_kafka_writes_it(), self.address.as_kafka_writes_it())
                    self._drip(data, sink)
                else:
                    sink.sendall(data)
        _shut(source)
        _shut(sink)

    def _drip(self, data: bytes, sink: socket.socket) -> None:
        """All of it at once, or held back and in drops for as long as the relay is slow."""
        at = 0
        if not self._fast.wait(HOLD_S):
            while at < len(data) and not self._fast.is_set():
                sink.sendall(data[at : at + DROP_BYTES])
                at += DROP_BYTES
                self._fast.wait(DROP_EVERY_S)
        sink.sendall(data[at:])


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        one.close()
