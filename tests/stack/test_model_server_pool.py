"""The threads of the gRPC server: every call is run, its end is told once, a failing call costs no thread."""

import threading
from typing import Any

import pytest

from stack.model_server.pool import Done, Pool

TIMEOUT_S = 20.0


def test_calls_run_beside_each_other_and_their_end_is_told() -> None:
    pool = Pool(2)
    together = threading.Barrier(2)
    told: list[Any] = []
    both = threading.Semaphore(0)
    for _ in range(2):
        done = pool.submit(together.wait, timeout=TIMEOUT_S)
        done.add_done_callback(lambda which: (told.append(which), both.release()))
    assert both.acquire(timeout=TIMEOUT_S)
    assert both.acquire(timeout=TIMEOUT_S)
    assert len(set(told)) == 2
    assert not together.broken
    pool.shutdown()


def test_an_end_that_was_before_the_question_is_told_at_once() -> None:
    done, told = Done(), []
    done.end()
    done.add_done_callback(told.append)
    assert told == [done]


def test_a_failing_call_is_logged_and_the_thread_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(1)
    answers: list[int] = []
    pool.submit(lambda: 1 // 0)
    pool.submit(answers.append, 5)
    pool.shutdown()
    assert answers == [5]
    assert "an RPC failed outside of its handler" in caplog.text


def test_a_second_shutdown_does_nothing() -> None:
    pool = Pool(1)
    pool.shutdown(wait=False)
    pool.shutdown()


def test_the_thread_that_was_free_last_goes_first_and_what_finds_none_free_waits_in_order() -> None:
    pool, order, names, held = Pool(3), list[int](), list[str](), threading.Event()
    for _ in range(20):
        ended = threading.Event()
        pool.submit(lambda: names.append(threading.current_thread().name)).add_done_callback(lambda _: ended.set())  # noqa: B023
        assert ended.wait(TIMEOUT_S)
        while len(pool._free) < 3:
            threading.Event().wait(0.001)
    assert len(set(names)) == 1
    for _ in range(3):
        pool.submit(held.wait, TIMEOUT_S)
    for number in range(5):
        pool.submit(order.append, number)
    assert order == []
    held.set()
    pool.shutdown()
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_the_calls_that_wait_are_run_in_their_order_before_the_end() -> None:
    pool, order, held = Pool(1), list[int](), threading.Event()
    pool.submit(held.wait, TIMEOUT_S)
    for number in range(50):
        pool.submit(order.append, number)
    threading.Timer(0.05, held.set).start()
    pool.shutdown()
    assert order == list(range(50))
