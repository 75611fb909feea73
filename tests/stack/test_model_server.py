"""The model server over the wire, asked with TensorFlow Serving's own stubs: answers, states and error texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.server import Options, Server
from tests.stack.model_client import TIMEOUT_S, Client, refusal, values
from tests.stack.saved_models import REGRESS, write_examples, write_line, write_spinner


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 3 (+2) and 4 (+5) of `line`; a `broken` export; an `empty` folder."""
    root = tmp_path_factory.mktemp("models")
    for name in ("line", "broken/1", "empty"):
        (root / name).mkdir(parents=True)
    write_line(root / "line", 3, offset=2.0)
    write_line(root / "line", 4, offset=5.0)
    write_examples(root / "examples", 1)
    write_spinner(root / "spinner", 1)
    (root / "broken" / "1" / "saved_model.pb").write_bytes(b"not a graph")
    return root


@pytest.fixture(scope="module")
def client(base: Path) -> Iterator[Client]:
    models = (
        ModelConfig("line", base / "line", Policy(latest=2), {"stable": 3, "canary": 4}),
        ModelConfig("examples", base / "examples"),
        ModelConfig("spinner", base / "spinner"),
        ModelConfig("broken", base / "broken"),
        ModelConfig("empty", base / "empty"),
    )
    server = Server(
        Options(
            port=0,
            models=models,
            max_num_load_retries=0,
            allow_version_labels_for_unavailable_models=True,
            open_port_before_models=True,
        )
    )
    client = Client(server.start())
    yield client
    client.channel.close()
    server.stop()


X = np.array([2.0, 4.0], np.float32)


def test_the_latest_version_answers_with_all_outputs_in_typed_fields(client: Client) -> None:
    response = client.predict({"x": X})
    assert list(response.outputs["y"].float_val) == [6.0, 7.0]
    assert list(response.outputs["z"].float_val) == [-6.0, -7.0]
    assert response.outputs["y"].tensor_content == b""
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("line", 4, "serving_default")


def test_a_version_and_a_label_choose_their_model(client: Client) -> None:
    assert values(client.predict({"x": X}, version=3), "y") == [3.0, 4.0]
    assert values(client.predict({"x": X}, label="stable"), "y") == [3.0, 4.0]
    assert values(client.predict({"x": X}, label="canary"), "y") == [6.0, 7.0]


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    assert list(client.predict({"x": X}, outputs=["z"]).outputs) == ["z"]


def test_typed_values_and_raw_content_mean_the_same(client: Client) -> None:
    typed = tf.make_tensor_proto(X)
    raw = type(typed)(dtype=typed.dtype, tensor_shape=typed.tensor_shape, float_val=[2.0, 4.0])
    assert values(client.predict({"x": raw}), "y") == values(client.predict({"x": X}), "y") == [6.0, 7.0]


def test_a_signature_with_two_inputs_of_other_types(client: Client) -> None:
    inputs = {"a": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([10, 20], np.int64)}
    assert values(client.predict(inputs, signature="add"), "sum") == [13.0, 27.0]


def test_words_go_in_and_out_and_tables_are_initialised(client: Client) -> None:
    response = client.predict({"word": np.array([b"rock", b"polka"], object)}, signature="look_up")
    assert list(response.outputs["id"].int64_val) == [9, -1]
    assert list(response.outputs["loud"].string_val) == [b"ROCK", b"POLKA"]


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        ({"model": "nobody"}, "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        ({"model": "empty"}, "NOT_FOUND", "Servable not found for request: Latest(empty)"),
        ({"model": "broken"}, "NOT_FOUND", "Servable not found for request: Latest(broken)"),
        ({"version": 9}, "NOT_FOUND", "Servable not found for request: Specific(line, 9)"),
        ({"model": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ({"label": ""}, "INVALID_ARGUMENT", "Unrecognized servable version label: "),
        ({"label": "beta"}, "INVALID_ARGUMENT", "Unrecognized servable version label: beta"),
        ({"signature": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ({"inputs": {}}, "INVALID_ARGUMENT",
         "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
        ({"inputs": {"b": X, "q": X, "p": X}, "signature": "add"}, "INVALID_ARGUMENT",
         "input size does not match signature: 3!=2 len({b,p,q}) != len({a,b}). Sent extra: {p,q}. "
         "Missing but required: {a}."),
        ({"inputs": {"q": X}}, "INVALID_ARGUMENT",
         "input tensor alias not found in signature: q. Inputs expected to be in the set {x}."),
        ({"outputs": ["w"]}, "INVALID_ARGUMENT",
         "output tensor alias not found in signature: w Outputs expected to be in the set {y,z}."),
        ({"outputs": ["y", "y"]}, "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
        ({"inputs": {"x": np.array([True])}}, "INVALID_ARGUMENT", "Expects arg[0] to be float but bool is provided"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_answered_is_refused_in_upstreams_words(
    client: Client, asked: dict[str, Any], code: str, message: str
) -> None:
    inputs = asked.pop("inputs", {"x": X})
    assert refusal(lambda: client.predict(inputs, **asked)) == (grpc.StatusCode[code], message)


def test_a_tensor_that_is_shorter_than_its_shape_is_refused(client: Client) -> None:
    torn = tf.make_tensor_proto(X)
    torn.tensor_content = torn.tensor_content[:4]
    code, message = refusal(lambda: client.predict({"x": torn}))
    assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: x")


def test_there_is_no_static_shape_check_but_the_graph_may_refuse(client: Client) -> None:
    wrong = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.int64)}
    code, message = refusal(lambda: client.predict(wrong, signature="add"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Incompatible shapes: [3] vs. [2]" in message


def test_versions_and_their_states_are_listed_from_the_highest(client: Client) -> None:
    rows = client.status("line").model_version_status
    assert [(row.version, row.state, row.status.error_code) for row in rows] == [(4, 30, 0), (3, 30, 0)]
    assert [row.version for row in client.status("line", 3).model_version_status] == [3]


def test_a_failed_load_is_an_ended_version_with_its_reason(client: Client) -> None:
    (row,) = client.status("broken").model_version_status
    assert (row.version, row.state) == (1, 50)
    assert row.status.error_code != 0
    assert "saved_model.pb" in row.status.error_message


def test_status_of_what_is_not_there_is_not_found(client: Client) -> None:
    nobody = refusal(lambda: client.status("nobody"))
    assert nobody == (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model nobody")
    ninth = refusal(lambda: client.status("line", 9))
    assert ninth == (grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model line")
    request = get_model_status_pb2.GetModelStatusRequest()
    missing = refusal(lambda: client.models.GetModelStatus(request, timeout=TIMEOUT_S))
    assert missing == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


def test_metadata_holds_the_signatures(client: Client) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "line"
    response = client.predictions.GetModelMetadata(request, timeout=TIMEOUT_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "add", "look_up"} <= set(signatures.signature_def)
    assert set(signatures.signature_def["add"].inputs) == {"a", "b"}
    assert (response.model_spec.name, response.model_spec.version.value) == ("line", 4)
    assert response.model_spec.signature_name == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["x"], "Metadata field x is not supported"),
    ],
)
def test_metadata_other_than_signatures_is_refused(client: Client, fields: list[str], message: str) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "line"
    asked = refusal(lambda: client.predictions.GetModelMetadata(request, timeout=TIMEOUT_S))
    assert asked == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_what_is_not_here_says_so(client: Client) -> None:
    for method in ("tensorflow.serving.PredictionService/PredictStreamed", "tensorflow.ProfilerService/Monitor"):
        ask = client.channel.unary_unary(f"/{method}")
        assert refusal(lambda ask=ask: ask(b"", timeout=TIMEOUT_S))[0] is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[misc]


def test_a_long_message_is_cut(client: Client) -> None:
    code, message = refusal(lambda: client.predict({"x": X}, outputs=["w" * 2000]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "output tensor alias not found in signature: " + "w" * (1024 - 44) + "...TRUNCATED"


def test_a_request_that_is_no_message_ends_as_grpc_ends_it(client: Client) -> None:
    ask = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert refusal(lambda: ask(b"\x0a\x05ab", timeout=TIMEOUT_S))[0] is grpc.StatusCode.INTERNAL


def test_a_request_without_a_model_spec_is_refused(client: Client) -> None:
    for ask, request in (
        (client.predictions.Predict, predict_pb2.PredictRequest()),
        (client.predictions.Classify, classification_pb2.ClassificationRequest()),
        (client.predictions.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest()),
    ):
        missing = refusal(lambda ask=ask, request=request: ask(request, timeout=TIMEOUT_S))  # type: ignore[misc]
        assert missing == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


def test_a_label_in_a_status_request_is_ignored(client: Client) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "line"
    request.model_spec.version_label = "beta"
    rows = client.models.GetModelStatus(request, timeout=TIMEOUT_S).model_version_status
    assert [row.version for row in rows] == [4, 3]


def test_examples_are_answered_over_the_wire(client: Client) -> None:
    regress, classify = regression_pb2.RegressionRequest(), classification_pb2.ClassificationRequest()
    multi = inference_pb2.MultiInferenceRequest()
    for request in (regress, classify, multi):
        feature = request.input.example_list.examples.add().features.feature["x"]
        feature.float_list.value.append(2.0)
    regress.model_spec.name = classify.model_spec.name = "examples"
    classify.model_spec.signature_name = "scores"
    multi.tasks.add(method_name=REGRESS).model_spec.name = "examples"
    ask = client.predictions
    assert ask.Regress(regress, timeout=TIMEOUT_S).result.regressions[0].value == 1.0
    scores = ask.Classify(classify, timeout=TIMEOUT_S).result.classifications[0].classes
    assert [one.score for one in scores] == [-1.0, 1.0]
    assert ask.MultiInference(multi, timeout=TIMEOUT_S).results[0].regression_result.regressions[0].value == 1.0
    nobody = refusal(lambda: ask.MultiInference(inference_pb2.MultiInferenceRequest(), timeout=TIMEOUT_S))
    assert nobody[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_the_first_task_chooses_the_version_of_all(client: Client) -> None:
    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    request.tasks.add(method_name=REGRESS).model_spec.name = "examples"
    request.tasks.add(method_name=REGRESS).model_spec.name = "examples"
    request.tasks[1].model_spec.signature_name = "flat"
    request.tasks[1].model_spec.version.value = 9  # not there, and not asked
    ask = client.predictions.MultiInference
    assert [row.model_spec.version.value for row in ask(request, timeout=TIMEOUT_S).results] == [1, 1]
    request.tasks[0].model_spec.version.value = 8
    assert refusal(lambda: ask(request, timeout=TIMEOUT_S)) == (
        grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(examples, 8)",
    )  # fmt: skip
    request.tasks[0].model_spec.version_label = "beta"
    assert refusal(lambda: ask(request, timeout=TIMEOUT_S))[1] == "Unrecognized servable version label: beta"


def test_signatures_made_for_other_apis_are_predicted_too(client: Client) -> None:
    example = np.array([tf.train.Example().SerializeToString()], object)
    response = client.predict({"inputs": example}, model="examples", signature="classify")
    assert values(response, "scores") == [[0.0, 0.0]]


def test_a_run_ends_with_the_requests_deadline(client: Client) -> None:
    endless = {"to": np.array(2**62, np.int64)}
    code, _ = refusal(lambda: client.predict(endless, model="spinner", timeout=0.3))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert values(client.predict({"to": np.array(5, np.int64)}, model="spinner"), "reached") == 5
