"""The model server over the wire, asked with TensorFlow Serving's own stubs: answers, states and error texts."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.errors import ServingError
from stack.model_server.server import Options, Server
from tests.stack.saved_models import write_line

TIMEOUT_S = 20.0


class Client:
    """Upstream's stubs on one channel."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, inputs: dict[str, Any], *, model: str = "line", signature: str = "", **more: Any) -> Any:
        request = predict_pb2.PredictRequest(output_filter=more.get("outputs", []))
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if "version" in more:
            request.model_spec.version.value = more["version"]
        if "label" in more:
            request.model_spec.version_label = more["label"]
        for name, value in inputs.items():
            tensor = tf.make_tensor_proto(value) if isinstance(value, np.ndarray) else value
            request.inputs[name].CopyFrom(tensor)
        return self.predictions.Predict(request, timeout=TIMEOUT_S)

    def status(self, model: str, version: int | None = None) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        return self.models.GetModelStatus(request, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 3 (+2) and 4 (+5) of `line`; a `broken` export; an `empty` folder."""
    root = tmp_path_factory.mktemp("models")
    for name in ("line", "broken/1", "empty"):
        (root / name).mkdir(parents=True)
    write_line(root / "line", 3, offset=2.0)
    write_line(root / "line", 4, offset=5.0)
    (root / "broken" / "1" / "saved_model.pb").write_bytes(b"not a graph")
    return root


@pytest.fixture(scope="module")
def client(base: Path) -> Iterator[Client]:
    models = (
        ModelConfig("line", base / "line", Policy(latest=2), {"stable": 3, "canary": 4}),
        ModelConfig("broken", base / "broken"),
        ModelConfig("empty", base / "empty"),
    )
    server = Server(
        Options(port=0, models=models, max_num_load_retries=0, allow_version_labels_for_unavailable_models=True)
    )
    client = Client(server.start())
    yield client
    client.channel.close()
    server.stop()


def refusal(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        work()
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


def values(response: Any, name: str) -> list[Any]:
    return list(tf.make_ndarray(response.outputs[name]).tolist())


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
        ({"label": "beta"}, "INVALID_ARGUMENT", "Unrecognized servable version label: beta"),
        ({"signature": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ({"inputs": {}}, "INVALID_ARGUMENT",
         "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
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
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("tensor parsing error: x: ")


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
    request = model_management_pb2.ReloadConfigRequest()
    code, _ = refusal(lambda: client.models.HandleReloadConfigRequest(request, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def wait_for(said: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if said():
            return True
        time.sleep(0.02)
    return False


def test_a_swap_under_load_drops_no_request(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    write_line(tmp_path / "line", 1, offset=1.0)
    model = ModelConfig("line", tmp_path / "line")
    server = Server(Options(port=0, models=(model,), file_system_poll_wait_s=0.05))
    client = Client(server.start())
    try:
        write_line(tmp_path / "line", 2, offset=2.0)
        answers: list[float] = []

        def ask() -> bool:
            answers.append(values(client.predict({"x": np.zeros(1, np.float32)}), "y")[0])
            return answers[-1] == 2.0 and client.status("line", 1).model_version_status[0].state == 50

        assert wait_for(ask)
        assert answers == sorted(answers)  # version 1, then 2, never an error between
        assert set(answers) <= {1.0, 2.0}
    finally:
        client.channel.close()
        server.stop()


def test_a_folder_that_comes_later_and_a_new_configuration_are_picked_up(tmp_path: Path) -> None:
    config = tmp_path / "models.config"

    def write(*names: str) -> None:
        rows = "".join(
            f'config {{ name: "{n}" base_path: "{tmp_path / n}" model_platform: "tensorflow" }}' for n in names
        )
        config.write_text(f"model_config_list {{ {rows} }}")

    write("later")
    options = Options(
        port=0, model_config_file=config, model_config_file_poll_wait_s=0.05, file_system_poll_wait_s=0.05
    )
    server = Server(options)
    client = Client(server.start())
    try:
        assert refusal(lambda: client.predict({"x": X}, model="later"))[0] is grpc.StatusCode.NOT_FOUND
        (tmp_path / "later").mkdir()
        write_line(tmp_path / "later", 1)
        assert wait_for(lambda: server.serves("later"))
        config.write_text("model_config_list { nonsense")  # a bad file changes nothing
        time.sleep(0.2)
        assert values(client.predict({"x": X}, model="later"), "y") == [3.0, 4.0]
        (tmp_path / "second").mkdir()
        write_line(tmp_path / "second", 7)
        write("second")
        assert wait_for(lambda: server.serves("second") and not server.serves("later"))
        assert refusal(lambda: client.predict({"x": X}, model="later"))[0] is grpc.StatusCode.NOT_FOUND
    finally:
        client.channel.close()
        server.stop()


def test_a_taken_port_is_an_error_not_a_shared_one(client: Client, tmp_path: Path, base: Path) -> None:
    first = Server(Options(port=0, models=(ModelConfig("empty", base / "empty"),)))
    port = first.start()
    try:
        with pytest.raises(ServingError, match=f"port {port} is taken"):
            Server(Options(port=port, models=(ModelConfig("empty", base / "empty"),))).start()
    finally:
        first.stop()


def test_a_start_without_a_model_is_refused_in_one_sentence() -> None:
    command = [sys.executable, "-m", "stack.model_server", "--port=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 255
    assert (
        done.stderr.strip().splitlines()[-1] == "exactly one of --model_base_path and --model_config_file must be given"
    )
