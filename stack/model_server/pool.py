"""The threads that answer gRPC requests: the last one that became free goes first, without the futures that nobody reads.

gRPC asks of its pool to run a call and to say when it is done. Half a Future's locks are then in the way: an empty call of
216 kB took 0.47 ms instead of 0.53, and two thirds of the CPU. Where threads take turns each comes to memory of its own
that is in no cache any more: a call by the thread of the call before takes a twentieth less.
"""

import logging
import queue
import threading
from collections import deque
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


class _Worker(threading.Thread):
    """A thread and the call it is given while it is free."""

    def __init__(self, number: int, work: Callable[["_Worker"], None]) -> None:
        super().__init__(name=f"rpc-{number}", daemon=True)
        self.given: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._work_for = work

    def run(self) -> None:
        """Work until the pool ends."""
        self._work_for(self)


class Pool(ThreadPoolExecutor):
    """A pool as gRPC's server uses one; what `submit` gives knows when the call ends and nothing else."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._handing = threading.Lock()
        self._waiting: deque[Any] = deque()  # calls that no thread was free for
        self._over = False
        self._workers = [_Worker(number, self._work) for number in range(threads)]
        self._free = self._workers[::-1]
        for worker in self._workers:
            worker.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the call on a free thread, or the next one to be free; what it raises is logged."""
        done: Any = Done()
        call = (fn, args, kwargs, done)
        with self._handing:
            if self._free:
                self._free.pop().given.put(call)
            else:
                self._waiting.append(call)
        future: Future[Any] = done
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after the calls that wait; a second time does nothing."""
        with self._handing:
            self._over, free, self._free = True, self._free, []
        for worker in free:
            worker.given.put(_END)
        if wait:
            for worker in self._workers:
                worker.join()
        self._workers = []

    def _next(self, worker: _Worker) -> Any:
        """The call that has waited longest, else what the worker is given once it is free."""
        with self._handing:
            if self._waiting:
                return self._waiting.popleft()
            if self._over:
                return _END
            self._free.append(worker)
        return worker.given.get()

    def _work(self, worker: _Worker) -> None:
        call = worker.given.get()
        while call is not _END:
            fn, args, kwargs, done = call
            try:
                fn(*args, **kwargs)
            except Exception:
                log.exception("an RPC failed outside of its handler")
            finally:
                done.end()
            del call, fn, args, kwargs, done  # a request's bytes are not kept until the next one
            call = self._next(worker)
