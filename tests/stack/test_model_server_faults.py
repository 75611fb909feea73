"""A server when something is not as it should be: ports, loads that fail, files that change unseen, work that raises."""

import socket
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from stack.model_server.config import ModelConfig
from stack.model_server.options import Options, Rest
from stack.model_server.server import Server
from tests.stack.model_client import refusal, values, wait_for
from tests.stack.saved_models import write_line
from tests.stack.test_model_server_running import line, listing, row, running

X = np.array([2.0, 4.0], np.float32)
Ask = model_management_pb2.ReloadConfigRequest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 (+2) of `line`."""
    root = tmp_path_factory.mktemp("models")
    (root / "line").mkdir()
    write_line(root / "line", 1)
    return root


@pytest.mark.parametrize("same", [True, False])
def test_a_rest_port_that_cannot_be_had_leaves_grpc_serving(
    base: Path, same: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if same:
            taken.close()
        options = Options(port=port if same else 0, models=(line(base),), rest=Rest(port=port))
        with running(options) as (server, client):
            assert values(client.predict({"x": X}), "y") == [3.0, 4.0]
            assert server.rest_port == 0
    said = (
        "--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API. Skipped exporting "
        "HTTP/REST API."
    ) if same else f"Failed to start HTTP Server at localhost:{port}"  # fmt: skip
    assert said in [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_a_load_that_is_tried_again_shows_no_error_until_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    models = (ModelConfig("bad", tmp_path / "bad"),)
    options = Options(port=0, models=models, max_num_load_retries=5, open_port_before_models=True)
    with running(options) as (server, client):
        (row,) = client.status("bad").model_version_status
        assert (row.state, row.status.error_code, row.status.error_message) == (20, 0, "")
        refusals: list[tuple[grpc.StatusCode, str]] = []

        def ask() -> object:
            # As listed already, and still waited for: an earlier reload gave up on it.
            request = Ask()
            for name in ("bad", "new"):
                request.config.model_config_list.config.add(
                    name=name, base_path=str(tmp_path / "bad"), model_platform="tensorflow"
                )
            return client.models.HandleReloadConfigRequest(request, timeout=0.3)

        for _ in range(2):
            refusals.append(refusal(ask))
        assert [code for code, _ in refusals] == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
        assert not server.serves("new")


def test_a_version_that_was_unloaded_is_listed_as_ended_and_fine(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    write_line(tmp_path / "line", 1)
    options = Options(port=0, models=(line(tmp_path),), file_system_poll_wait_s=0.05)
    with running(options) as (_, client):
        (tmp_path / "line" / "1").rename(tmp_path / "away")
        assert wait_for(lambda: client.status("line").model_version_status[0].state == 50)
        (row,) = client.status("line").model_version_status
        assert (row.version, row.status.error_code, row.status.error_message) == (1, 0, "")


def test_a_poll_of_zero_reads_the_file_and_the_disk_once(base: Path, tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    write_line(tmp_path / "line", 1)
    config = tmp_path / "models.config"
    config.write_text(listing(row(tmp_path / "line", "line")))
    options = Options(port=0, model_config_file=config, file_system_poll_wait_s=0)
    with running(options) as (server, client):
        config.write_text(listing(row(base / "line", "other")))
        (tmp_path / "line" / "1").rename(tmp_path / "line" / "2")
        time.sleep(0.3)
        assert [one.version for one in client.status("line").model_version_status] == [1]
        assert values(client.predict({"x": X}), "y") == [3.0, 4.0]
        assert not server.serves("other")


def test_what_goes_wrong_once_does_not_end_the_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Options(port=0))
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise RuntimeError("once")

    server._repeat(work, 0.01)
    assert wait_for(lambda: len(calls) > 2)
    server.stop()
    assert "once" in caplog.text


def test_loading_that_goes_wrong_once_goes_on_though_nothing_else_happens(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(Options(port=0, models=(line(base),), file_system_poll_wait_s=0))
    advance, calls = server._table.advance, list[int]()

    def fails_once() -> None:
        calls.append(1)
        advance()
        if len(calls) == 1:
            server._table._news.clear()
            raise RuntimeError("once")

    server._table.advance = fails_once  # type: ignore[method-assign]
    try:
        server.start()
        assert wait_for(lambda: len(calls) > 1)
    finally:
        server.stop()
    assert "once" in caplog.text
