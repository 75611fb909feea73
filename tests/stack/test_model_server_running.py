"""A server over its life: start, ports, swaps under load, new configurations over the wire and by file."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow_serving.apis import model_management_pb2, predict_pb2

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.errors import ServingError
from stack.model_server.options import Grpc, Options, Rest
from stack.model_server.protos import Ssl
from stack.model_server.server import Server
from stack.model_server.services import Rules
from stack.model_server.warmup import FILE
from tests.stack.model_client import TIMEOUT_S, Client, refusal, values, wait_for
from tests.stack.saved_models import write_line

X = np.array([2.0, 4.0], np.float32)
Ask = model_management_pb2.ReloadConfigRequest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 (+2) of `line`."""
    root = tmp_path_factory.mktemp("models")
    (root / "line").mkdir()
    write_line(root / "line", 1)
    return root


@contextmanager
def running(options: Options) -> Iterator[tuple[Server, Client]]:
    server = Server(options)
    client = Client(server.start())
    try:
        yield server, client
    finally:
        client.channel.close()
        server.stop()


def line(base: Path, *, name: str = "line") -> ModelConfig:
    return ModelConfig(name, base / "line")


def listing(*rows: str) -> str:
    return "model_config_list { " + " ".join(f"config {{ {row} }}" for row in rows) + " }"


def row(base: Path, name: str, *more: str) -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {" ".join(more)}'


def reload(
    client: Client, base: Path, *names: str, metrics: tuple[str, ...] = ()
) -> model_management_pb2.ReloadConfigResponse:
    request = Ask(metric_names=metrics)
    for name in names:
        request.config.model_config_list.config.add(
            name=name, base_path=str(base / "line"), model_platform="tensorflow"
        )
    return client.models.HandleReloadConfigRequest(request, timeout=TIMEOUT_S)


def test_a_reload_answers_once_the_new_model_does_and_unloads_what_is_not_listed(base: Path) -> None:
    with running(Options(port=0, models=(line(base),))) as (server, client):
        metric = "/tensorflow/serving/request_count"
        response = reload(client, base, "line", "second", metrics=(metric, "/none"))
        assert values(client.predict({"x": X}, model="second"), "y") == [3.0, 4.0]
        assert (response.status.error_code, response.status.error_message) == (0, "")
        assert {row.name: row.int64_value_increase for row in response.metric} == {metric: 0, "/none": 0}
        reload(client, base, "second")
        assert wait_for(lambda: client.status("line").model_version_status[0].state == 50)
        assert refusal(lambda: client.predict({"x": X}))[0] is grpc.StatusCode.NOT_FOUND
        assert not server.serves("line")


def test_a_reload_that_cannot_be_is_a_status_and_changes_nothing(base: Path) -> None:
    (base / "bad" / "1").mkdir(parents=True, exist_ok=True)
    options = Options(port=0, models=(line(base),), max_num_load_retries=0)
    with running(options) as (_, client):
        twice = refusal(lambda: reload(client, base, "line", "line"))
        assert twice == (grpc.StatusCode.INVALID_ARGUMENT, "Illegal to list model line multiple times in config list")
        for request in (Ask(), Ask(config={"custom_model_config": {}})):
            kind = refusal(lambda request=request: client.models.HandleReloadConfigRequest(request, timeout=TIMEOUT_S))  # type: ignore[misc]
            assert kind == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported",
            )
        request = Ask()
        request.config.model_config_list.config.add(
            name="line", base_path=str(base / "line"), model_platform="tensorflow"
        )
        request.config.model_config_list.config.add(
            name="bad", base_path=str(base / "bad"), model_platform="tensorflow"
        )
        code, words = refusal(lambda: client.models.HandleReloadConfigRequest(request, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.UNKNOWN
        assert words.startswith(
            "1 model(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: Could not find "
            "SavedModel .pb or .pbtxt at supplied export directory path: "
        )
        assert values(client.predict({"x": X}), "y") == [3.0, 4.0]


def test_the_increase_of_a_metric_is_that_during_the_reload(base: Path, tmp_path: Path) -> None:
    warm = write_line(tmp_path, 1) / FILE
    warm.parent.mkdir()
    warm.touch()
    metric = "/tensorflow/serving/model_warmup_latency"
    with running(Options(port=0, models=(ModelConfig("warm", tmp_path),))) as (_, client):
        request = Ask(metric_names=[metric])
        for name in ("warm", "again"):
            request.config.model_config_list.config.add(name=name, base_path=str(tmp_path), model_platform="tensorflow")
        (row,) = client.models.HandleReloadConfigRequest(request, timeout=TIMEOUT_S).metric
        assert (row.name, row.int64_value_increase) == (metric, 1)


def test_the_port_opens_once_the_models_answer(base: Path, tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    server = Server(Options(port=0, models=(ModelConfig("late", tmp_path / "late"),), file_system_poll_wait_s=0.05))
    ports: list[int] = []
    thread = threading.Thread(target=lambda: ports.append(server.start()))
    thread.start()
    try:
        thread.join(0.5)
        assert ports == []  # no version yet: it waits
        write_line(tmp_path / "late", 1)
        thread.join(TIMEOUT_S)
        client = Client(ports[0])
        assert values(client.predict({"x": X}, model="late"), "y") == [3.0, 4.0]
        client.channel.close()
    finally:
        server.cancel()
        thread.join()
        server.stop()


def test_a_start_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    server = Server(Options(port=0, models=(ModelConfig("never", tmp_path),)))
    threading.Timer(0.2, server.cancel).start()
    with pytest.raises(ServingError) as caught:
        server.start()
    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_a_start_with_a_model_that_does_not_load_fails_after_its_retries(tmp_path: Path) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    models = (ModelConfig("bad", tmp_path / "bad"),)
    server = Server(Options(port=0, models=models, max_num_load_retries=2, load_retry_interval_s=0.05))
    with pytest.raises(ServingError) as caught:
        server.start()
    assert caught.value.code is grpc.StatusCode.UNKNOWN
    assert caught.value.message.startswith(
        "1 servable(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: Could not find SavedModel"
    )


def test_labels_in_a_first_configuration_need_the_flag(base: Path) -> None:
    labelled = (ModelConfig("line", base / "line", Policy(), {"stable": 1}),)
    with pytest.raises(ServingError) as caught:
        Server(Options(port=0, models=labelled)).start()
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    allowed = Options(port=0, models=labelled, allow_version_labels_for_unavailable_models=True)
    with running(allowed) as (_, client):
        assert values(client.predict({"x": X}, label="stable"), "y") == [3.0, 4.0]


def test_it_listens_on_a_socket_with_arguments_and_answers_health_and_raw_content(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    options = Options(
        port=0,
        models=(line(base),),
        rules=Rules(as_content=True),
        grpc=Grpc(socket_path=str(path), arguments=(("grpc.max_receive_message_length", 400),), health=True),
        rest=Rest(port=0),
    )
    with running(options) as (server, client), grpc.insecure_channel(f"unix:{path}") as channel:
        response = Client(0, channel=channel).predict({"x": X})
        assert response.outputs["y"].tensor_content == np.array([3.0, 4.0], "<f4").tobytes()
        large = refusal(lambda: client.predict({"x": np.zeros(500, np.float32)}))
        assert large[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=TIMEOUT_S) == b"\x08\x01"
        assert refusal(lambda: check(b"\x0a\x01x", timeout=TIMEOUT_S))[0] is grpc.StatusCode.NOT_FOUND
        assert server.rest_port > 0


def test_without_the_flag_there_is_no_health_service_and_any_size_is_taken(base: Path) -> None:
    with running(Options(port=0, models=(line(base),))) as (_, client):
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert refusal(lambda: check(b"", timeout=TIMEOUT_S))[0] is grpc.StatusCode.UNIMPLEMENTED
        big = np.zeros(2_000_000, np.float32)  # 8 MB; gRPC's own limit is 4
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "line"
        request.output_filter.append("z")
        tensor = request.inputs["x"]
        tensor.dtype, tensor.tensor_content = 1, big.tobytes()
        tensor.tensor_shape.dim.add().size = len(big)
        ask = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        code, words = refusal(lambda: ask(request.SerializeToString(), timeout=TIMEOUT_S))
        # The server took and answered it; it is this client that refuses an answer of that size.
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "Received message larger than max" in words


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
        port=0,
        model_config_file=config,
        model_config_file_poll_wait_s=0.05,
        file_system_poll_wait_s=0.05,
        open_port_before_models=True,
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


def test_a_taken_port_is_an_error_not_a_shared_one(base: Path) -> None:
    first = Server(Options(port=0, models=(line(base),), open_port_before_models=True))
    port = first.start()
    try:
        with pytest.raises(ServingError, match=f"port {port} is taken"):
            Server(Options(port=port, models=(line(base),), open_port_before_models=True)).start()
    finally:
        first.stop()


def certificate(name: str) -> tuple[str, str]:
    """A key and a certificate signed by itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), signed.public_bytes(pem).decode()


def test_with_keys_it_speaks_tls_to_clients_that_show_theirs(base: Path, tmp_path: Path) -> None:
    key, cert = certificate("localhost")
    client_key, client_cert = certificate("client")
    tls = Ssl(server_key=key, server_cert=cert, custom_ca=client_cert, client_verify=True)
    path = tmp_path / "s.sock"
    server = Server(Options(port=0, models=(line(base),), grpc=Grpc(ssl=tls, socket_path=str(path))))
    address = f"localhost:{server.start()}"
    shown = grpc.ssl_channel_credentials(cert.encode(), client_key.encode(), client_cert.encode())
    try:
        named = [("grpc.ssl_target_name_override", "localhost")]
        for channel in (grpc.secure_channel(address, shown), grpc.secure_channel(f"unix:{path}", shown, options=named)):
            with channel:
                assert values(Client(0, channel=channel).predict({"x": X}), "y") == [3.0, 4.0]
        for other in (
            grpc.insecure_channel(address),
            grpc.insecure_channel(f"unix:{path}"),
            grpc.secure_channel(address, grpc.ssl_channel_credentials(cert.encode())),
        ):
            with other as channel:
                code, _ = refusal(lambda channel=channel: Client(0, channel=channel).predict({"x": X}))  # type: ignore[misc]
                assert code is grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop()
