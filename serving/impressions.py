"""Sends impressions to the event log behind the request's back: a bounded queue, and a bounded file while the log is down.

What waits in memory is lost when the process is killed: at most the last `linger_s` while the log answers, since everything
goes to the file while it does not. An impression may be sent twice (the log took it, the answer was lost); the collector
drops the second by its event id.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from events.errors import EventsError
from events.log import EventWriter
from events.schema import Event, Impression
from serving.metrics import Metrics
from serving.spool import Spool

BATCH = 1_000


@dataclass(frozen=True)
class ImpressionConfig:
    """Bounds of the queue and the pace of sending."""

    queue: int = 20_000  # impressions in memory; beyond it they go to the file
    linger_s: float = 0.05  # how long impressions gather before they are sent
    retry_s: float = 1.0  # between two attempts while the log is down


DEFAULT = ImpressionConfig()


class ImpressionLog:
    """Takes impressions from request threads and sends them from its own."""

    def __init__(
        self, connect: Callable[[], EventWriter], spool: Spool, *, metrics: Metrics, config: ImpressionConfig = DEFAULT
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._metrics = metrics
        self._config = config
        self._queue: deque[Impression] = deque()
        self._writer: EventWriter | None = None
        self._next_attempt = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self.trouble = ""  # why the log does not take impressions now; empty when it does

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, impressions: Sequence[Impression]) -> None:
        """Take the impressions of one feed; never waits for the log and never fails."""
        if len(self._queue) + len(impressions) > self._config.queue:
            self._keep(impressions)
        else:
            self._queue.extend(impressions)
        self._metrics.waiting.set(len(self._queue))

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Send or spool what waits, and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._keep(self._take(len(self._queue)))
        if self._writer is not None:
            self._let_go(self._writer)

    def _run(self) -> None:
        while not self._stop.wait(self._config.linger_s):
            self.step()
        self.step()

    def step(self) -> None:
        """Send what waits once; the thread's turn, and a test's."""
        down = time.monotonic() < self._next_attempt
        if not down and self._spool.size:
            events, size = self._spool.take()
            if self._deliver(events, outcome="sent_late"):
                self._spool.drop(size)
        while batch := self._take(BATCH):
            if time.monotonic() < self._next_attempt or not self._deliver(batch, outcome="sent"):
                self._keep(batch)
        self._metrics.waiting.set(len(self._queue))
        self._metrics.spooled.set(self._spool.size)

    def _take(self, limit: int) -> list[Impression]:
        out: list[Impression] = []
        while self._queue and len(out) < limit:
            out.append(self._queue.popleft())
        return out

    def _deliver(self, events: Sequence[Event], *, outcome: str) -> bool:
        try:
            if self._writer is None:
                self._writer = self._connect()
            for event in events:
                self._writer.send(event)
            self._writer.flush()
        except EventsError as error:
            self.trouble = str(error)
            if self._writer is not None:
                self._let_go(self._writer)
            self._writer = None
            self._next_attempt = time.monotonic() + self._config.retry_s
            return False
        self.trouble = ""
        self._metrics.impressions.labels(outcome).inc(len(events))
        return True

    def _let_go(self, writer: EventWriter) -> None:
        try:
            writer.close()
        except EventsError as error:  # nothing is lost by it: what was not flushed is spooled
            self.trouble = str(error)

    def _keep(self, impressions: Sequence[Impression]) -> None:
        """Put impressions into the file; what does not fit is counted and gone."""
        kept = self._spool.append(impressions)
        self._metrics.impressions.labels("spooled").inc(kept)
        if kept < len(impressions):
            self._metrics.impressions.labels("dropped").inc(len(impressions) - kept)
        self._metrics.spooled.set(self._spool.size)
