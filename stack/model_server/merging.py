"""Several requests' tensors as one batch and a batch's outputs as each request's own: joined, padded and cut along rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stack.model_server.errors import ServingError
from stack.model_server.servable import Array

MOST_PADDED_RANK = 6


@dataclass(frozen=True)
class Batch:
    """The joined inputs by name, and how many rows at their end are padding."""

    feeds: dict[str, Array]
    padding: int


def merge(requests: Sequence[Mapping[str, Array]], *, allowed_sizes: Sequence[int] = (), pads: bool = False) -> Batch:
    """Requests' inputs one after another, up to the next allowed size with copies of the last request's first row.

    FAILED_PRECONDITION when their shapes differ beyond dimension 0, unless `pads` fills them up to the largest.
    """
    size = sum(len(next(iter(feeds.values()))) for feeds in requests)
    padding = next((allowed for allowed in allowed_sizes if allowed >= size), size) - size
    joined: dict[str, Array] = {}
    for name in requests[0]:
        arrays = [feeds[name] for feeds in requests]
        arrays = _filled_up(arrays) if pads else _alike(name, arrays)
        row = next((array[:1] for array in reversed(arrays) if len(array)), arrays[-1])
        joined[name] = np.concatenate([*arrays, *[row] * padding])
    return Batch(joined, padding if size else 0)


def split(outputs: Mapping[str, Array], sizes: Sequence[int], *, padding: int) -> list[dict[str, Array]]:
    """Each request's rows of every output; FAILED_PRECONDITION when an output has not one row for each row that went in."""
    for array in outputs.values():
        if array.ndim == 0:
            raise ServingError.precondition("Batched output tensor has 0 dimensions")
        if len(array) != sum(sizes) + padding:
            raise ServingError.precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    ends = np.cumsum(sizes).tolist()
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def _alike(name: str, arrays: list[Array]) -> list[Array]:
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise ServingError.precondition(
            f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
            "have equal dimensions starting with the first dim."
        )
    return arrays


def _filled_up(arrays: list[Array]) -> list[Array]:
    """Arrays grown to the largest size of every dimension but the first; the new places hold the array's first element."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) > 1 or max(ranks) > MOST_PADDED_RANK:
        raise ServingError.invalid(f"Only tensors with rank from 1 to {MOST_PADDED_RANK} can be padded.")
    largest = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    return [_grown(array, (len(array), *largest[1:])) for array in arrays]


def _grown(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape == shape:
        return array
    if array.size == 0:
        raise ServingError.invalid("Got empty tensor in batch of non-empty tensors.")
    out = np.full(shape, array.flat[0], dtype=array.dtype)
    out[tuple(slice(size) for size in array.shape)] = array
    return out
