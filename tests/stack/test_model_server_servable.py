"""One loaded model: deadlines of runs, outputs in any order, a bounded number of prepared runs."""

import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from stack.model_server import servable, wire
from stack.model_server.errors import ServingError
from stack.model_server.inference import DEFAULT_TERMS, plan, run_plan
from stack.model_server.servable import Servable
from tests.stack.saved_models import write_line, write_spinner

X = np.array([2.0], np.float32)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    return Servable(write_line(tmp_path_factory.mktemp("line"), 1), name="line", version=1)


@pytest.fixture(scope="module")
def spinner(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    return Servable(write_spinner(tmp_path_factory.mktemp("spinner"), 1), name="spinner", version=1)


def ended(work: Any) -> str:
    with pytest.raises(ServingError) as caught:
        work()
    return str(caught.value.code.name)


def test_a_loop_that_has_no_end_ends_with_its_deadline(spinner: Servable) -> None:
    for_ever = {"to": np.array(2**62, np.int64)}
    assert ended(lambda: spinner.run("serving_default", for_ever, ["reached"], timeout_s=0.2)) == "DEADLINE_EXCEEDED"
    assert spinner.run("serving_default", {"to": np.array(3, np.int64)}, ["reached"], timeout_s=20.0) == [3]
    assert spinner.run("serving_default", {"to": np.array(4, np.int64)}, ["reached"]) == [4]


def test_what_comes_too_late_is_not_run(line: Servable) -> None:
    assert ended(lambda: line.run("serving_default", {"x": X}, ["y"], timeout_s=0.0)) == "DEADLINE_EXCEEDED"


def test_outputs_come_in_the_order_asked_for(line: Servable) -> None:
    assert [float(array[0]) for array in line.run("serving_default", {"x": X}, ["z", "y"])] == [-3.0, 3.0]
    assert [float(array[0]) for array in line.run("serving_default", {"x": X}, ["y", "z"])] == [3.0, -3.0]
    assert [float(array[0]) for array in line.run("serving_default", {"x": X}, ["z"])] == [-3.0]


def test_a_clients_choice_of_outputs_does_not_grow_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def many(x: Any) -> dict[str, Any]:
        return {f"y{place}": x + float(place) for place in range(6)}

    module = tf.Module()
    module.many = many
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": many})
    monkeypatch.setattr(servable, "CALLABLES", 4)
    model = Servable(tmp_path / "1", name="many", version=1)
    for first in range(6):
        for second in set(range(6)) - {first}:
            out = model.run("serving_default", {"x": X}, [f"y{first}", f"y{second}"])
            assert [float(array[0]) for array in out] == [2.0 + first, 2.0 + second]
    assert len(model._callables) <= 5


def test_the_static_shape_of_an_input_is_not_checked(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 1])
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x * 0.5})
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={"serving_default": signature})
        builder.save()
    model = Servable(tmp_path / "1", name="m", version=1)
    assert model.run("serving_default", {"x": X}, ["y"])[0].tolist() == [1.0]


def test_two_requests_run_beside_each_other(spinner: Servable) -> None:
    """A request that takes its time does not hold up another on the same model."""
    slow: list[str] = []
    for_ever = {"to": np.array(2**62, np.int64)}
    thread = threading.Thread(
        target=lambda: slow.append(ended(lambda: spinner.run("serving_default", for_ever, ["reached"], timeout_s=2.0)))
    )
    thread.start()
    assert spinner.run("serving_default", {"to": np.array(3, np.int64)}, ["reached"]) == [3]
    assert slow == []  # still running
    thread.join()
    assert slow == [grpc.StatusCode.DEADLINE_EXCEEDED.name]


def unknown_operation(folder: Path) -> Path:
    """A SavedModel of one operation that nobody has registered, as TF Text's are without its package."""
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.graph_def.node.add(name="tokens", op="WhitespaceTokenizeLike")
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def test_a_graph_of_unknown_operations_is_tried_again_with_tf_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)  # not installed
    with pytest.raises(tf.errors.NotFoundError, match="WhitespaceTokenizeLike"):
        Servable(unknown_operation(tmp_path), name="m", version=1)
    monkeypatch.delitem(sys.modules, "tensorflow_text")
    (tmp_path / "tensorflow_text.py").write_text("import builtins\nbuiltins.text_was_imported = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(tf.errors.NotFoundError, match="WhitespaceTokenizeLike"):
        Servable(tmp_path, name="m", version=1)
    assert sys.modules.pop("tensorflow_text").builtins.text_was_imported


def test_the_operations_of_tf_text_are_loaded_for_no_other_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servable, "_register_text_operations", lambda: pytest.fail("not asked for"))
    with pytest.raises(ServingError):
        Servable(tmp_path, name="m", version=1)


def test_an_output_by_reference_has_its_types_field(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        counter = tf.compat.v1.Variable([7.0, 8.0], use_resource=False)
        session.run(counter.initializer)
        info = tf.compat.v1.saved_model.build_tensor_info
        signature = tf.compat.v1.saved_model.build_signature_def(
            {"x": info(x)}, {"count": info(counter._variable)}, "tensorflow/serving/predict"
        )
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={"serving_default": signature})
        builder.save()
    model = Servable(tmp_path / "1", name="m", version=1)
    assert model.signatures["serving_default"].outputs["count"].dtype == types_pb2.DT_FLOAT_REF
    chosen = plan(model, "", ["x"], [])
    out = run_plan(model, chosen, {"x": X}, DEFAULT_TERMS)
    typed = {key: (array, chosen.outputs[key]) for key, array in out.items()}
    response = predict_pb2.PredictResponse.FromString(wire.response(model_pb2.ModelSpec(), typed))
    assert list(response.outputs["count"].float_val) == [7.0, 8.0]
