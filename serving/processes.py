"""How the proxy's process is set up: one thread for linear algebra, one JSON line a log entry, servers that sleep."""

import asyncio
import os
import resource
import signal
import time
from contextlib import suppress
from email.utils import formatdate
from types import FrameType

import structlog
import uvicorn
from threadpoolctl import threadpool_limits
from uvicorn.server import ServerState

MOST_FILES = 65_536


def limit_threads() -> None:
    """Pin BLAS and OpenMP to one thread: spinning threads took 20 times as long for a live set of 20,000 rows."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by libraries that load later
    threadpool_limits(1)  # numpy is there already: the modules that are imported first bring it


def allow_files() -> None:
    """As many open files as the process may have: each connection is one, and the usual 1,024 are fewer than connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def outlive_signals() -> None:
    """Let SIGTERM and SIGINT end the server, not the process: uvicorn raises them again when it has stopped, and what waits
    must still be sent.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def log_json() -> None:
    """Entries as JSON lines with level and UTC time."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


class SleepingServer(uvicorn.Server):
    """uvicorn's server, woken by requests and by its end alone; uvicorn's own looks ten times a second whether to end.

    Each look costs 0.2 ms where caches are cold. What else it does there, bounds on requests and notices, is not done,
    and of the headers it may be told to give an answer it gives the date alone.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = _Dated()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()

    async def main_loop(self) -> None:
        """Sleep until `end`, which may have been called already."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._over.wait()

    def end(self) -> None:
        """End as soon as the requests under way are answered; from any thread, or a signal's handler."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._over.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal ends it."""
        super().handle_exit(sig, frame)
        self.end()


class _Dated(ServerState):
    """What a server's connections share; the Date header is made when an answer asks for it, once a second."""

    def __init__(self) -> None:
        self._second, self._headers = 0, list[tuple[bytes, bytes]]()
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        second = int(time.time())
        if second != self._second:
            self._headers = [(b"date", formatdate(second, usegmt=True).encode())]
            self._second = second
        return self._headers

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """The base class begins with none."""
