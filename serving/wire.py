"""TensorFlow Serving's messages as bytes, by hand: Predict and GetModelStatus, with numpy arrays for tensors.

Importing the published stubs imports all of TensorFlow (0.7 GB), and protobuf objects copy every tensor twice. Field numbers
are those of tensorflow_serving/apis/{model,predict,get_model_status}.proto and tensorflow/core/framework/tensor.proto; the
tests compare every message with the published stubs.
"""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.errors import ModelRefused

Tensor = npt.NDArray[Any]
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# DataType numbers of tensorflow/core/framework/types.proto that models of ours take and give.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8"), 10: np.dtype("bool"),
}  # fmt: skip
_NUMBER_OF = {dtype: number for number, dtype in DTYPES.items()}
TENSOR_CONTENT = 4
MOST_UINT64 = (1 << 64) - 1
MOST_VALUES = 1 << 26  # a shape is believed before its values are there: a wrong one must not take all memory
# TensorProto's typed fields: their bytes are the array's own (packed fixed width) or varints.
_FIXED_VALUES: dict[int, np.dtype[Any]] = {5: np.dtype("<f4"), 6: np.dtype("<f8")}
_VARINT_VALUES = frozenset({7, 10, 11})
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


class VersionStatus(NamedTuple):
    """One version of a model on the server; `error` is empty unless it failed to load."""

    version: int
    state: str
    error: str


class BadMessage(ValueError):
    """Bytes that are not the message they should be."""


def varint(number: int) -> bytes:
    """A base-128 varint; negative numbers as 64-bit two's complement."""
    number &= MOST_UINT64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | BYTES) + varint(len(body)) + body


def _int_field(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise BadMessage("a varint does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & MOST_UINT64, at  # a tenth byte has room for 70 bits; protobuf, too, drops what is over
        shift += 7


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Every (field number, wire type, value) of a message, in order."""
    at, end = 0, len(data)
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 0x80 else _read_varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _read_varint(data, at)
            yield tag >> 3, kind, number
            continue
        if kind == BYTES:
            size, at = (data[at], at + 1) if at < end and data[at] < 0x80 else _read_varint(data, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise BadMessage(f"wire type {kind} is not used here")
        if at + size > end:
            raise BadMessage("a field is longer than its message")
        yield tag >> 3, kind, data[at : at + size]
        at += size


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def encode_tensor(array: Tensor) -> bytes:
    """A TensorProto that holds the array as `tensor_content`; ModelRefused for a type models of ours do not take."""
    return _tensor_head(_number_of(array), array.shape) + array.tobytes()


def _number_of(array: Tensor) -> int:
    number = _NUMBER_OF.get(array.dtype)
    if number is None:
        raise ModelRefused(f"tensors of type {array.dtype} are not sent; allowed are {', '.join(map(str, _NUMBER_OF))}")
    return number


def _tensor_head(number: int, shape: tuple[int, ...]) -> bytes:
    """A TensorProto up to its content: type, shape, and how many bytes will follow."""
    sizes = b"".join(field(2, _int_field(1, size)) for size in shape)
    content = varint(TENSOR_CONTENT << 3 | BYTES) + varint(math.prod(shape) * DTYPES[number].itemsize)
    return _int_field(1, number) + field(2, sizes) + content


@lru_cache(maxsize=4096)
def _input_head(name: str, number: int, shape: tuple[int, ...]) -> bytes:
    """An entry of PredictRequest.inputs up to the array's bytes; kept, since requests differ in little but those."""
    tensor = _tensor_head(number, shape)
    size = len(tensor) + math.prod(shape) * DTYPES[number].itemsize
    entry = field(1, name.encode()) + varint(2 << 3 | BYTES) + varint(size) + tensor
    whole = len(entry) - len(tensor) + size
    return varint(2 << 3 | BYTES) + varint(whole) + entry


def _decode_shape(data: memoryview) -> list[int]:
    sizes = []
    for number, _, value in fields(data):
        if number == 2 and isinstance(value, memoryview):
            sizes.append(next((_signed(v) for n, _, v in fields(value) if n == 1 and isinstance(v, int)), 0))
    return sizes


def _varints(data: memoryview) -> list[int]:
    out, at = [], 0
    while at < len(data):
        number, at = _read_varint(data, at)
        out.append(_signed(number))
    return out


def decode_tensor(data: memoryview) -> Tensor:
    """The array of a TensorProto, from `tensor_content` or its typed field; BadMessage when size and shape do not fit."""
    dtype: np.dtype[Any] | None = None
    shape: list[int] = []
    parts: list[Tensor] = []
    for number, _, value in fields(data):
        if number == 1 and isinstance(value, int):
            dtype = DTYPES.get(value)
        elif number == 2 and isinstance(value, memoryview):
            shape = _decode_shape(value)
        elif number == TENSOR_CONTENT and isinstance(value, memoryview) and dtype is not None:
            parts.append(np.frombuffer(value, dtype))
        elif number in _FIXED_VALUES and isinstance(value, memoryview):
            parts.append(np.frombuffer(value, _FIXED_VALUES[number]))
        elif number in _VARINT_VALUES:
            parts.append(np.array([_signed(value)] if isinstance(value, int) else _varints(value), np.int64))
    if dtype is None:
        raise BadMessage("a tensor has no type, or one that is not read here")
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, dtype)
    flat = flat.astype(dtype, copy=False)
    wanted = math.prod(shape)
    if wanted > MOST_VALUES:
        raise BadMessage(f"a tensor says it has {wanted} values; allowed are {MOST_VALUES}")
    if 0 < flat.size < wanted:  # TensorProto may leave out the repetition of its last value
        flat = np.concatenate([flat, np.full(wanted - flat.size, flat[-1], dtype)])
    if flat.size != wanted:
        raise BadMessage(f"a tensor of shape {shape} came with {flat.size} values")
    return flat.reshape(shape)


@lru_cache(maxsize=256)
def model_spec(name: str, *, version: int | None = None, label: str = "", signature: str = "") -> bytes:
    """A ModelSpec; with neither version nor label the server answers with its newest."""
    out = field(1, name.encode())
    if version is not None:
        out += field(2, _int_field(1, version))
    elif label:
        out += field(4, label.encode())
    return out + (field(3, signature.encode()) if signature else b"")


def predict_request(spec: bytes, inputs: Mapping[str, Tensor]) -> bytes:
    """A PredictRequest; every array's bytes are copied once, into it."""
    parts: list[bytes | memoryview] = [field(1, spec)]
    for name, array in inputs.items():
        parts.append(_input_head(name, _number_of(array), array.shape))
        parts.append(array.data if array.flags.c_contiguous else array.tobytes())
    return b"".join(parts)


class _Form(NamedTuple):
    """A PredictResponse of one tensor but for its content, in which alone answers of one version and one size differ."""

    head: bytes
    tail: bytes
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


_forms: dict[int, _Form] = {}  # by the length of the whole
MOST_FORMS = 256


def predict_response(data: bytes) -> dict[str, Tensor]:
    """The output tensors of a PredictResponse by name; those sent as bytes are views of it."""
    form = _forms.get(len(data))
    if form is not None and data.startswith(form.head) and data.endswith(form.tail):
        content = memoryview(data)[len(form.head) : len(data) - len(form.tail)]
        return {form.name: np.frombuffer(content, form.dtype).reshape(form.shape)}
    out: dict[str, Tensor] = {}
    for number, _, entry in fields(memoryview(data)):
        if number == 1 and isinstance(entry, memoryview):
            parts = {n: v for n, _, v in fields(entry) if isinstance(v, memoryview)}
            out[bytes(parts.get(1, b"")).decode()] = decode_tensor(parts.get(2, memoryview(b"")))
    if len(out) == 1:
        _learn(data, *next(iter(out.items())))
    return out


def _learn(data: bytes, name: str, array: Tensor) -> None:
    """Remember the form of an answer whose one tensor lies in it as it is."""
    at = _address(array) - _address(np.frombuffer(data, np.uint8))
    if array.nbytes and 0 < at <= len(data) - array.nbytes:
        if len(_forms) >= MOST_FORMS:
            _forms.clear()
        _forms[len(data)] = _Form(data[:at], data[at + array.nbytes :], name, array.dtype, array.shape)


def _address(array: Tensor) -> int:
    return int(array.__array_interface__["data"][0])


def answered_version(data: bytes) -> int:
    """Which version of the model a PredictResponse says it is of; BadMessage when it does not say."""
    for number, _, spec in fields(memoryview(data)):
        held = [] if number != 2 or not isinstance(spec, memoryview) else [v for n, _, v in fields(spec) if n == 2]
        if held and isinstance(held[0], memoryview):
            return next((_signed(v) for n, _, v in fields(held[0]) if n == 1 and isinstance(v, int)), 0)
    raise BadMessage("an answer does not say which version it is of")


def status_request(name: str) -> bytes:
    """A GetModelStatusRequest for every version of a model."""
    return field(1, model_spec(name))


def status_response(data: bytes) -> list[VersionStatus]:
    """The versions of a GetModelStatusResponse."""
    found = [value for number, _, value in fields(memoryview(data)) if number == 1]
    return [_version_status(value) for value in found if isinstance(value, memoryview)]


def _version_status(data: memoryview) -> VersionStatus:
    version, state, error = 0, 0, ""
    for number, _, value in fields(data):
        if isinstance(value, int):
            version, state = (_signed(value), state) if number == 1 else (version, value)
        elif number == 3:
            error = next((bytes(v).decode() for n, _, v in fields(value) if n == 2 and isinstance(v, memoryview)), "")
    return VersionStatus(version, STATES.get(state, "UNKNOWN"), error)
