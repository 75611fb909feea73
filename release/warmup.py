"""Writes the requests that a model server replays before a version answers: its first request is then not a slow one.

A TFRecord file of PredictionLog messages, made by hand as serving/wire.py makes requests: one request of zeros for every
signature, with one row and with as many as a feed has candidates. An encoder gives zero to what it does not know, so every
model of ours takes them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import crc32c
import numpy as np

from serving.wire import DTYPES, BadMessage, encode_tensor, field, fields, model_spec, varint

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
SAVED_MODEL = "saved_model.pb"
ROWS = (1, 500)  # where a signature takes any number of them
STRING = 7  # DataType.DT_STRING
_MASK = 0xA282EAD8


class Input(NamedTuple):
    """One input of a signature: DataType number and shape, -1 for any size."""

    dtype: int
    shape: tuple[int, ...]


def write_warmup(model: Path) -> int:
    """Write the requests into a SavedModel's folder; returns how many, 0 where there are some already or no signature.

    A SavedModel that cannot be read gets none: the model server says better what is wrong with it.
    """
    path = model / FILE
    if path.exists():
        return 0
    try:
        signatures = signatures_in((model / SAVED_MODEL).read_bytes())
    except BadMessage:
        return 0
    records = [
        record(log_of(model.parent.name, name, inputs, rows=rows))
        for name, inputs in sorted(signatures.items())
        if not name.startswith("__") and all(one.dtype in (*DTYPES, STRING) for one in inputs.values())
        for rows in _rows(inputs)
    ]
    if records:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(records))
    return len(records)


def signatures_in(saved_model: bytes) -> dict[str, dict[str, Input]]:
    """The inputs of every signature of a SavedModel message; BadMessage when it is none."""
    found: dict[str, dict[str, Input]] = {}
    for graph in _messages(memoryview(saved_model), 2):
        for entry in _messages(graph, 5):
            signature = next(_messages(entry, 2), memoryview(b""))
            found[_text(entry, 1)] = {_text(one, 1): _input(one) for one in _messages(signature, 1)}
    return found


def log_of(model: str, signature: str, inputs: Mapping[str, Input], *, rows: int) -> bytes:
    """A PredictionLog with a PredictRequest of zeros, `rows` for every size that is free."""
    request = field(1, model_spec(model, signature=signature))
    for name, one in inputs.items():
        request += field(2, field(1, name.encode()) + field(2, _zeros(one, rows)))
    return field(6, field(1, request))


def record(body: bytes) -> bytes:
    """One TFRecord: length and body, each with its masked CRC-32C."""
    length = len(body).to_bytes(8, "little")
    return length + _masked(length) + body + _masked(body)


def _masked(data: bytes) -> bytes:
    found = crc32c.crc32c(data)
    return ((((found >> 15) | (found << 17)) + _MASK) & 0xFFFFFFFF).to_bytes(4, "little")


def _rows(inputs: Mapping[str, Input]) -> tuple[int, ...]:
    return ROWS if any(-1 in one.shape for one in inputs.values()) else ROWS[:1]


def _zeros(one: Input, rows: int) -> bytes:
    shape = tuple(rows if size < 0 else size for size in one.shape)
    if one.dtype != STRING:
        return encode_tensor(np.zeros(shape, DTYPES[one.dtype]))
    sizes = b"".join(field(2, b"\x08" + varint(size)) for size in shape)
    return b"\x08" + varint(STRING) + field(2, sizes) + field(8, b"") * int(np.prod(shape, dtype=np.int64))


def _input(entry: memoryview) -> Input:
    """A map entry's TensorInfo; an unknown rank is taken for a scalar."""
    info, dtype, shape = next(_messages(entry, 2), memoryview(b"")), 0, memoryview(b"")
    for number, _, value in fields(info):
        if number == 2 and isinstance(value, int):
            dtype = value
        elif number == 3 and isinstance(value, memoryview):
            shape = value
    sizes = (next((v for n, _, v in fields(dim) if n == 1 and isinstance(v, int)), 0) for dim in _messages(shape, 2))
    return Input(dtype, tuple(-1 if size >= 1 << 63 else size for size in sizes))


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, _, value in fields(data) if number == wanted and isinstance(value, memoryview))


def _text(data: memoryview, wanted: int) -> str:
    return next((bytes(one).decode(errors="replace") for one in _messages(data, wanted)), "")
