"""Batching without threads: parameters that fit together, and tensors joined, padded and cut along rows."""

from collections.abc import Sequence

import numpy as np
import pytest

from stack.model_server.batching import parameters
from stack.model_server.errors import ServingError
from stack.model_server.merging import merge, split


def test_padding_grows_rows_to_the_longest_with_their_first_element() -> None:
    short, long = np.array([[7, 8]]), np.array([[1, 2, 3], [4, 5, 6]])
    merged = merge([{"x": short}, {"x": long}], pads=True)
    assert merged.feeds["x"].tolist() == [[7, 8, 7], [1, 2, 3], [4, 5, 6]]


def test_padding_works_for_words_too() -> None:
    words = [{"w": np.array([[b"a"]], object)}, {"w": np.array([[b"b", b"c"]], object)}]
    assert merge(words, pads=True).feeds["w"].tolist() == [[b"a", b"a"], [b"b", b"c"]]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((1, 0), (1, 2)), "Got empty tensor in batch of non-empty tensors."),
        (((1, 2), (1, 2, 2)), "Only tensors with rank from 1 to 6 can be padded."),
        (((1,) * 7, (1,) * 7), "Only tensors with rank from 1 to 6 can be padded."),
    ],
)
def test_what_cannot_be_padded_is_refused(shapes: Sequence[tuple[int, ...]], words: str) -> None:
    with pytest.raises(ServingError) as caught:
        merge([{"x": np.zeros(shape)} for shape in shapes], pads=True)
    assert caught.value.message == words


def test_a_request_of_no_rows_is_answered_with_none() -> None:
    merged = merge([{"x": np.array([5.0])}, {"x": np.zeros(0)}], allowed_sizes=(4,))
    assert merged.feeds["x"].tolist() == [5.0, 5.0, 5.0, 5.0]
    rows = split({"y": np.arange(4)}, [1, 0], padding=merged.padding)
    assert [row["y"].tolist() for row in rows] == [[0], []]


def test_defaults_are_the_schedulers() -> None:
    given = parameters("num_batch_threads { value: 3 }")
    assert (given.input_limit, given.execution_limit, given.timeout_s, given.enqueued_limit, given.threads) == (
        1000, 1000, 0.0, 10, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 2, 8]",
         "allowed_batch_sizes entries must be monotonically increasing"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
         "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8"),
        ("allowed_batch_sizes: 4",
         "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 1000"),
        ("max_batch_size { value: 8 } enable_large_batch_splitting { value: true } max_execution_batch_size "
         "{ value: 4 } allowed_batch_sizes: [2, 8]",
         "Last entry in allowed_batch_sizes must be equal to max_execution_batch_size; last entry was 8; expected 4"),
        ("max_batch_size { value: 4 } enable_large_batch_splitting { value: true } max_execution_batch_size "
         "{ value: 8 }", "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or "
         "equal to max_execution_batch_size; they were 4 and 8"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_together_are_refused(text: str, words: str) -> None:
    with pytest.raises(ServingError) as caught:
        parameters(text)
    assert caught.value.status == f"INVALID_ARGUMENT: {words}"
