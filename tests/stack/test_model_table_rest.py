"""When the table has something to do again after `advance`: at once after news, later for what failed, else never."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.lifecycle import Model, State, Version
from stack.model_server.table import ModelTable
from tests.stack.test_model_table import Bench, answering


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "m")
    bench.publish(1)
    return bench


def model(*versions: Version) -> Model:
    return Model(ModelConfig("m", Path("/m")), {version.number: version for version in versions})


def version(number: int, state: State, **more: object) -> Version:
    return Version(number, Path(f"/m/{number}"), state, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("versions", "rest_s"),
    [
        ([], None),
        ([version(1, State.AVAILABLE), version(2, State.END)], None),
        ([version(1, State.AVAILABLE, wanted=False)], 0.0),  # to be unloaded
        ([version(1, State.AVAILABLE), version(2, State.START)], 0.0),  # to be loaded
        ([version(1, State.AVAILABLE), version(2, State.UNLOADING, wanted=False)], 0.0),  # answers its last requests
        ([version(1, State.LOADING, retry_at=107.0), version(2, State.LOADING, retry_at=103.0)], 3.0),  # failed
        ([version(1, State.LOADING, retry_at=99.0)], 0.0),
    ],
)
def test_a_model_says_how_long_nothing_is_due(versions: list[Version], rest_s: float | None) -> None:
    assert model(*versions).rest_s(now=100.0) == rest_s


def woken(table: ModelTable, by: Callable[[], object]) -> bool:
    """Whether a rest ends by it."""
    thread = threading.Thread(target=table.rest, args=(0.0,), daemon=True)
    thread.start()
    by()
    thread.join(20.0)
    return not thread.is_alive()


def test_a_rest_ends_when_another_version_is_there_or_other_models_are_wanted_or_somebody_says_so(bench: Bench) -> None:
    table = bench.table()
    table.poll()
    bench.publish(2)
    assert woken(table, table.look)
    table.advance()
    assert answering(table) == 2
    assert woken(table, lambda: table.serve(()))
    table.advance()
    assert bench.seen[-1] == "unload 2"
    assert woken(table, table.wake)


def test_a_look_that_finds_nothing_new_is_no_news(bench: Bench) -> None:
    table = bench.table()
    table.poll()
    table.look()
    assert not table._news.is_set()


def test_what_comes_while_versions_are_loaded_is_not_overheard(bench: Bench) -> None:
    def load(path: Path, name: str, number: int) -> object:
        if number == 1:
            bench.publish(2)
            table.look()
        return bench.load(path, name, number)

    table = ModelTable(load=load)  # type: ignore[arg-type]
    table.configure([ModelConfig("m", bench.base, Policy(latest=None))])
    table.poll()
    assert woken(table, lambda: None)


def test_a_load_that_failed_is_due_again_by_itself(bench: Bench) -> None:
    bench.broken = {1}
    table = ModelTable(load=bench.load, retries=1, retry_wait_s=0.05)  # type: ignore[arg-type]
    table.configure([ModelConfig("m", bench.base)])
    table.poll()
    begun = time.monotonic()
    table.rest(0.0)
    bench.broken = set()
    while time.monotonic() < begun + 0.05:
        table.rest(0.0)
    table.advance()
    assert answering(table) == 1
