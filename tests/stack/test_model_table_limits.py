"""The table at its limits: how often a load is tried, labels that stay or are empty, and a path that can never be."""

from pathlib import Path

import grpc
import pytest

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.lifecycle import State
from stack.model_server.table import ModelTable
from tests.stack.test_model_table import Bench, answering, refusal, states


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "m").mkdir()
    return Bench(tmp_path / "m")


def test_a_failed_load_is_tried_again_after_its_wait_and_as_often_as_allowed(bench: Bench) -> None:
    bench.publish(1)
    bench.broken = {1}
    for retries, wait_s, loads in ((5, 60.0, 1), (2, 0.0, 3)):
        bench.seen.clear()
        table = ModelTable(load=bench.load, retries=retries, retry_wait_s=wait_s)  # type: ignore[arg-type]
        table.configure([ModelConfig("m", bench.base)])
        for _ in range(loads + 2):
            table.poll()
        assert bench.seen == ["load 1"] * loads
        assert states(table) == {1: State.LOADING if wait_s else State.END}


def test_a_label_may_be_given_again_to_the_version_it_has(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table(labels_before_load=True)
    table.poll()
    labelled = ModelConfig("m", bench.base, Policy(), {"stable": 1})
    table.configure([labelled])
    (bench.base / "1").rmdir()
    table.poll()
    table.configure([labelled])  # not moved, though its version is gone
    assert refusal(lambda: answering(table, label="stable"))[1] == "Servable not found for request: Specific(m, 1)"


def test_a_path_that_can_never_be_is_that_models_trouble_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.publish(1)
    table = bench.table()
    table.configure([ModelConfig("a", Path("/a\0b")), ModelConfig("m", bench.base)])
    table.poll()
    table.poll()
    assert answering(table) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "Could not find base path '/a\\x00b' for servable a with error embedded null byte"
    ]


def test_an_empty_label_is_a_label(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    assert refusal(lambda: answering(table, label="")) == (
        grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: ",
    )  # fmt: skip
