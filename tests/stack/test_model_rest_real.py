"""The REST port of a whole server on a real SavedModel: predictions, metadata, metrics and batching as a client sees them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from stack.model_server.batching import parameters
from stack.model_server.config import ModelConfig
from stack.model_server.options import Rest
from stack.model_server.protos import monitoring
from stack.model_server.server import Options, Server
from tests.stack.numpy_models import Api
from tests.stack.saved_models import write_line

Q = ":tensorflow:serving:"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models") / "line"
    root.mkdir()
    write_line(root, 3, offset=2.0)
    return root


def started(base: Path, **options: Any) -> tuple[Server, int]:
    server = Server(
        Options(
            port=0,
            models=(ModelConfig("line", base),),
            rest=Rest(0),
            monitoring=monitoring("prometheus_config { enable: true }"),
            **options,
        )
    )
    return server, server.start()


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[tuple[Server, int]]:
    running = started(base)
    yield running
    running[0].stop()


@pytest.fixture(scope="module")
def api(server: tuple[Server, int]) -> Api:
    return Api(server[0].rest_port)


def test_a_saved_model_answers_in_rows_and_in_columns(api: Api) -> None:
    rows = [{"y": 3.0, "z": -3.0}, {"y": 4.0, "z": -4.0}]
    assert api.post("/v1/models/line:predict", {"instances": [2.0, 4]}) == (200, {"predictions": rows})
    columns = {"y": [3.0, 4.0], "z": [-3.0, -4.0]}
    assert api.post("/v1/models/line:predict", {"inputs": [2.0, 4]}) == (200, {"outputs": columns})


def test_words_go_through_a_saved_model_and_back(api: Api) -> None:
    body = {"signature_name": "look_up", "inputs": ["rock", {"b64": "amF6eg=="}, "polka"]}
    expected = {"outputs": {"id": [9, 7, -1], "loud": ["ROCK", "JAZZ", "POLKA"]}}
    assert api.post("/v1/models/line:predict", body) == (200, expected)


def test_what_the_graph_refuses_is_the_clients_error(api: Api) -> None:
    body = {"signature_name": "add", "inputs": {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [10, 20]}}
    assert api.post("/v1/models/line:predict", body) == (200, {"outputs": [13.0, 27.0]})
    body["inputs"] = {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [10, 20, 30]}
    status, answer = api.post("/v1/models/line:predict", body)
    assert status == 400
    assert "Incompatible shapes" in answer["error"]


def test_the_metadata_of_a_saved_model_names_its_tensors_and_types(api: Api) -> None:
    signatures = api.get("/v1/models/line/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    assert {name: info["dtype"] for name, info in signatures["add"]["inputs"].items()} == {
        "a": "DT_FLOAT",
        "b": "DT_INT64",
    }


def test_the_metrics_page_counts_requests_of_both_ports(server: tuple[Server, int], api: Api) -> None:
    def page() -> dict[str, float]:
        status, text, _ = api.ask("GET", "/monitoring/prometheus/metrics")
        assert status == 200
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if "{" in line)
        }

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "line"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0], tf.float32))
    grpc_key = f'{Q}request_latency_count{{model_name="line",API="Predict",entrypoint="GRPC"}}'
    rest_key = f'{Q}request_latency_count{{model_name="line",API="predict",entrypoint="REST"}}'
    before = page()
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}") as channel:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
    api.post("/v1/models/line:predict", {"instances": [2.0]})
    after = page()
    assert after[grpc_key] - before.get(grpc_key, 0) == 1
    assert after[rest_key] - before.get(rest_key, 0) == 1


def test_a_batching_server_answers_the_same_and_refuses_what_is_larger_than_a_batch(base: Path) -> None:
    text = "max_batch_size { value: 4 } batch_timeout_micros { value: 1000 } allowed_batch_sizes: [2, 4]"
    server, _ = started(base, batching=parameters(text))
    api = Api(server.rest_port)
    fine = api.post("/v1/models/line:predict", {"instances": [2.0, 4.0, 6.0]})
    large = api.post("/v1/models/line:predict", {"inputs": [1.0] * 5})
    waits = api.ask("GET", "/monitoring/prometheus/metrics")[1]
    server.stop()
    assert json.dumps(fine[1]["predictions"]) == json.dumps([{"y": v, "z": -v} for v in (3.0, 4.0, 5.0)])
    assert large == (400, {"error": "Task size 5 is larger than maximum input batch size 4"})
    assert f'{Q}batching_session:queuing_latency_count{{thread_pool_name=""}} 1' in waits.splitlines()
