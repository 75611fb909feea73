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
