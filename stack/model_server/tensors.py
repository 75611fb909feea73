"""TensorProto to numpy and back: raw content and packed floats by view, everything else through protobuf."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from stack.model_server.errors import ServingError
from stack.model_server.servable import Array

STRING = types_pb2.DT_STRING
# Typed fields are what upstream fills by default; their numpy dtype makes `extend` take plain Python numbers.
TYPED_FIELD = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    STRING: "string_val",
}
_NUMBERS: dict[np.dtype[Any], int] = {np.dtype(object): STRING}


def decode(key: str, tensor: Any) -> Array:
    """A TensorProto as an array; raw content of fixed-size numbers is viewed, not copied."""
    try:
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.tensor_content and tensor.dtype != STRING:
            return np.frombuffer(tensor.tensor_content, dtype=numpy_type(tensor.dtype)).reshape(shape)
        array: Array = tf.make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise ServingError.invalid(f"tensor parsing error: {key}: {error}") from None
    return array


def encode(array: Array, dtype: int, *, into: Any, as_content: bool = False) -> None:
    """Write an array as a TensorProto with typed values, or with raw content where the type has one."""
    field = TYPED_FIELD.get(dtype)
    if field is None or (as_content and dtype != STRING):
        into.CopyFrom(tf.make_tensor_proto(array))
        return
    array = np.asarray(array)
    into.dtype = dtype
    into.tensor_shape.SetInParent()
    for size in array.shape:
        into.tensor_shape.dim.add().size = size
    # tolist first: extending by a numpy array goes element by element, 280 times slower.
    getattr(into, field).extend(array.ravel().tolist())


def encoded(array: Array, dtype: int, *, as_content: bool = False) -> bytes:
    """The bytes of `encode`."""
    message = tensor_pb2.TensorProto()
    encode(array, dtype, into=message, as_content=as_content)
    data: bytes = message.SerializeToString()
    return data


def numpy_type(number: int) -> Any:
    """The numpy type of a DataType number; TypeError when it has none."""
    return tf.dtypes.as_dtype(number).as_numpy_dtype


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
