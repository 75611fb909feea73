"""PredictRequest and PredictResponse as bytes, against protobuf's own reading and writing of them."""

from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from stack.model_server import wire
from stack.model_server.errors import ServingError
from stack.model_server.tensors import type_number

KINDS = ["float32", "float64", "int64", "int32", "int8", "uint16", "uint64", "bool", "float16", "complex64"]
SHAPES = nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def arrays() -> Any:
    return st.sampled_from(KINDS).flatmap(lambda kind: nps.arrays(np.dtype(kind), SHAPES))


def read(proto: Any) -> np.ndarray[Any, Any]:
    return wire.tensor("x", memoryview(proto.SerializeToString()))


def same(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    alike = left.tolist() == right.tolist() if left.dtype == object else left.tobytes() == right.tobytes()
    return left.dtype == right.dtype and left.shape == right.shape and alike


@given(arrays())
def test_raw_content_is_read_as_it_is(array: np.ndarray[Any, Any]) -> None:
    proto = tf.make_tensor_proto(array)
    proto.tensor_content = array.tobytes()
    for name in ("float_val", "double_val", "int64_val", "int_val"):
        proto.ClearField(name)
    assert same(read(proto), array)


@given(nps.arrays(np.float32, SHAPES.filter(lambda shape: 0 not in shape), elements=st.floats(width=32)))
def test_packed_floats_are_read_as_they_are(array: np.ndarray[Any, Any]) -> None:
    proto = tensor_pb2.TensorProto(dtype=1, float_val=array.ravel().tolist())
    proto.tensor_shape.CopyFrom(tf.make_tensor_proto(array).tensor_shape)
    assert np.array_equal(read(proto), array, equal_nan=True)


def test_large_floats_are_a_view_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(5000, dtype=np.float32).reshape(50, 100)
    data = memoryview(tf.make_tensor_proto(array).SerializeToString())
    assert np.shares_memory(wire.tensor("x", data), np.frombuffer(data, np.uint8))


def test_one_value_for_many_places_is_repeated() -> None:
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[2.5])
    proto.tensor_shape.dim.add().size = 3
    assert read(proto).tolist() == [2.5, 2.5, 2.5]


def test_a_field_of_another_type_is_no_value() -> None:
    proto = tensor_pb2.TensorProto(dtype=2, float_val=[1.0, 2.0])  # as long as one double
    proto.tensor_shape.dim.add().size = 1
    assert read(proto).tolist() == [0.0]


def test_words_are_read() -> None:
    assert read(tf.make_tensor_proto(["a", "bc"])).tolist() == [b"a", b"bc"]


@pytest.mark.parametrize(
    "data", [b"\x22\x05ab", b"\x0f", b"\x08", b"\xff" * 11, b"\x08\x01\x12\x04\x12\x02\x08\x01\x22\x02ab"]
)
def test_bytes_that_are_no_tensor_are_refused(data: bytes) -> None:
    with pytest.raises(ServingError, match=r"^tensor parsing error: x$") as caught:
        wire.tensor("x", memoryview(data))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def proto(dtype: int, shape: list[int], *, unknown_rank: bool = False, **values: Any) -> Any:
    out = tensor_pb2.TensorProto(dtype=dtype, **values)
    out.tensor_shape.unknown_rank = unknown_rank
    for size in shape:
        out.tensor_shape.dim.add().size = size
    return out


FOUR = np.arange(4, dtype=np.float32).tobytes()
ODD = [
    proto(types_pb2.DT_FLOAT, [-1], tensor_content=FOUR),
    proto(types_pb2.DT_FLOAT, [-2, -2], tensor_content=FOUR),
    proto(types_pb2.DT_FLOAT, [-2, -2], float_val=[1, 2, 3, 4]),
    proto(types_pb2.DT_FLOAT, [0, -1]),
    proto(types_pb2.DT_FLOAT, [], unknown_rank=True, tensor_content=FOUR[:4]),
    proto(types_pb2.DT_FLOAT, [4], unknown_rank=True, tensor_content=FOUR),
    proto(types_pb2.DT_FLOAT, [3], float_val=[1, 2, 3, 4, 5]),
    proto(types_pb2.DT_FLOAT, [4], float_val=[1, 2]),
    proto(types_pb2.DT_FLOAT, [4]),
    proto(types_pb2.DT_FLOAT, [4], tensor_content=FOUR[:8]),
    proto(types_pb2.DT_FLOAT, [2], tensor_content=FOUR[:8], float_val=[9, 9]),
    proto(types_pb2.DT_FLOAT, [0], tensor_content=FOUR),
    proto(types_pb2.DT_FLOAT, [2**62, 4]),
    proto(types_pb2.DT_FLOAT, [1] * 255, float_val=[1]),
    proto(types_pb2.DT_FLOAT_REF, [1], float_val=[1]),
    proto(types_pb2.DT_FLOAT_REF, [1], tensor_content=FOUR[:4]),
    proto(types_pb2.DT_INT8, [2], int_val=[300, -129]),
    proto(types_pb2.DT_UINT8, [2], int_val=[300, -1]),
    proto(types_pb2.DT_UINT16, [2], int_val=[70_000, -1]),
    proto(types_pb2.DT_HALF, [2], half_val=[0x3C00, 0x13C00]),
    proto(types_pb2.DT_BFLOAT16, [2], half_val=[0x3F80]),
    proto(types_pb2.DT_COMPLEX64, [2], scomplex_val=[1, 2, 3]),
    proto(types_pb2.DT_COMPLEX64, [2], scomplex_val=[1]),
    proto(types_pb2.DT_COMPLEX128, [1], dcomplex_val=[1, 2]),
    proto(types_pb2.DT_BOOL, [2], tensor_content=b"\x00\x01"),
    proto(types_pb2.DT_BOOL, [2], tensor_content=b"\x02\x01"),
    proto(types_pb2.DT_STRING, [2]),
    proto(types_pb2.DT_STRING, [3], string_val=[b"a"]),
    proto(types_pb2.DT_STRING, [1], string_val=[b"a", b"b"]),
    proto(types_pb2.DT_STRING, [2], tensor_content=b"\x01\x02abb"),
    proto(types_pb2.DT_STRING, [2], tensor_content=b"\x01\x03abb"),
    proto(types_pb2.DT_STRING, [2], tensor_content=b"\x01"),
    proto(types_pb2.DT_STRING_REF, [1], tensor_content=b"abcdefgh"),
    proto(types_pb2.DT_RESOURCE, [1], tensor_content=b"ab"),
    proto(types_pb2.DT_INVALID, [1]),
    proto(999, [1]),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd).replace("\n", " ")[:60])
def test_an_odd_tensor_is_read_or_refused_as_tensorflow_does(odd: Any) -> None:
    data = odd.SerializeToString()
    known = odd.dtype in types_pb2.DataType.values() and 0 < odd.dtype < 100
    try:
        expected = tf.io.parse_tensor(data, odd.dtype if known else tf.float32).numpy()
    except tf.errors.InvalidArgumentError:
        with pytest.raises(ServingError, match=r"^tensor parsing error: x$") as caught:
            wire.tensor("x", memoryview(data))
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert same(wire.tensor("x", memoryview(data)), expected)


NO_ARRAYS = [
    proto(types_pb2.DT_RESOURCE, [1]),
    proto(types_pb2.DT_VARIANT, [1]),
    proto(types_pb2.DT_FLOAT, [2**45]),
    proto(types_pb2.DT_FLOAT, [2**31], float_val=[1]),
]


@pytest.mark.parametrize("odd", NO_ARRAYS, ids=["resource", "variant", "no memory has that", "no message has that"])
def test_what_is_no_array_is_refused(odd: Any) -> None:
    with pytest.raises(ServingError, match=r"^tensor parsing error: x$"):
        wire.tensor("x", memoryview(odd.SerializeToString()))


def test_quantized_numbers_keep_their_type() -> None:
    array = read(proto(types_pb2.DT_QINT8, [2], int_val=[300, 5]))
    assert (type_number(array), array.tobytes()) == (types_pb2.DT_QINT8, b"\x2c\x05")


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), arrays(), max_size=3),
    st.lists(st.text(max_size=5), max_size=3),
    st.sampled_from(["", "add"]),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=4)),
)
def test_a_request_is_read_as_protobuf_reads_it(
    inputs: dict[str, Any], outputs: list[str], signature: str, chosen: Any
) -> None:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "line"
    request.model_spec.signature_name = signature
    if isinstance(chosen, int):
        request.model_spec.version.value = chosen
    elif chosen is not None:
        request.model_spec.version_label = chosen
    for key, array in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    asked = wire.request(request.SerializeToString())
    assert asked.spec == request.model_spec
    assert asked.outputs == tuple(outputs)
    assert set(asked.inputs) == set(inputs)
    for key, array in inputs.items():
        assert same(wire.tensor(key, asked.inputs[key]), array)


def test_a_request_without_a_spec_and_one_in_two_pieces() -> None:
    assert wire.request(b"").spec is None
    pieces = [
        predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(**{key: "m"})) for key in ("name", "signature_name")
    ]
    spec = wire.request(b"".join(piece.SerializeToString() for piece in pieces)).spec
    assert (spec.name, spec.signature_name) == ("m", "m")  # type: ignore[union-attr]


def test_fields_that_are_not_known_are_passed_over() -> None:
    known = predict_pb2.PredictRequest(output_filter=["y"]).SerializeToString()
    unknown = b"\x78\x05" + b"\x7d\x00\x00\x00\x00" + b"\x79" + b"\x00" * 8 + b"\x7a\x01z"
    assert wire.request(unknown + known + unknown).outputs == ("y",)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x1a\x01\xff", b"\x0a\x01\x0a"])
def test_bytes_that_are_no_request_end_as_grpc_ends_them(data: bytes) -> None:
    with pytest.raises(ServingError) as caught:
        wire.request(data)
    assert caught.value.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("as_content", [False, True])
@given(outputs=st.dictionaries(st.text(min_size=1, max_size=300), arrays(), max_size=3))
def test_a_response_is_read_by_protobuf_as_it_was_meant(outputs: dict[str, Any], as_content: bool) -> None:
    spec = model_pb2.ModelSpec(name="line", signature_name="add")
    spec.version.value = 4
    typed = {key: (array, type_number(array)) for key, array in outputs.items()}
    response = predict_pb2.PredictResponse.FromString(wire.response(spec, typed, as_content=as_content))
    assert response.model_spec == spec
    assert set(response.outputs) == set(outputs)
    for key, array in outputs.items():
        assert same(tf.make_ndarray(response.outputs[key]).astype(array.dtype), array)


KINDS_OF_FIELDS = [
    (np.array([1.5, -2.0], np.float16), "half_val"),
    (np.array([1.5, -2.0], tf.bfloat16.as_numpy_dtype), "half_val"),
    (np.array([1 + 2j], np.complex64), "scomplex_val"),
    (np.array([1 + 2j, 3j], np.complex128), "dcomplex_val"),
    (np.array([7], np.int64), "int64_val"),
    (np.array([7, 8], np.uint32), "uint32_val"),
    (np.array([True]), "bool_val"),
    (np.array([[b"a", b"bcd"]], object), "string_val"),
]


@pytest.mark.parametrize(("array", "field"), KINDS_OF_FIELDS, ids=lambda value: str(getattr(value, "dtype", value)))
def test_every_type_goes_into_its_field_or_into_content_as_tensorflow_reads_it(array: Any, field: str) -> None:
    for as_content in (False, True):
        outputs = {"y": (array, type_number(array))}
        data = wire.response(model_pb2.ModelSpec(), outputs, as_content=as_content)
        written = predict_pb2.PredictResponse.FromString(data).outputs["y"]
        assert [name.name for name, _ in written.ListFields()] == [
            "dtype", "tensor_shape", "tensor_content" if as_content else field,
        ]  # fmt: skip
        assert same(tf.io.parse_tensor(written.SerializeToString(), written.dtype).numpy(), array)
        assert same(read(written), array)


def test_floats_go_into_typed_fields_unless_raw_content_is_wanted() -> None:
    outputs = {"y": (np.array([1.5, 2.5], np.float32), 1)}
    typed = predict_pb2.PredictResponse.FromString(wire.response(model_pb2.ModelSpec(), outputs)).outputs["y"]
    raw = predict_pb2.PredictResponse.FromString(
        wire.response(model_pb2.ModelSpec(), outputs, as_content=True)
    ).outputs["y"]
    assert (list(typed.float_val), typed.tensor_content) == ([1.5, 2.5], b"")
    assert (list(raw.float_val), raw.tensor_content) == ([], np.array([1.5, 2.5], "<f4").tobytes())
