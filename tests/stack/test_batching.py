"""Batching: which requests share a run, in which sizes, what is refused, and that every request gets its own rows."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2 as t

from stack.model_server.batching import BatchedServable, Batcher, rules
from stack.model_server.errors import ServingError
from stack.model_server.protos import Batching
from tests.stack.numpy_models import signature

Feeds = dict[str, Any]
LONG = 30_000_000  # micros: batches of these tests close by size, or by `close`


class Doubler:
    """y = 2 x row by row; remembers the sizes of its runs and may be held inside one."""

    name, version = "doubler", 1

    def __init__(self) -> None:
        self.signatures = {
            "serving_default": signature({"x": t.DT_FLOAT}, {"y": t.DT_FLOAT, "z": t.DT_FLOAT}),
            "pair": signature({"a": t.DT_FLOAT, "b": t.DT_FLOAT}, {"sum": t.DT_FLOAT}),
        }
        self.runs: list[Feeds] = []
        self.fetched: list[tuple[str, ...]] = []
        self.timeouts: list[float | None] = []
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.answer: Callable[[Any], Any] = lambda x: x * 2

    def signature(self, name: str) -> Any:
        return self.signatures[name]

    def run(self, name: str, feeds: Feeds, fetches: Sequence[str], *, timeout_s: float | None = None) -> list[Any]:
        raise AssertionError("batches run by tensor names")

    def run_tensors(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Any]:
        self.runs.append(dict(feeds))
        self.fetched.append(tuple(fetches))
        self.timeouts.append(timeout_s)
        self.inside.release()
        assert self.go_on.wait(20)
        x = sum(feeds.values())
        known = {"y:0": self.answer(x), "z:0": -x, "sum:0": x}
        return [known[name] for name in fetches]

    def sizes(self) -> list[int]:
        return [len(next(iter(feeds.values()))) for feeds in self.runs]

    def hold(self) -> bool:
        return True

    def let_go(self) -> None:
        """Nothing is held."""

    def close(self, *, wait_s: float | None = None) -> bool:
        return wait_s is None


@pytest.fixture
def model() -> Doubler:
    return Doubler()


@pytest.fixture
def batched(model: Doubler) -> Iterator[Callable[..., BatchedServable]]:
    """The model behind a batcher with these parameters."""
    batchers: list[Batcher] = []

    def wrap(**given: Any) -> BatchedServable:
        batchers.append(Batcher(rules(Batching(**({"num_batch_threads": 1} | given)))))
        return batchers[-1].wrap(model)

    yield wrap
    model.go_on.set()
    for batcher in batchers:
        batcher.close()


def x(*values: float) -> Feeds:
    return {"x": np.array(values, np.float32)}


def ask(servable: BatchedServable, feeds: Feeds, *, timeout_s: float | None = None) -> list[float]:
    out = servable.run("serving_default", feeds, ["y", "z"], timeout_s=timeout_s)
    assert np.array_equal(out[1], -feeds["x"])
    return list(out[0].tolist())


def together(servable: BatchedServable, *requests: Feeds) -> list[list[float]]:
    """The requests at once, each from a client of its own."""
    with ThreadPoolExecutor(len(requests)) as clients:
        return list(clients.map(lambda feeds: ask(servable, feeds), requests))


def queue_up(servable: BatchedServable, model: Doubler, *requests: Feeds) -> Callable[[], list[Any]]:
    """Send requests one after another behind a run that is held; the returned function lets it go on and collects."""
    model.go_on.clear()
    pool = ThreadPoolExecutor(len(requests) + 1)
    first = pool.submit(ask, servable, x(*[0] * servable_limit(servable)))
    assert model.inside.acquire(timeout=20)
    sent = []
    for feeds in requests:
        sent.append(pool.submit(ask, servable, feeds))
        queued_rows(servable, sum(len(f["x"]) for f in requests[: len(sent)]))

    def collect() -> list[Any]:
        model.go_on.set()
        with pool:
            assert len(first.result(20)) == servable_limit(servable)
            return [future.exception(20) or future.result() for future in sent]

    return collect


def servable_limit(servable: BatchedServable) -> int:
    return servable._batcher.rules.execution_limit


def queued_rows(servable: BatchedServable, rows: int) -> None:
    """Wait until so many rows lie in the queues: the order of requests is the test's."""
    queues = servable._queues.values()
    end = time.monotonic() + 20
    while sum(task.size for queue in queues for batch in queue._batches for task in batch) < rows:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_requests_that_fill_a_batch_share_one_run_and_get_their_own_rows(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=4, batch_timeout_micros=LONG)
    assert together(servable, x(1), x(2, 3), x(4)) == [[2.0], [4.0, 6.0], [8.0]]
    assert model.sizes() == [4]


def test_a_batch_that_is_not_full_runs_after_its_time(model: Doubler, batched: Callable[..., BatchedServable]) -> None:
    servable = batched(max_batch_size=4, batch_timeout_micros=50_000)
    started = time.monotonic()
    assert ask(servable, x(1)) == [2.0]
    assert time.monotonic() - started >= 0.05
    assert model.sizes() == [1]


def test_a_request_that_does_not_fit_starts_the_next_batch(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=4, batch_timeout_micros=0)
    collect = queue_up(servable, model, x(1, 2, 3), x(4, 5), x(6))
    assert collect() == [[2.0, 4.0, 6.0], [8.0, 10.0], [12.0]]
    assert model.sizes() == [4, 3, 3]


def test_a_request_larger_than_a_batch_is_refused(batched: Callable[..., BatchedServable]) -> None:
    with pytest.raises(ServingError) as caught:
        ask(batched(max_batch_size=128), x(*range(500)))
    assert caught.value.status == "INVALID_ARGUMENT: Task size 500 is larger than maximum input batch size 128"


def test_a_full_queue_is_unavailable_and_the_others_are_answered(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=2, batch_timeout_micros=0, max_enqueued_batches=2)
    collect = queue_up(servable, model, x(1, 2), x(3, 4))
    with pytest.raises(ServingError) as caught:
        ask(servable, x(5))
    assert caught.value.status == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; currently 2 batches "
        "enqueued and max_enqueued_batches is 2"
    )
    assert collect() == [[2.0, 4.0], [6.0, 8.0]]


def test_a_batch_is_filled_up_to_an_allowed_size_with_copies_of_a_row(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=8, batch_timeout_micros=1000, allowed_batch_sizes=(2, 5, 8))
    assert ask(servable, x(7, 8, 9)) == [14.0, 16.0, 18.0]
    assert model.runs[0]["x:0"].tolist() == [7, 8, 9, 7, 7]


def test_an_allowed_size_that_is_met_needs_no_filling(model: Doubler, batched: Callable[..., BatchedServable]) -> None:
    assert ask(batched(max_batch_size=8, allowed_batch_sizes=(2, 8)), x(7, 8)) == [14.0, 16.0]
    assert model.sizes() == [2]


def test_a_large_request_is_split_over_batches_when_enabled(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True)
    assert ask(servable, x(*range(10))) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert model.sizes() == [4, 4, 2]


def test_a_split_request_first_fills_the_open_batch(model: Doubler, batched: Callable[..., BatchedServable]) -> None:
    servable = batched(max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True)
    collect = queue_up(servable, model, x(1), x(2, 3, 4, 5, 6))
    assert collect() == [[2.0], [4.0, 6.0, 8.0, 10.0, 12.0]]
    assert [feeds["x:0"].tolist() for feeds in model.runs[1:]] == [[1, 2, 3, 4], [5, 6]]


def test_a_split_request_beyond_the_queues_room_is_unavailable(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(
        max_batch_size=100, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=2
    )
    collect = queue_up(servable, model, x(1))
    with pytest.raises(ServingError) as caught:
        ask(servable, x(*range(8)))
    assert caught.value.status == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task size is 8 but "
        "scheduling capacity is only 7 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=1, "
        "max_execution_batch_size=4)"
    )
    assert collect() == [[2.0]]


def test_rows_of_unequal_shapes_fail_together_unless_they_are_padded(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=2, batch_timeout_micros=LONG)
    with ThreadPoolExecutor(2) as clients:
        sent = [clients.submit(ask, servable, {"x": np.ones((1, size), np.float32)}) for size in (2, 3)]
        errors = [future.exception(20) for future in sent]
    assert model.runs == []
    for error in errors:
        assert isinstance(error, ServingError)
        assert error.status.startswith(
            "FAILED_PRECONDITION: Tensors with name 'x:0' from different tasks have different shapes and padding is "
            "turned off.Set pad_variable_length_inputs to true"
        )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: np.float32(1), "Batched output tensor has 0 dimensions"),
        (lambda x: x[:-1], "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"),
    ],
)
def test_an_output_without_a_row_for_every_row_is_refused(
    model: Doubler, batched: Callable[..., BatchedServable], answer: Any, words: str
) -> None:
    model.answer = answer
    with pytest.raises(ServingError) as caught:
        ask(batched(), x(1, 2))
    assert caught.value.status.startswith(f"FAILED_PRECONDITION: {words}")


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Batching Run() input tensors must have equal 0th-dimension size"),
        ({"a": np.zeros(2), "b": np.array(1.0)}, "Batching Run() input tensors must have at least one dimension"),
    ],
)
def test_inputs_must_have_their_rows_in_common(
    batched: Callable[..., BatchedServable], feeds: Feeds, words: str
) -> None:
    with pytest.raises(ServingError) as caught:
        batched().run("pair", feeds, ["sum"])
    assert caught.value.status == f"INVALID_ARGUMENT: {words}"


def test_signatures_do_not_share_batches(model: Doubler, batched: Callable[..., BatchedServable]) -> None:
    servable = batched(max_batch_size=2, batch_timeout_micros=1000)
    with ThreadPoolExecutor(2) as clients:
        one = clients.submit(ask, servable, x(1))
        other = clients.submit(servable.run, "pair", {"a": np.array([1.0]), "b": np.array([5.0])}, ["sum"])
        assert (one.result(20), other.result(20)[0].tolist()) == ([2.0], [6.0])
    assert sorted(map(sorted, model.runs)) == [["a:0", "b:0"], ["x:0"]]


def test_a_part_of_the_outputs_is_run_at_once_and_alone(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=2, batch_timeout_micros=LONG)
    assert servable.run("serving_default", x(1), ["z"])[0].tolist() == [-1.0]
    assert model.fetched == [("z:0",)]


def test_a_failing_batch_fails_each_of_its_requests_and_the_next_one_runs(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    def fail(values: Any) -> Any:
        raise ValueError("no luck")

    servable, fine, model.answer = batched(max_batch_size=2, batch_timeout_micros=LONG), model.answer, fail
    with ThreadPoolExecutor(2) as clients:
        sent = [clients.submit(ask, servable, x(value)) for value in (1, 2)]
        assert [str(future.exception(20)) for future in sent] == ["the batch failed: ValueError: no luck"] * 2
    model.answer = fine
    assert ask(servable, x(3, 4)) == [6.0, 8.0]


def test_a_run_may_take_as_long_as_its_most_patient_request(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=2, batch_timeout_micros=LONG)
    with ThreadPoolExecutor(2) as clients:
        for sent in [clients.submit(ask, servable, x(1), timeout_s=seconds) for seconds in (100, 1000)]:
            sent.result(20)
    assert model.timeouts[0] is not None
    assert 900 < model.timeouts[0] <= 1000


def test_a_batch_whose_requests_all_waited_too_long_is_not_run(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=4, batch_timeout_micros=50_000)
    with pytest.raises(ServingError) as caught:
        ask(servable, x(1), timeout_s=0.001)
    assert caught.value.status == "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
    assert model.runs == []


def test_waits_in_the_queue_are_told_of(model: Doubler) -> None:
    waits: list[tuple[str, float]] = []
    batcher = Batcher(
        rules(Batching(batch_timeout_micros=20_000)), queued=lambda pool, seconds: waits.append((pool, seconds))
    )
    ask(batcher.wrap(model), x(1))
    batcher.close()
    assert [(pool, seconds >= 0.02) for pool, seconds in waits] == [("", True)]


def test_closing_runs_what_is_queued_and_refuses_what_comes_after(model: Doubler) -> None:
    batcher = Batcher(rules(Batching(max_batch_size=2, batch_timeout_micros=LONG)))
    servable = batcher.wrap(model)
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(ask, servable, x(1))
        queued_rows(servable, 1)
        batcher.close()
        assert waiting.result(20) == [2.0]
    with pytest.raises(ServingError, match="the batching queue is closed"):
        ask(servable, x(1))


def test_a_closed_model_leaves_no_queue_behind(batched: Callable[..., BatchedServable]) -> None:
    servable = batched()
    batcher = servable._batcher
    assert (servable.close(wait_s=0.0), len(batcher._queues)) == (False, 2)  # somebody still holds it
    assert (servable.close(), len(batcher._queues)) == (True, 0)


def test_many_clients_on_many_threads_each_get_their_own_rows(
    model: Doubler, batched: Callable[..., BatchedServable]
) -> None:
    servable = batched(max_batch_size=8, batch_timeout_micros=1000, num_batch_threads=3, max_enqueued_batches=1000)
    requests = [x(*range(first, first + 1 + first % 5)) for first in range(200)]
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda feeds: ask(servable, feeds), requests))
    assert answers == [(feeds["x"] * 2).tolist() for feeds in requests]
    assert max(model.sizes()) <= 8
