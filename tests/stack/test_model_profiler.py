"""ProfilerService: what is recorded and where it goes, asked as TensorFlow's own client asks."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import profiler_options_pb2, xplane_pb2

from stack.model_server import profiler
from stack.model_server.config import ModelConfig
from stack.model_server.errors import ServingError
from stack.model_server.options import Grpc, Options
from stack.model_server.server import Server
from stack.model_server.varints import varint
from stack.model_server.wire import fields
from tests.stack.model_client import TIMEOUT_S, Client, refusal
from tests.stack.saved_models import write_line


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("line")
    write_line(base, 1)
    server = Server(Options(port=0, models=(ModelConfig("line", base),)))
    client = Client(server.start())
    yield client
    client.channel.close()
    server.stop()


@pytest.fixture
def busy(client: Client) -> Iterator[None]:
    """Somebody asks the model all the time."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.02):
            client.predict({"x": np.array([1.0], np.float32)})

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    ended.set()
    thread.join()


def request(**values: Any) -> bytes:
    """A ProfileRequest; whole numbers and texts by the names of their fields."""
    numbers = {"duration_ms": 1, "opts": 4, "repository_root": 5, "session_id": 6, "host_name": 7, "emit_xspace": 9}
    out = b""
    for name, value in values.items():
        kind = 0 if isinstance(value, int) else 2
        data = value.encode() if isinstance(value, str) else value
        out += varint(numbers[name] << 3 | kind)
        out += varint(data) if isinstance(data, int) else varint(len(data)) + data
    return out


def asking(client: Client, method: str = "Profile") -> Any:
    return client.channel.unary_unary(f"/tensorflow.ProfilerService/{method}")


@pytest.mark.usefixtures("busy")
def test_tensorflows_client_gets_a_trace_of_a_server_at_work(client: Client, tmp_path: Path) -> None:
    address = client.channel._channel.target().decode()  # type: ignore[attr-defined]
    tf.profiler.experimental.client.trace(address.removeprefix("dns:///"), str(tmp_path), 200, num_tracing_attempts=5)
    (file,) = tmp_path.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    names = {row.name for plane in space.planes for row in plane.event_metadata.values()}
    assert any("Session" in name for name in names)


def test_a_trace_of_nothing_says_that_it_is_empty() -> None:
    assert profiler.respond(profiler.Asked(), b"") == b"\x38\x01"


def test_a_trace_is_answered_if_asked_for(client: Client) -> None:
    options = profiler_options_pb2.ProfileOptions(version=1, host_tracer_level=1, duration_ms=20)
    answer = asking(client)(request(opts=options.SerializeToString(), emit_xspace=1), timeout=TIMEOUT_S)
    found = {number: value for number, _, value in fields(memoryview(answer))}
    space = xplane_pb2.XSpace.FromString(bytes(found[8]))
    names = {row.name for plane in space.planes for row in plane.event_metadata.values()}
    assert "tensorflow.ProfilerService/Profile" in names  # hence an idle server's is not empty
    assert 7 not in found


def test_one_records_at_a_time_until_its_session_is_terminated(client: Client, tmp_path: Path) -> None:
    began = time.monotonic()
    long = request(duration_ms=60_000, repository_root=str(tmp_path), session_id="s", host_name="h")
    first = asking(client).future(long, timeout=TIMEOUT_S)
    while time.monotonic() - began < TIMEOUT_S:
        try:
            asking(client)(request(duration_ms=1), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "Another profiler session active.")
            break
        if first.done():  # it came while the short one recorded, and was itself the one too many
            first = asking(client).future(long, timeout=TIMEOUT_S)
    assert asking(client, "Terminate")(varint(1 << 3 | 2) + b"\x01s", timeout=TIMEOUT_S) == b""
    first.result(timeout=TIMEOUT_S)
    assert time.monotonic() - began < TIMEOUT_S
    assert (tmp_path / "s" / "h.xplane.pb").exists()


@pytest.mark.parametrize("names", [("..", "h"), ("s", "a/b"), ("", "h"), ("s", "")])
def test_names_that_are_paths_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    asked = profiler.Asked(root=str(tmp_path), session=names[0], host=names[1])
    with pytest.raises(ServingError) as caught:
        profiler.respond(asked, b"")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_or_written_is_a_status(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = request(duration_ms=1, repository_root=str(tmp_path / "file"), session_id="s", host_name="h")
    assert refusal(lambda: asking(client)(nowhere, timeout=TIMEOUT_S))[0] is grpc.StatusCode.UNKNOWN
    for data in (b"\x0a\x05ab", b"\x22\x02\xff\xff", b"\x28\x01"):
        assert refusal(lambda data=data: asking(client)(data, timeout=TIMEOUT_S))[0] is grpc.StatusCode.INTERNAL  # type: ignore[misc]


def test_without_the_flag_there_is_no_profiler(tmp_path: Path) -> None:
    options = Options(port=0, models=(ModelConfig("none", tmp_path),), open_port_before_models=True)
    server = Server(Options(**{**vars(options), "grpc": Grpc(profiler=False)}))
    client = Client(server.start())
    try:
        assert refusal(lambda: asking(client)(b"", timeout=TIMEOUT_S))[0] is grpc.StatusCode.UNIMPLEMENTED
    finally:
        client.channel.close()
        server.stop()
