"""The REST API over HTTP: routes, status codes and error words, on models made of numpy."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.model_server.errors import ServingError
from stack.model_server.inference import Terms
from stack.model_server.prometheus import PrometheusObserver
from stack.model_server.rest import RestOptions, RestServer
from stack.model_server.rest_routes import HTTP_STATUS, Routes
from stack.model_server.table import ModelTable
from tests.stack.numpy_models import Api, Fake, doing, failing, fake_table


@pytest.fixture(scope="module")
def loaded() -> dict[tuple[str, int], Fake]:
    """The models in the table, by name and version."""
    return {}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, loaded: dict[tuple[str, int], Fake]) -> ModelTable:
    return fake_table(tmp_path_factory.mktemp("models"), loaded)


@pytest.fixture(scope="module")
def port(table: ModelTable) -> Iterator[int]:
    server = RestServer(table, PrometheusObserver(), RestOptions(port=0, timeout_s=1.5))
    server.start()
    yield server.port
    server.stop()


@pytest.fixture(scope="module")
def api(port: int) -> Api:
    return Api(port)


@pytest.fixture
def served(table: ModelTable) -> Iterator[Callable[..., Api]]:
    """A client of a further server over the same models, with options of its own."""
    servers: list[RestServer] = []

    def serve(**options: Any) -> Api:
        server = RestServer(table, PrometheusObserver(), RestOptions(port=0, **options))
        server.start()
        servers.append(server)
        return Api(server.port)

    yield serve
    for server in servers:
        server.stop()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models/line:predict", 5.0),
        ("/v1/models/line/versions/3:predict", 4.0),
        ("/v1/models/line/versions/00000004:predict", 5.0),
        ("/v1/models/line/labels/stable:predict", 4.0),
        ("/v1/models/line/labels/new%20one:predict", 5.0),
        ("/v1/models/a%2Fb:predict", 2.0),
        ("/V1/MODELS/line:predict", 5.0),
        ("/v1/models/line:predict?pretty=1", 5.0),
    ],
)
def test_the_path_names_model_version_or_label(api: Api, path: str, answer: float) -> None:
    assert api.post(path, {"instances": [2.0]}) == (200, {"predictions": [answer]})


def test_columns_are_answered_in_columns(api: Api) -> None:
    assert api.post("/v1/models/line:predict", {"inputs": {"x": [2.0, 4.0]}}) == (200, {"outputs": [5.0, 6.0]})


def test_a_named_signature_with_several_inputs_and_outputs(api: Api) -> None:
    body = {"signature_name": "two", "instances": [{"a": 1.5, "b": 2}, {"a": 2.5, "b": -1}]}
    rows = [{"id_bytes": {"b64": "AP8="}, "sum": 3.5}, {"id_bytes": {"b64": "AP8="}, "sum": 1.5}]
    assert api.post("/v1/models/line:predict", body) == (200, {"predictions": rows})


def test_scalars_come_in_columns_but_not_in_rows(api: Api) -> None:
    assert api.post("/v1/models/line:predict", {"signature_name": "scalar", "inputs": [1.0]}) == (200, {"outputs": 7.0})
    refused = (400, {"error": "Tensor name: s has no shape information "})
    assert api.post("/v1/models/line:predict", {"signature_name": "scalar", "instances": [1.0]}) == refused


def test_not_a_number_travels_both_ways(api: Api) -> None:
    status, text, _ = api.ask("POST", "/v1/models/line:predict", body=b'{"instances":[NaN, Infinity, -Infinity]}')
    assert (status, text) == (200, '{\n    "predictions": [NaN, Infinity, -Infinity\n    ]\n}')


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/models/line", 400, "Malformed request: POST /v1/models/line"),
        ("GET", "/v1/models/line:predict", 400, "Malformed request: GET /v1/models/line:predict"),
        ("POST", "/v1/models/line:train", 400, "Malformed request: POST /v1/models/line:train"),
        ("PUT", "/v1/models/line:predict", 400, "Malformed request: PUT /v1/models/line:predict"),
        ("OPTIONS", "/v1/models/line:predict", 400, "Malformed request: OPTIONS /v1/models/line:predict"),
        ("GET", "/v1/models/line/versions/x", 400, "Malformed request: GET /v1/models/line/versions/x"),
        ("GET", "/v1/models/line/versions/3/labels/stable", 400, "Malformed request: GET "
         "/v1/models/line/versions/3/labels/stable"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/metadata/metadata/x", 400, "Malformed request: GET /v1/models/metadata/metadata/x"),
        ("GET", "/v1/models/line/versions/9223372036854775808", 400,
         "Failed to convert version: 9223372036854775808 to numeric."),
        ("GET", "/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("GET", "/v1/models/line/versions/9", 404, "Could not find version 9 of model line"),
        ("GET", "/v1/models/nobody/metadata", 404, "Servable not found for request: Latest(nobody)"),
        ("GET", "/v1/models/line/labels/beta/metadata", 400, "Unrecognized servable version label: beta"),
        ("POST", "/v1/models/nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
        ("POST", "/v1/models/line/versions/9:predict", 404, "Servable not found for request: Specific(line, 9)"),
        ("POST", "/v1/models/line/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
        ("POST", "/v1/models/nobody:classify", 404, "Servable not found for request: Latest(nobody)"),
        ("POST", "/v1/models/broken:regress", 404, "Servable not found for request: Latest(broken)"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_with_its_status(api: Api, method: str, path: str, status: int, words: str) -> None:
    got, text, headers = api.ask(method, path, body={"instances": [1.0], "examples": [{"x": 1.0}]})
    assert (got, json.loads(text)) == (status, {"error": words})
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{nope", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"signature_name":"s","instances":[1]}', 'Serving signature name: "s" not found in signature def'),
        (b'{"signature_name":"nothing","instances":[1]}', "Failed to get input map for signature: nothing"),
    ],
)
def test_a_body_that_is_no_predict_request_is_400(api: Api, body: bytes, words: str) -> None:
    status, text, _ = api.ask("POST", "/v1/models/line:predict", body=body)
    assert (status, json.loads(text)) == (400, {"error": words})


def test_the_body_is_read_before_the_model_is_looked_up(api: Api) -> None:
    assert api.post("/v1/models/nobody:predict", b"[")[0] == 400


@pytest.mark.parametrize("path", ["/", "/v2/models/line", "/monitoring/prometheus/metrics", "/v1"])
def test_outside_the_api_is_404_with_nothing_in_it(api: Api, path: str) -> None:
    assert api.ask("GET", path)[:2] == (404, "")


CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
EXPECTED = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_status_of_a_model_has_its_http_status(
    api: Api, loaded: dict[tuple[str, int], Fake], code: grpc.StatusCode
) -> None:
    with failing(loaded["a/b", 1], ServingError(code, "no luck")):
        got = api.post("/v1/models/a%2Fb:predict", {"instances": [1.0]})
    assert got == (EXPECTED.get(code.name, 500), {"error": "no luck"})
    assert len(HTTP_STATUS) == len(EXPECTED)


def test_a_fault_inside_is_500_without_its_trace(api: Api, loaded: dict[tuple[str, int], Fake]) -> None:
    with failing(loaded["a/b", 1], RuntimeError("/secret/path")):
        got = api.post("/v1/models/a%2Fb:predict", {"instances": [1.0]})
    assert got == (500, {"error": "the model server failed inside; its log has the reason"})


def test_the_timeout_goes_with_the_run(api: Api, loaded: dict[tuple[str, int], Fake]) -> None:
    loaded["a/b", 1].timeouts.clear()
    api.post("/v1/models/a%2Fb:predict", {"instances": [1.0]})
    assert loaded["a/b", 1].timeouts == [1.5]


def test_regress_gives_a_number_for_every_example(api: Api) -> None:
    body = {"signature_name": "regress", "context": {"c": 1}, "examples": [{"x": 1.0}, {"x": [2.0, 3.0]}]}
    status, text, _ = api.ask("POST", "/v1/models/line:regress", body=body)
    assert (status, text) == (200, '{\n    "results": [3.0, 3.0]\n}')


def test_classify_gives_labels_with_scores_for_every_example(api: Api) -> None:
    body = {"signature_name": "classify", "examples": [{"x": 1.0}]}
    assert api.post("/v1/models/line:classify", body) == (200, {"results": [[["no", 0.25], ["yes", 0.75]]]})


@pytest.mark.parametrize("action", ["classify", "regress"])
def test_an_unknown_signature_of_examples_is_400(api: Api, action: str) -> None:
    got = api.post(f"/v1/models/line:{action}", {"signature_name": "s", "examples": [{"x": 1.0}]})
    assert got == (400, {"error": "No signature was found with the name: s"})


def row(version: int, state: str, *, code: str = "OK", message: str = "") -> dict[str, Any]:
    return {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/v1/models/line", [row(4, "AVAILABLE"), row(3, "AVAILABLE")]),
        ("/v1/models/line/versions/3", [row(3, "AVAILABLE")]),
        ("/v1/models/line/labels/stable", [row(4, "AVAILABLE"), row(3, "AVAILABLE")]),
        ("/v1/models/broken", [row(1, "END", code="INVALID_ARGUMENT", message="not a graph")]),
    ],
)
def test_status_lists_versions_with_their_defaults_and_ignores_a_label(api: Api, path: str, rows: list[Any]) -> None:
    assert api.get(path) == (200, {"model_version_status": rows})


def test_metadata_prints_signatures_with_every_default(api: Api) -> None:
    status, body = api.get("/v1/models/line/versions/3/metadata")
    assert (status, body["model_spec"]) == (200, {"name": "line", "signature_name": "", "version": "3"})
    shown = body["metadata"]["signature_def"]["signature_def"]["serving_default"]
    dim = {"size": "-1", "name": ""}
    assert shown["inputs"] == {
        "x": {"dtype": "DT_FLOAT", "name": "x:0", "tensor_shape": {"dim": [dim], "unknown_rank": False}}
    }
    assert shown["method_name"] == "tensorflow/serving/predict"


def test_metadata_by_label_is_that_versions(api: Api) -> None:
    assert api.get("/v1/models/line/labels/stable/metadata")[1]["model_spec"]["version"] == "3"


def test_cors_headers_are_on_every_answer_when_enabled(served: Callable[..., Api]) -> None:
    _, _, headers = served(cors=True).ask("GET", "/v1/models/line")
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "POST, GET"
    assert headers["access-control-allow-headers"] == "Content-Type"


@pytest.mark.parametrize(("origin", "status"), [("https://shop.example", 200), ("null", 400), ("", 400)])
def test_a_preflight_needs_an_origin_on_the_web(served: Callable[..., Api], origin: str, status: int) -> None:
    client = served(cors=True)
    assert client.ask("OPTIONS", "/v1/models/line:predict", headers={"Origin": origin})[0] == status


def test_without_cors_no_answer_names_an_origin(api: Api) -> None:
    assert "access-control-allow-origin" not in api.ask("GET", "/v1/models/line")[2]


def test_requests_are_counted_and_the_fine_ones_timed(table: ModelTable) -> None:
    fresh = PrometheusObserver()
    server = RestServer(table, fresh, RestOptions(port=0, metrics_path="/m"))
    server.start()
    client = Api(server.port)
    client.post("/v1/models/line:predict", {"instances": [1.0]})
    client.post("/v1/models/line:predict", b"{")
    client.post("/v1/models/line:regress", {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 2.0}]})
    status, page, headers = client.ask("GET", "/m")
    server.stop()
    assert (status, headers["content-type"]) == (200, "text/plain")
    lines = page.splitlines()
    assert ':tensorflow:serving:request_count{model_name="line",status="OK"} 2' in lines
    assert ':tensorflow:serving:request_count{model_name="line",status="INVALID_ARGUMENT"} 1' in lines
    timed = ':tensorflow:serving:request_latency_count{model_name="line",API="predict",entrypoint="REST"} 1'
    assert timed in lines
    assert ':tensorflow:serving:runtime_latency_count{model_name="line",API="Predict",runtime="TF1"} 1' in lines
    assert ':tensorflow:serving:request_example_count_total{model="line"} 2' in lines


def test_at_most_so_many_requests_run_at_once(served: Callable[..., Api], loaded: dict[tuple[str, int], Fake]) -> None:
    running: set[int] = set()
    most: list[int] = []
    lock, never = threading.Lock(), threading.Event()

    def watch() -> None:
        me = threading.get_ident()
        with lock:
            running.add(me)
            most.append(len(running))
        never.wait(0.05)
        with lock:
            running.discard(me)

    port = served(threads=2).connection.port
    ask = [("/v1/models/a%2Fb:predict", {"instances": [1.0]})] * 6
    clients = [threading.Thread(target=Api(port).post, args=args) for args in ask]
    with doing(loaded["a/b", 1], watch):
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert (len(most), max(most)) == (6, 2)


BODIES = st.one_of(
    st.binary(max_size=40),
    st.text(alphabet='{}[]",:\\u1.eE-NaN trufls', max_size=40).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "x", "b64"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.integers(1, 100_000).map(lambda depth: b'{"inputs":' + b"[" * depth),
)
PATHS = st.sampled_from(["line:predict", "line:classify", "line:regress", "line/versions/3:predict", "%00%ff:predict"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS, BODIES)
def test_no_body_is_the_servers_fault(table: ModelTable, path: str, body: bytes) -> None:
    routes = Routes(table, Terms(), cors=False)
    reply = routes.answer("POST", f"/v1/models/{path}", body=body)
    assert reply.status in (200, 400, 404)
    json.loads(reply.body.decode("utf-8", "surrogateescape"))
