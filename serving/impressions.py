"""Sends impressions to the event log behind the request's back: a bounded queue, and a bounded file while the log is down.

What waits in memory is lost when the process is killed: at most the last `linger_s` and `patience_s`, since everything
goes to the file as soon as the log takes longer. An impression may be sent twice (the log took it, the answer was lost or
late); the collector drops the second by its event id.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from events.errors import EventRefused, EventsError
from events.log import EventWriter
from events.schema import EmptyFeed, Event, Impression
from serving.metrics import Metrics
from serving.spool import Spool

BATCH = 1_000
QUIET_LOOKS = 10  # in a row with nothing to do, after which the thread sleeps until something is put
SPOOL_LOOK_S = 1.0  # while it sleeps: another process may have left something in the file
Logged = Impression | EmptyFeed
_log = structlog.get_logger()


@dataclass(frozen=True)
class ImpressionConfig:
    """Bounds of the queue and the pace of sending."""

    queue: int = 20_000  # impressions in memory; beyond it they go to the file
    linger_s: float = 0.1  # how long impressions gather before they are sent
    patience_s: float = 0.3  # how long the log may take before they go to the file
    retry_s: float = 0.5  # between two attempts while the log is down


DEFAULT = ImpressionConfig()


class ImpressionLog:
    """Takes impressions from request threads; one thread of its own sends them, one more sees to it that none wait long."""

    def __init__(
        self, connect: Callable[[], EventWriter], spool: Spool, *, metrics: Metrics, config: ImpressionConfig = DEFAULT
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._metrics = metrics
        self._config = config
        self._queue: deque[Logged] = deque()
        self._writer: EventWriter | None = None
        self._next_attempt = self._file_again = 0.0  # monotonic seconds from when on the log, and the file, are tried
        self._stop = threading.Event()
        self._woken = threading.Event()  # set but while the thread sleeps: then `put` costs a request nothing
        self._woken.set()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="impressions-sender")
        self._round: Future[None] | None = None  # under way
        self._progress = 0.0  # when it began, or the log last confirmed something
        self._in_hand: list[Logged] = []  # what it sends and nobody else holds
        self._hand = threading.Lock()
        self._down = ""  # why the log does not take impressions now; empty when it does
        self._said = ""
        self._told = 0  # bytes in the file as the metric last said

    @property
    def trouble(self) -> str:
        """Why the log, or the file, does not take impressions now; empty when both do."""
        return "; ".join(filter(None, (self._down, self._spool.trouble)))

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, impressions: Sequence[Logged]) -> None:
        """Take the impressions of one feed; never waits for the log and never fails."""
        if len(self._queue) + len(impressions) > self._config.queue:
            self._keep(impressions)
        else:
            self._queue.extend(impressions)
        self._metrics.waiting.set(len(self._queue))
        if not self._woken.is_set():
            self._woken.set()

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Send or spool what waits, and stop."""
        self._stop.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._keep([*self._let_fall(), *self._take(len(self._queue))])
        self._sender.shutdown(wait=True)
        if self._writer is not None:
            self._let_go(self._writer)

    def _run(self) -> None:
        quiet = 0
        while not self._stop.wait(self._config.linger_s):
            if self._has_work():
                self._try()
                quiet = 0
            elif (quiet := quiet + 1) >= QUIET_LOOKS:
                self._sleep()
        self._try()

    def _sleep(self) -> None:
        """Wait until there is something to do: a look that finds nothing costs 0.6 ms, here and in the sender."""
        self._woken.clear()  # first: what is put from here on sets it, what was put before is found
        while not self._has_work() and not self._stop.is_set() and not self._woken.wait(SPOOL_LOOK_S):
            continue
        self._woken.set()

    def _has_work(self) -> bool:
        """Whether there is something to send, to wait for, to try again or to say."""
        return bool(self._queue or self._round or self.trouble or self._said or self._spool.size or self._told)

    def _try(self) -> None:
        try:
            self.step()
        except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: without it nothing is sent any more
            self._down = f"impressions cannot be sent: {failure!r}"
        if self.trouble != self._said:
            self._said = self.trouble
            _log.warning("impressions", trouble=self._said or "none, they are sent again")

    def step(self) -> None:
        """Send what waits once, or put it into the file when the log does not take it in time; a test's turn, too."""
        if self._round is None:
            self._progress = time.monotonic()
            self._round = self._sender.submit(self._send)
        wait([self._round], max(self._patience_left(), 0.0))
        if self._round.done():
            failure, self._round = self._round.exception(), None
            if failure is not None:  # of the client's own; what it had in hand goes to the file
                self._down = f"the event log's client failed: {failure!r}"
        if self._down or (self._round is not None and self._patience_left() <= 0.0):
            self._keep([*self._let_fall(), *self._take(len(self._queue))])
        self._metrics.waiting.set(len(self._queue))
        self._told = self._spool.size
        self._metrics.spooled.set(self._told)

    def _patience_left(self) -> float:
        return self._progress + self._config.patience_s - time.monotonic()

    def _send(self) -> None:
        """Pieces of the file and the queue by turns, until nothing waits or the log refuses."""
        if time.monotonic() < self._next_attempt:
            return
        try:
            with self._spool.draining() as mine:
                self._by_turns(mine and time.monotonic() >= self._file_again)
            if not self._spool.size:
                self._spool.trouble = ""
        except OSError as error:  # the file waits; what is new does not wait for it
            self._spool.trouble = f"the spool cannot be read: {error}"
            self._file_again = time.monotonic() + self._config.retry_s
            self._by_turns(False)

    def _by_turns(self, drains: bool) -> None:
        while (more := drains and self._spool.size > 0) or self._queue:
            if more and not self._drain():
                return
            if not self._send_queue() or self._stop.is_set():
                return

    def _drain(self) -> bool:
        events, size = self._spool.take()
        delivered = self._deliver(events, outcome="sent_late")
        if delivered:
            self._spool.drop(size)
        return delivered

    def _send_queue(self) -> bool:
        """What is in memory; what the log does not take goes to the file."""
        while self._hold(self._take(BATCH)):
            delivered = self._deliver(self._in_hand, outcome="sent")
            held = self._let_fall()
            if not delivered:
                self._keep(held)
                return False
        return True

    def _hold(self, batch: list[Logged]) -> bool:
        with self._hand:
            self._in_hand = batch
        return bool(batch)

    def _let_fall(self) -> list[Logged]:
        """What is being sent, once: the file gets it from whoever asks first."""
        with self._hand:
            held, self._in_hand = self._in_hand, []
        return held

    def _take(self, limit: int) -> list[Logged]:
        out: list[Logged] = []
        while self._queue and len(out) < limit:
            out.append(self._queue.popleft())
        return out

    def _deliver(self, events: Sequence[Event], *, outcome: str) -> bool:
        """Whether none of them waits any more; what the log will never take is counted, said and gone."""
        refused: list[tuple[Event, EventRefused]] = []
        try:
            self._hand_over(events, refused)
        except EventsError as error:
            self._down = str(error)
            writer, self._writer = self._writer, None
            if writer is not None:
                self._let_go(writer)
            self._next_attempt = time.monotonic() + self._config.retry_s
            return False
        self._down, self._progress = "", time.monotonic()
        self._metrics.impressions.labels(outcome).inc(len(events) - len(refused))
        for event, why in refused:
            self._metrics.impressions.labels("refused").inc()
            _log.error("impression refused", event_id=event.event_id, error=str(why))
        return True

    def _hand_over(self, events: Sequence[Event], refused: list[tuple[Event, EventRefused]]) -> None:
        """Send and confirm; where the log refuses some of them without saying which, halves tell."""
        if self._writer is None:
            self._writer = self._connect()
        sent = []
        for event in events:
            try:
                self._writer.send(event)
                sent.append(event)
            except EventRefused as error:
                refused.append((event, error))
        try:
            self._writer.flush()
        except EventRefused as error:
            if len(sent) < 2:
                refused += [(event, error) for event in sent]
                return
            self._progress, half = time.monotonic(), len(sent) // 2
            self._hand_over(sent[:half], refused)
            self._hand_over(sent[half:], refused)

    def _let_go(self, writer: EventWriter) -> None:
        try:
            writer.close()
        except EventsError as error:  # nothing is lost by it: what was not flushed is spooled
            self._down = str(error)

    def _keep(self, impressions: Sequence[Logged]) -> None:
        """Put impressions into the file; what does not fit is counted and gone."""
        if not impressions:
            return
        kept = self._spool.append(impressions)
        self._metrics.impressions.labels("spooled").inc(kept)
        if kept < len(impressions):
            self._metrics.impressions.labels("dropped").inc(len(impressions) - kept)
        self._metrics.spooled.set(self._spool.size)
