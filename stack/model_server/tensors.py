"""TensorProto to numpy and back, as TensorFlow's own `Tensor::FromProto` and `AsProtoField` read and write it."""

from collections.abc import Iterable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from stack.model_server.errors import ServingError
from stack.model_server.servable import Array
from stack.model_server.varints import read_varint, varint

STRING, BOOL = types_pb2.DT_STRING, types_pb2.DT_BOOL
REFERENCE = 100  # a DT_*_REF is its type's number and this
# The typed field of each type, which upstream fills by default, and the numpy type of one of its numbers in memory.
FIELDS: dict[int, tuple[str, Any]] = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_INT32: ("int_val", np.int32),
    types_pb2.DT_INT16: ("int_val", np.int16),
    types_pb2.DT_INT8: ("int_val", np.int8),
    types_pb2.DT_UINT8: ("int_val", np.uint8),
    types_pb2.DT_UINT16: ("int_val", np.uint16),
    types_pb2.DT_QINT32: ("int_val", np.int32),
    types_pb2.DT_QINT16: ("int_val", np.int16),
    types_pb2.DT_QINT8: ("int_val", np.int8),
    types_pb2.DT_QUINT8: ("int_val", np.uint8),
    types_pb2.DT_QUINT16: ("int_val", np.uint16),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
    types_pb2.DT_HALF: ("half_val", np.uint16),
    types_pb2.DT_BFLOAT16: ("half_val", np.uint16),
    types_pb2.DT_COMPLEX64: ("scomplex_val", np.float32),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", np.float64),
    STRING: ("string_val", object),
}
# No message is larger, so a tensor that is comes of a few values spread over a large shape.
LARGEST_BYTES = 2**31
_NUMBERS: dict[np.dtype[Any], int] = {np.dtype(object): STRING}


def decode(key: str, tensor: Any) -> Array:
    """A TensorProto as an array; raw content of fixed-size numbers is viewed, not copied; INVALID_ARGUMENT if it is none.

    As in TensorFlow too many typed values are cut, too few are followed by the last one, none are zeros, and numbers that do
    not fit are cast.
    """
    try:
        return _decode(tensor)
    # Numpy and protobuf say in many ways that numbers, type and shape do not go together.
    except (TypeError, ValueError, KeyError, OverflowError, MemoryError):
        raise ServingError.invalid(f"tensor parsing error: {key}") from None


def encode(array: Array, dtype: int, *, into: Any, as_content: bool = False) -> None:
    """Write an array as a TensorProto with typed values, or with raw content."""
    array = np.asarray(array)
    if dtype not in FIELDS:
        into.CopyFrom(tf.make_tensor_proto(array))
        return
    into.dtype = dtype
    into.tensor_shape.SetInParent()
    for size in array.shape:
        into.tensor_shape.dim.add().size = size
    if as_content:
        into.tensor_content = _packed_words(array) if dtype == STRING else array.tobytes()
        return
    field, kind = FIELDS[dtype]
    # A half goes as its bits, a complex number as two numbers.
    flat = np.ascontiguousarray(array).reshape(-1)
    # tolist first: extending by a numpy array goes element by element, 280 times slower.
    getattr(into, field).extend((flat if dtype == STRING else flat.view(kind)).tolist())


def encoded(array: Array, dtype: int, *, as_content: bool = False) -> bytes:
    """The bytes of `encode`."""
    message = tensor_pb2.TensorProto()
    encode(array, dtype, into=message, as_content=as_content)
    data: bytes = message.SerializeToString()
    return data


def numpy_type(number: int) -> Any:
    """The numpy type of a DataType number; TypeError when it has none."""
    return tf.dtypes.as_dtype(number).as_numpy_dtype


def numpy_types(*, but: Iterable[int] = ()) -> dict[int, np.dtype[Any]]:
    """The numpy type of every DataType whose values are numbers of a fixed size."""
    out = {}
    for number in set(types_pb2.DataType.values()) - set(but):
        # Resources, variants and references have none.
        with suppress(TypeError, KeyError):
            if number < REFERENCE:
                out[number] = np.dtype(numpy_type(number))
    return out


def type_number(array: Array) -> int:
    """The DataType number of an array; bytes and objects are strings."""
    number = _NUMBERS.get(array.dtype)
    if number is None:
        number = _NUMBERS[array.dtype] = int(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)
    return number


def type_name(number: int) -> str:
    """TensorFlow's name of a type, e.g. `float`."""
    if number not in types_pb2.DataType.values():
        return "invalid"
    return str(types_pb2.DataType.Name(number)).removeprefix("DT_").lower()


def base_type(number: int) -> int:
    """The type that a reference refers to, which is what a run gives and takes; another type as it is."""
    return number - REFERENCE if number > REFERENCE else number


def _decode(tensor: Any) -> Array:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if min(shape, default=0) < 0 or tensor.dtype > REFERENCE:
        raise ValueError("a tensor has a shape and a type of its own")
    kind = np.dtype(numpy_type(tensor.dtype))
    count = prod(shape)
    if count * kind.itemsize > LARGEST_BYTES:
        raise ValueError("a tensor is not larger than a message")
    if not count:
        return np.zeros(shape, kind)
    if tensor.tensor_content:
        return _of_content(tensor.tensor_content, tensor.dtype, kind, count).reshape(shape)
    if tensor.dtype not in FIELDS:
        array: Array = tf.make_ndarray(tensor)
        return array
    field, stored = FIELDS[tensor.dtype]
    values = list(getattr(tensor, field))
    if tensor.dtype == STRING:
        flat = np.empty(min(count, len(values)), object)
        flat[:] = values[:count]
    else:
        # By way of a wide integer: numpy refuses what C++ casts.
        numbers = np.asarray(values, np.int64 if field in ("int_val", "half_val") else stored).astype(stored)
        each = kind.itemsize // numbers.itemsize  # 2 for complex numbers, of which half a one is none
        flat = numbers[: len(numbers) // each * each].view(kind)[:count]
    return _filled(flat, count).reshape(shape)


def _filled(values: Array, count: int) -> Array:
    """That many values: the last one again and again, or zeros and empty words where there is none."""
    if len(values) == count:
        return values
    if not len(values):
        return np.full(count, b"", object) if values.dtype == object else np.zeros(count, values.dtype)
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])


def _of_content(content: bytes, dtype: int, kind: Any, count: int) -> Array:
    if dtype == STRING:
        return _unpacked_words(content, count)
    if len(content) != count * kind.itemsize:
        raise ValueError("the content is not as long as the shape says")
    if dtype == BOOL and max(content) > 1:
        raise ValueError("a truth value is 0 or 1")
    return np.frombuffer(content, dtype=kind)


def _packed_words(array: Array) -> bytes:
    """Words as raw content: the lengths of all as varints, then all of them."""
    words = array.ravel().tolist()
    lengths = b"".join(varint(len(word)) for word in words)
    return lengths + b"".join(words)


def _unpacked_words(content: bytes, count: int) -> Array:
    lengths, at = [], 0
    for _ in range(count):
        length, at = read_varint(content, at)
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError("the content is not as long as its words")
    words = np.empty(count, object)
    for place, length in enumerate(lengths):
        words[place] = content[at : at + length]
        at += length
    return words
