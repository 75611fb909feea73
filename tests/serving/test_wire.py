"""The wire form against TensorFlow Serving's published messages, and what is not a message."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import wire
from serving.errors import ModelRefused

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    np.array([[1, -2], [2**62, -(2**62)]], np.int64),
    np.array([3, -4], np.int32),
    np.array([0.5], np.float64),
    np.array([True, False]),
    np.zeros((0, 4), np.float32),
    np.float32(2.5).reshape(()),
    np.arange(6, dtype=np.int32).reshape(2, 3).T,
    np.arange(8, dtype=np.float32)[::2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_tensors_are_tensorflows(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    ours = tf.make_ndarray(tensor_pb2.TensorProto.FromString(wire.encode_tensor(array)))
    np.testing.assert_array_equal(ours, array)
    assert (ours.dtype, ours.shape) == (array.dtype, array.shape)
    for proto in (tf.make_tensor_proto(array), typed_fields(array)):
        got = wire.decode_tensor(memoryview(proto.SerializeToString()))
        np.testing.assert_array_equal(got, array)
        assert (got.dtype, got.shape) == (array.dtype, array.shape)


def typed_fields(array: np.ndarray):
    """The same tensor in float_val, int64_val and the like, as TensorFlow Serving answers."""
    import tensorflow as tf

    proto = tf.make_tensor_proto(array[..., :0] if array.ndim else array)
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    proto.tensor_content = b""
    name = {
        "float32": "float_val",
        "float64": "double_val",
        "int32": "int_val",
        "int64": "int64_val",
        "bool": "bool_val",
    }
    field = getattr(proto, name[str(array.dtype)])
    del field[:]
    field.extend(array.ravel().tolist())
    return proto


def answer_of(array: np.ndarray, *, name: str = "scores", version: int = 3) -> bytes:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    answer = predict_pb2.PredictResponse()
    answer.model_spec.name, answer.model_spec.version.value = "ranker", version
    answer.outputs[name].CopyFrom(tf.make_tensor_proto(array))
    return answer.SerializeToString()


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_the_next_answer_of_a_form_is_read_as_the_first_and_another_form_as_itself(kind: type) -> None:
    first, second = ((np.arange(12).reshape(4, 3) % n).astype(kind) for n in (5, 2))
    asked = [
        (first, {}), (second, {}), (first.T, {}), (second, {"version": 4}), (first, {"name": "scared"}), (second, {}),
        (second.reshape(2, 6), {}), (second.ravel(), {"name": "scores1"}), (first, {}),
    ]  # fmt: skip
    for array, how in asked:
        ((name, got),) = wire.predict_response(answer_of(np.ascontiguousarray(array), **how)).items()
        assert name == how.get("name", "scores")
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got, array)


def test_forms_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_FORMS", 3)
    wire._forms.clear()
    for rows in range(1, 9):
        array = np.full((rows, 2), rows, np.float32)
        np.testing.assert_array_equal(wire.predict_response(answer_of(array))["scores"], array)
        assert 0 < len(wire._forms) <= 3


def test_a_repeated_last_value_may_be_left_out() -> None:
    import tensorflow as tf

    proto = tf.make_tensor_proto(1.5, shape=[2, 2])
    np.testing.assert_array_equal(
        wire.decode_tensor(memoryview(proto.SerializeToString())), np.full((2, 2), 1.5, np.float32)
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_an_array_arrives_in_a_request_as_it_was_sent(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    for repeat in range(2):  # the second time, what precedes the bytes comes from the cache
        sent = {"x": array, "other": np.array([repeat], np.int64)}
        body = wire.predict_request(wire.model_spec("m"), sent)
        inputs = predict_pb2.PredictRequest.FromString(body).inputs
        got = tf.make_ndarray(inputs["x"])
        np.testing.assert_array_equal(got, array)
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert tf.make_ndarray(inputs["other"]).tolist() == [repeat]


def test_requests_and_answers_are_the_published_messages() -> None:
    from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

    inputs = {"item_key": np.array([1, 2], np.int64), "item_num": np.ones((2, 3), np.float32)}
    spec = wire.model_spec("ranker", version=7, signature="rank")
    request = predict_pb2.PredictRequest.FromString(wire.predict_request(spec, inputs))
    assert (request.model_spec.name, request.model_spec.version.value, request.model_spec.signature_name) == (
        "ranker",
        7,
        "rank",
    )
    assert set(request.inputs) == set(inputs)
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name = "ranker"
    answer.outputs["scores"].dtype = 1
    for size in (2, 1):
        answer.outputs["scores"].tensor_shape.dim.add().size = size
    answer.outputs["scores"].float_val.extend([0.25, 0.75])
    got = wire.predict_response(answer.SerializeToString())
    np.testing.assert_array_equal(got["scores"], np.array([[0.25], [0.75]], np.float32))
    asked = get_model_status_pb2.GetModelStatusRequest.FromString(wire.status_request("ranker"))
    assert asked.model_spec.name == "ranker"
    assert not asked.model_spec.HasField("version")
    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=3, state=30)
    failed = status.model_version_status.add(version=2, state=50)
    failed.status.error_code = 3
    failed.status.error_message = "no graph"
    assert wire.status_response(status.SerializeToString()) == [
        wire.VersionStatus(3, "AVAILABLE", ""),
        wire.VersionStatus(2, "END", "no graph"),
    ]


def test_texts_are_not_sent() -> None:
    with pytest.raises(ModelRefused, match=r"^tensors of type <U1 are not sent; allowed are "):
        wire.encode_tensor(np.array(["a"]))


@given(st.binary(max_size=80))
def test_any_bytes_are_an_answer_or_a_bad_message(data: bytes) -> None:
    for read in (wire.predict_response, wire.status_response):
        with contextlib.suppress(ValueError):
            read(data)


def test_a_number_of_more_than_64_bits_is_cut_off_as_protobuf_does() -> None:
    from tensorflow.core.framework import tensor_pb2

    for last in (b"\x7f", b"\x03", b"\x01"):
        many = b"\x50" + b"\xff" * 9 + last  # int64_val
        body = b"\x08\x09" + wire.field(2, wire.field(2, b"\x08\x01")) + many
        assert wire.decode_tensor(memoryview(body)).tolist() == [tensor_pb2.TensorProto.FromString(body).int64_val[0]]
    with pytest.raises(ValueError, match="does not end"):
        wire.decode_tensor(memoryview(b"\x50" + b"\xff" * 10 + b"\x01"))


@given(
    st.lists(
        st.sampled_from([b"\x08", b"\x09", b"\x12", b"\x50", b"\x38", b"\xff", b"\x7f", b"\x01", b"\x02"]), max_size=40
    )
)
def test_any_tensor_is_read_or_refused_with_a_sentence(parts: list[bytes]) -> None:
    with contextlib.suppress(ValueError):
        wire.decode_tensor(memoryview(b"".join(parts)))
