"""PredictRequest and PredictResponse as bytes, against protobuf's own reading and writing of them."""

from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from tensorflow.core.framework import tensor_pb2
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
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


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


@pytest.mark.parametrize("data", [b"\x22\x05ab", b"\x0f", b"\x08", b"\xff" * 11, b"\x08\x01\x12\x02\x12\x00\x22\x02ab"])
def test_bytes_that_are_no_tensor_are_refused(data: bytes) -> None:
    with pytest.raises(ServingError, match="tensor parsing error: x: ") as caught:
        wire.tensor("x", memoryview(data))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


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


def test_floats_go_into_typed_fields_unless_raw_content_is_wanted() -> None:
    outputs = {"y": (np.array([1.5, 2.5], np.float32), 1)}
    typed = predict_pb2.PredictResponse.FromString(wire.response(model_pb2.ModelSpec(), outputs)).outputs["y"]
    raw = predict_pb2.PredictResponse.FromString(
        wire.response(model_pb2.ModelSpec(), outputs, as_content=True)
    ).outputs["y"]
    assert (list(typed.float_val), typed.tensor_content) == ([1.5, 2.5], b"")
    assert (list(raw.float_val), raw.tensor_content) == ([], np.array([1.5, 2.5], "<f4").tobytes())
