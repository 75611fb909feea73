"""PredictRequest and PredictResponse as bytes: tensors of floats are viewed and written without a message object between.

Packed `float_val` and `double_val` hold the bytes of `tensor_content`; so the default wire format is read and written as fast
as raw content. Everything else goes through protobuf, tensor by tensor. Field numbers are those of
tensorflow_serving/apis/predict.proto and tensorflow/core/framework/tensor.proto.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import model_pb2

from stack.model_server import tensors
from stack.model_server.errors import ServingError
from stack.model_server.servable import Array
from stack.model_server.varints import BadBytes, read_varint, varint

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SPEC, INPUTS, FILTER = 1, 2, 3
DTYPE, SHAPE, CONTENT = 1, 2, 4
# The packed fields whose bytes are the array's own, by type; strings have no raw content.
PACKED = {types_pb2.DT_FLOAT: 5, types_pb2.DT_DOUBLE: 6}
# The types whose content is the array's own bytes; words have lengths, and a truth value is to be 0 or 1.
VIEWED = tensors.numpy_types(but=(types_pb2.DT_STRING, types_pb2.DT_BOOL))
Field = tuple[int, int, Any]


@dataclass(frozen=True)
class Asked:
    """A PredictRequest: its ModelSpec (None when it has none), the bytes of its input tensors and its output filter."""

    spec: Any | None
    inputs: Mapping[str, memoryview] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


def request(data: bytes) -> Asked:
    """Take a PredictRequest apart; INTERNAL, as gRPC answers, when it is none."""
    spec, inputs, outputs = b"", {}, []
    has_spec = False
    try:
        for number, kind, value in fields(memoryview(data)):
            if kind != BYTES or number not in (SPEC, INPUTS, FILTER):
                continue
            if number == SPEC:
                # A message sent in pieces is the pieces one after the other.
                has_spec, spec = True, spec + bytes(value)
            elif number == INPUTS:
                key, tensor = _entry(value)
                inputs[key] = tensor
            else:
                outputs.append(str(value, "utf-8"))
        return Asked(model_pb2.ModelSpec.FromString(spec) if has_spec else None, inputs, tuple(outputs))
    except (BadBytes, DecodeError, UnicodeDecodeError) as error:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the request is not a PredictRequest: {error}") from None


def tensor(key: str, data: memoryview) -> Array:
    """A TensorProto's bytes as an array, a view where they are the array's own; INVALID_ARGUMENT when they are no tensor."""
    try:
        fast = _view(data)
        return fast if fast is not None else tensors.decode(key, tensor_pb2.TensorProto.FromString(bytes(data)))
    # BadBytes is a ValueError, and so is what numpy says of a shape.
    except (ValueError, DecodeError):
        raise ServingError.invalid(f"tensor parsing error: {key}") from None


def response(spec: Any, outputs: Mapping[str, tuple[Array, int]], *, as_content: bool = False) -> bytes:
    """A PredictResponse: outputs by name, each an array and its DataType."""
    parts: list[Any] = []
    for key, (array, dtype) in outputs.items():
        name = key.encode()
        body, size = _tensor_parts(array, dtype, as_content=as_content)
        head = b"\x0a" + varint(len(name)) + name + b"\x12" + varint(size)
        parts += [b"\x0a" + varint(len(head) + size) + head, *body]
    written = spec.SerializeToString()
    return b"".join([*parts, b"\x12", varint(len(written)), written])


def fields(data: memoryview) -> Iterator[Field]:
    """Every (field number, wire type, value) of a message, in order; BadBytes when it is none."""
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            size, at = read_varint(data, at)
            if size > end - at:
                raise BadBytes("a field is longer than its message")
            yield number, kind, data[at : at + size]
            at += size
        elif kind == VARINT:
            value, at = read_varint(data, at)
            yield number, kind, value
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
            if size > end - at:
                raise BadBytes("a field is longer than its message")
            yield number, kind, data[at : at + size]
            at += size
        else:
            raise BadBytes(f"wire type {kind} is none of 0, 1, 2, 5")


def _entry(data: memoryview) -> tuple[str, memoryview]:
    key, value = "", memoryview(b"")
    for number, kind, content in fields(data):
        if kind == BYTES and number == 1:
            key = str(content, "utf-8")
        elif kind == BYTES and number == 2:
            value = content
    return key, value


def _view(data: memoryview) -> Array | None:
    """The array over the tensor's own bytes; None when another field or a short or repeated one asks for protobuf."""
    dtype, shape, values, where = 0, None, None, 0
    for number, kind, value in fields(data):
        if number == DTYPE and kind == VARINT:
            dtype = value
        elif number == SHAPE and kind == BYTES and shape is None:
            shape = [dim.size for dim in tensor_shape_pb2.TensorShapeProto.FromString(value).dim]
        elif kind == BYTES and values is None:
            values, where = value, number
        else:
            return None
    kind_of = VIEWED.get(dtype)
    if values is None or shape is None or kind_of is None or where not in (CONTENT, PACKED.get(dtype)):
        return None
    count = 1
    for size in shape:
        count *= size
    if count * kind_of.itemsize != len(values) or min(shape, default=0) < 0:
        return None
    return np.frombuffer(values, dtype=kind_of).reshape(shape)


def _tensor_parts(array: Array, dtype: int, *, as_content: bool) -> tuple[list[Any], int]:
    """A TensorProto's bytes in pieces, and their number; the pieces of a float array are views of it."""
    packed = PACKED.get(dtype)
    if packed is None:
        whole = tensors.encoded(array, dtype, as_content=as_content)
        return [whole], len(whole)
    dims = b"".join(_dim(size) for size in array.shape)
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    head = b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims
    if array.size:
        head += varint((CONTENT if as_content else packed) << 3 | BYTES) + varint(len(values))
    return [head, values], len(head) + len(values)


def _dim(size: int) -> bytes:
    body = b"\x08" + varint(size) if size else b""
    return b"\x12" + varint(len(body)) + body
