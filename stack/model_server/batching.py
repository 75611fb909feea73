"""Requests of several clients in one run: queues by signature, batch threads shared by all models, as upstream batches.

Rows of dimension 0 are put one after another; a batch runs when it is full or its first request has waited long enough.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc
import numpy as np

from stack.model_server import protos
from stack.model_server.errors import ServingError
from stack.model_server.merging import Batch, merge, split
from stack.model_server.servable import Array, Served

INPUT_LIMIT = 1000
ENQUEUED_LIMIT = 10
POOL = ""  # upstream's model server leaves the pool's name out of the metric


@dataclass(frozen=True)
class Rules:
    """Batching's parameters with upstream's defaults in, checked. Sizes in rows, times in seconds."""

    input_limit: int
    execution_limit: int
    timeout_s: float
    enqueued_limit: int
    threads: int
    splits: bool
    allowed_sizes: tuple[int, ...]
    pads: bool


def parameters(text: str, *, file: str = "") -> Rules:
    """A text-format BatchingParameters as rules; INVALID_ARGUMENT when it is none or its values do not fit together."""
    return rules(protos.batching(text, file=file))


def rules(given: protos.Batching) -> Rules:
    """Parameters as rules; INVALID_ARGUMENT when the values do not fit together."""
    limit = INPUT_LIMIT if given.max_batch_size is None else given.max_batch_size
    splits = given.enable_large_batch_splitting
    execution = given.max_execution_batch_size if splits and given.max_execution_batch_size is not None else limit
    threads = (os.cpu_count() or 1) if given.num_batch_threads is None else given.num_batch_threads
    enqueued = ENQUEUED_LIMIT if given.max_enqueued_batches is None else given.max_enqueued_batches
    micros = given.batch_timeout_micros or 0
    _positive(num_batch_threads=threads, input_batch_size_limit=limit, max_enqueued_batches=enqueued)
    if micros < 0:
        raise ServingError.invalid(f"batch_timeout_micros must be non-negative; was {micros}")
    if not 0 < execution <= limit:
        raise ServingError.invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size; they were {limit} and {execution}"
        )
    _check_allowed(given.allowed_batch_sizes, execution, splits=splits)
    return Rules(
        input_limit=limit,
        execution_limit=execution,
        timeout_s=micros / 1e6,
        enqueued_limit=enqueued,
        threads=threads,
        splits=splits,
        allowed_sizes=given.allowed_batch_sizes,
        pads=given.pad_variable_length_inputs,
    )


class Batcher:
    """The batch threads and the queues of every model that was wrapped."""

    def __init__(self, given: Rules, *, queued: Callable[[str, float], object] = lambda pool, seconds: None) -> None:
        self.rules = given
        self._queued = queued
        self._queues: list[_Queue] = []
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True) for number in range(given.threads)
        ]
        for thread in self._threads:
            thread.start()

    def wrap(self, servable: Served) -> "BatchedServable":
        """The same model with its declared signatures batched."""
        return BatchedServable(servable, self)

    def close(self) -> None:
        """Run what is queued, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def run(self, queue: "_Queue", feeds: Mapping[str, Array], *, timeout_s: float | None) -> dict[str, Array]:
        """The outputs of one request by tensor name, once the batches it is in have run."""
        task = _Task(feeds, _rows(feeds), timeout_s)
        with self._changed:
            parts = queue.add(task, closed=self._closed)
            self._changed.notify_all()
        for part in parts:
            part.done.wait()
        for part in parts:
            if part.error is not None:
                # A fresh one: several requests may raise the batch's error at once, each with its own trace.
                raise ServingError(part.error.code, part.error.message)
        if len(parts) == 1:
            return parts[0].outputs
        return {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}

    def open_queue(self, servable: Served, fetches: Sequence[str]) -> "_Queue":
        """A queue for one signature of a model."""
        queue = _Queue(self.rules, servable, tuple(fetches))
        with self._changed:
            self._queues.append(queue)
        return queue

    def forget(self, queues: Sequence["_Queue"]) -> None:
        """Drop the queues of a model that is closed; nobody waits in them then."""
        with self._changed:
            self._queues = [queue for queue in self._queues if queue not in queues]

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            _process(*taken, rules=self.rules, queued=self._queued)

    def _take(self) -> "tuple[_Queue, list[_Task]] | None":
        """The next batch that is ready, queues in turn; None when there is none and there will be none."""
        with self._changed:
            while True:
                now = time.monotonic()
                waits: list[float] = []
                for offset in range(len(self._queues)):
                    place = (self._next + offset) % len(self._queues)
                    queue = self._queues[place]
                    wait = queue.ready_in(now, closed=self._closed)
                    if wait is not None and wait <= 0:
                        self._next = place + 1
                        return queue, queue.take()
                    waits += [] if wait is None else [wait]
                if self._closed:
                    return None
                self._changed.wait(min(waits, default=None))


class BatchedServable:
    """A model whose runs of a whole declared signature share batches; any other run goes straight to it, as upstream."""

    def __init__(self, inner: Served, batcher: Batcher) -> None:
        self.name = inner.name
        self.version = inner.version
        self.signatures: dict[str, Any] = inner.signatures
        self._inner = inner
        self._batcher = batcher
        self._queues: dict[tuple[frozenset[str], frozenset[str]], _Queue] = {}
        for definition in inner.signatures.values():
            fetches = sorted({info.name for info in definition.outputs.values()})
            key = (frozenset(info.name for info in definition.inputs.values()), frozenset(fetches))
            if key not in self._queues:
                self._queues[key] = batcher.open_queue(inner, fetches)

    def signature(self, name: str) -> Any:
        """The SignatureDef of that name; FAILED_PRECONDITION when there is none."""
        return self._inner.signature(name)

    def run(
        self, signature: str, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The named outputs of a signature for inputs that were checked."""
        definition = self.signatures[signature]
        tensors = {definition.inputs[name].name: array for name, array in feeds.items()}
        return self.run_tensors(tensors, [definition.outputs[name].name for name in fetches], timeout_s=timeout_s)

    def run_tensors(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The same by the names of the graph's tensors."""
        queue = self._queues.get((frozenset(feeds), frozenset(fetches)))
        if queue is None:
            return self._inner.run_tensors(feeds, fetches, timeout_s=timeout_s)
        out = self._batcher.run(queue, feeds, timeout_s=timeout_s)
        return [out[name] for name in fetches]

    def hold(self) -> bool:
        """Keep it open until `let_go`; False when it is closed or about to be."""
        return self._inner.hold()

    def let_go(self) -> None:
        """End one `hold`."""
        self._inner.let_go()

    def close(self, *, wait_s: float | None = None) -> bool:
        """Free it once nobody holds it; False when somebody still does after `wait_s` seconds."""
        closed = self._inner.close(wait_s=wait_s)
        if closed:
            self._batcher.forget(list(self._queues.values()))
        return closed


@dataclass(eq=False)
class _Task:
    """One request, or a part of a large one, and how it ended."""

    feeds: Mapping[str, Array]
    size: int
    timeout_s: float | None
    queued_at: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, Array] = field(default_factory=dict)
    error: ServingError | None = None


class _Queue:
    """Batches of one signature, the last one still open; guarded by the batcher's lock."""

    def __init__(self, given: Rules, servable: Served, fetches: tuple[str, ...]) -> None:
        self.servable = servable
        self.fetches = fetches
        self._rules = given
        self._batches: deque[list[_Task]] = deque([[]])
        self._opened_at = 0.0

    def add(self, task: _Task, *, closed: bool) -> list[_Task]:
        """Queue a request, in parts when it is split; INVALID_ARGUMENT when too large, UNAVAILABLE when the queue is full."""
        if closed:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the batching queue is closed: the server is stopping")
        self._check_room(task.size)
        parts = self._parts(task)
        for part in parts:
            if _size(self._batches[-1]) + part.size > self._rules.execution_limit:
                self._batches.append([])
            if not self._batches[-1]:
                self._opened_at = time.monotonic()
            self._batches[-1].append(part)
        return parts

    def ready_in(self, now: float, *, closed: bool) -> float | None:
        """Seconds until the first batch may run, 0 or less when it may; None when there is none."""
        first = self._batches[0]
        if not first:
            return None
        if len(self._batches) > 1 or closed or _size(first) >= self._rules.execution_limit:
            return 0.0
        return self._opened_at + self._rules.timeout_s - now

    def take(self) -> list[_Task]:
        """Remove the first batch."""
        first = self._batches.popleft()
        if not self._batches:
            self._batches.append([])
        return first

    def _check_room(self, size: int) -> None:
        limit, most, enqueued = self._rules.execution_limit, self._rules.enqueued_limit, len(self._batches)
        tail = _size(self._batches[-1])
        if size > self._rules.input_limit:
            raise ServingError.invalid(
                f"Task size {size} is larger than maximum input batch size {self._rules.input_limit}"
            )
        full = "The batch scheduling queue to which this task was submitted is full; "
        if self._rules.splits:
            capacity = (most - enqueued) * limit + limit - tail
            if size > capacity:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"{full}task size is {size} but scheduling capacity is only {capacity} (num_enqueued_batches="
                    f"{enqueued}, max_enqueued_batches={most}, open_batch_size={tail}, max_execution_batch_size={limit})",
                )
        elif tail + size > limit and enqueued >= most:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is {most}",
            )

    def _parts(self, task: _Task) -> list[_Task]:
        """The request itself, or its parts: what fits the open batch, then full batches, then the rest."""
        limit = self._rules.execution_limit
        left = limit - _size(self._batches[-1])
        if not self._rules.splits or task.size <= left:
            return [task]
        ends = [end for end in range(left, task.size, limit) if end > 0] + [task.size]
        starts = [0, *ends[:-1]]
        return [
            _Task({name: array[start:end] for name, array in task.feeds.items()}, end - start, task.timeout_s)
            for start, end in zip(starts, ends, strict=True)
        ]


def _process(queue: _Queue, tasks: list[_Task], *, rules: Rules, queued: Callable[[str, float], object]) -> None:
    """Run a batch and give each of its tasks its rows, or the one error to all."""
    now = time.monotonic()
    for task in tasks:
        queued(POOL, now - task.queued_at)
    error: ServingError | None = None
    try:
        timeout_s = _left(tasks, now)
        batch: Batch = merge([task.feeds for task in tasks], allowed_sizes=rules.allowed_sizes, pads=rules.pads)
        out = queue.servable.run_tensors(batch.feeds, queue.fetches, timeout_s=timeout_s)
        rows = split(dict(zip(queue.fetches, out, strict=True)), [task.size for task in tasks], padding=batch.padding)
        for task, outputs in zip(tasks, rows, strict=True):
            task.outputs = outputs
    except ServingError as refused:
        error = refused
    # A batch thread must outlive whatever a model raises, and every waiting request must hear of it.
    except Exception as broken:  # noqa: BLE001
        error = ServingError(grpc.StatusCode.INTERNAL, f"the batch failed: {type(broken).__name__}: {broken}")
    for task in tasks:
        task.error = error
        task.done.set()


def _left(tasks: Sequence[_Task], now: float) -> float | None:
    """Seconds the batch may run: as long as its most patient task; RESOURCE_EXHAUSTED when all waited too long."""
    left = [None if task.timeout_s is None else task.queued_at + task.timeout_s - now for task in tasks]
    patient = [seconds for seconds in left if seconds is not None]
    if len(patient) < len(left):
        return None
    if max(patient) <= 0:
        raise ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    return max(patient)


def _rows(feeds: Mapping[str, Array]) -> int:
    """The size of dimension 0, which all inputs share."""
    if not feeds:
        raise ServingError.invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise ServingError.invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise ServingError.invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _size(batch: Sequence[_Task]) -> int:
    return sum(task.size for task in batch)


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ServingError.invalid(f"{name} must be positive; was {value}")


def _check_allowed(sizes: Sequence[int], limit: int, *, splits: bool) -> None:
    if any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ServingError.invalid("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != limit:
        rule = "be equal to max_execution_batch_size" if splits else "match max_batch_size"
        raise ServingError.invalid(
            f"Last entry in allowed_batch_sizes must {rule}; last entry was {sizes[-1]}; expected {limit}"
        )
