"""TensorFlow Lite models: what is read from the file, running them, and where they go before SavedModels."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow_serving.apis import predict_pb2

from stack.model_server.errors import ServingError
from stack.model_server.inference import predict_arrays
from stack.model_server.loading import LoadOptions, loader
from stack.model_server.observer import QUIET
from stack.model_server.predict import predict_once
from stack.model_server.tflite import FILE, METADATA, LiteServable
from tests.stack.saved_models import write_line


@pytest.fixture(scope="module")
def converted() -> bytes:
    """y = x / 2 + 1 as a converter of today writes it, with its signature in the file's own place."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def half(x: Any) -> dict[str, Any]:
        return {"y": x * 0.5 + 1.0}

    module = tf.Module()
    module.half = half
    data: bytes = tf.lite.TFLiteConverter.from_concrete_functions([half.get_concrete_function()], module).convert()
    return data


def rewritten(content: bytes, *, metadata: dict[str, Any] | None = None) -> bytes:
    """The model without its signature, its tensors named x and y; signatures in the metadata if given."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.signatureDefs = []
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name, graph.tensors[graph.outputs[0]].name = b"x", b"y"
    if metadata is not None:
        buffer = schema.BufferT()
        buffer.data = list(
            flexbuffers.Dumps({key: value.SerializeToString().decode() for key, value in metadata.items()})
        )
        row = schema.MetadataT()
        row.name, row.buffer = METADATA, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), row]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def named(**aliases: str) -> Any:
    """A SignatureDef: `inputs` and `outputs` are the aliases of x and y."""
    definition = meta_graph_pb2.SignatureDef()
    definition.inputs[aliases["inputs"]].name = "x:0"
    definition.outputs[aliases["outputs"]].name = "y:0"
    return definition


def lite(folder: Path, content: bytes) -> LiteServable:
    path = folder / FILE
    path.write_bytes(content)
    return LiteServable(path, name="m", version=3)


def answers(model: LiteServable, feed: str, array: Any, fetch: str, signature: str = "") -> list[float]:
    _, out = predict_arrays(model, signature, {feed: np.asarray(array, np.float32)})
    return [float(value) for value in out[fetch].ravel()]


def test_a_signature_of_the_file_answers_whatever_the_size_of_the_batch(tmp_path: Path, converted: bytes) -> None:
    model = lite(tmp_path, converted)
    (key,) = model.signatures
    definition = model.signatures[key]
    assert (definition.inputs["x"].dtype, [dim.size for dim in definition.inputs["x"].tensor_shape.dim]) == (1, [-1, 1])
    for batch in ([[2.0]], [[2.0], [4.0], [6.0]], [[8.0]]):
        assert answers(model, "x", batch, "y", key) == [row[0] / 2 + 1 for row in batch]


def test_without_signatures_the_tensors_names_are_the_default_one(tmp_path: Path, converted: bytes) -> None:
    model = lite(tmp_path, rewritten(converted))
    assert list(model.signatures) == ["serving_default"]
    assert answers(model, "x", [[2.0], [4.0]], "y") == [2.0, 3.0]
    # As upstream: what has as many numbers is taken in the model's shape.
    assert answers(model, "x", [2.0, 4.0], "y") == [2.0, 3.0]


def test_the_only_signature_in_the_metadata_is_the_default_one(tmp_path: Path, converted: bytes) -> None:
    model = lite(tmp_path, rewritten(converted, metadata={"mine": named(inputs="in", outputs="out")}))
    assert list(model.signatures) == ["serving_default"]
    assert answers(model, "in", [[2.0]], "out") == [2.0]
    assert model.run_tensors({"x": np.array([[2.0]], np.float32)}, ["y"])[0].tolist() == [[2.0]]


def test_signatures_in_the_metadata_have_their_names_when_there_are_more(tmp_path: Path, converted: bytes) -> None:
    both = {"a": named(inputs="in", outputs="out"), "b": named(inputs="x", outputs="y")}
    model = lite(tmp_path, rewritten(converted, metadata=both))
    assert answers(model, "x", [[2.0]], "y", "b") == answers(model, "in", [[2.0]], "out", "a") == [2.0]


def test_what_cannot_be_run_is_a_status_and_the_next_request_is_answered(tmp_path: Path, converted: bytes) -> None:
    model = lite(tmp_path, rewritten(converted))
    for work, code in (
        (lambda: answers(model, "x", [[2.0]], "y", "none"), "FAILED_PRECONDITION"),
        (lambda: model.run("serving_default", {"x": np.array([[2]], np.int32)}, ["y"]), "INTERNAL"),
        (lambda: model.run("serving_default", {"x": np.array([[2.0]], np.float32)}, ["y"], timeout_s=0),
         "DEADLINE_EXCEEDED"),
        (lambda: model.run_tensors({"z": np.zeros(1)}, ["y"]), "INVALID_ARGUMENT"),
    ):  # fmt: skip
        with pytest.raises(ServingError) as caught:
            work()
        assert caught.value.code.name == code
    assert answers(model, "x", [[2.0]], "y") == [2.0]


def test_a_file_that_is_no_model_or_lacks_a_tensor_is_not_loaded(tmp_path: Path, converted: bytes) -> None:
    lost = named(inputs="in", outputs="out")
    lost.outputs["out"].name = "z"
    for content, code in (
        (b"not a model", "INVALID_ARGUMENT"),
        (rewritten(converted, metadata={"mine": lost}), "INTERNAL"),
    ):
        with pytest.raises(ServingError) as caught:
            lite(tmp_path, content)
        assert caught.value.code.name == code


def test_it_goes_before_the_saved_model_when_it_is_preferred_and_there(tmp_path: Path, converted: bytes) -> None:
    prefer = loader(LoadOptions(prefer_tflite_model=True), QUIET)
    path = write_line(tmp_path, 1)
    assert "add" in prefer(path, "line", 1).signatures
    (path / FILE).write_bytes(rewritten(converted))
    model = prefer(path, "line", 1)
    assert list(model.signatures) == ["serving_default"]
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([[2.0]]))
    predict_once(request, model)
    assert model.close()
    assert not model.hold()
    assert "add" in loader(LoadOptions(), QUIET)(path, "line", 1).signatures
