"""Which versions are loaded, served and unloaded, in which order; with a loader that loads nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from stack.model_server.config import ModelConfig, Policy, parse
from stack.model_server.errors import ServingError
from stack.model_server.lifecycle import State
from stack.model_server.table import ModelTable
from stack.model_server.versions import aspired, found

NEWEST = Policy()


@dataclass
class Fake:
    """Stands in for a loaded model and writes down when it is closed."""

    version: int
    seen: list[str]
    held: int = 0
    closed: bool = False

    def hold(self) -> bool:
        self.held += 0 if self.closed else 1
        return not self.closed

    def let_go(self) -> None:
        self.held -= 1

    def close(self, *, wait_s: float | None = None) -> bool:
        self.closed = True
        if self.held:
            return False
        self.seen.append(f"unload {self.version}")
        return True


@dataclass
class Bench:
    """A table over a folder, with everything it loaded and unloaded in order."""

    base: Path
    seen: list[str] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)

    def load(self, path: Path, name: str, version: int) -> Fake:
        self.seen.append(f"load {version}")
        if version in self.broken:
            raise OSError(f"no graph in {path.name}")
        return Fake(version, self.seen)

    def table(self, policy: Policy = NEWEST, **extra: object) -> ModelTable:
        table = ModelTable(load=self.load, retries=0, **extra)  # type: ignore[arg-type]
        table.configure([ModelConfig("m", self.base, policy)])
        return table

    def publish(self, *numbers: int | str) -> None:
        for number in numbers:
            (self.base / str(number)).mkdir(parents=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "m").mkdir()
    return Bench(tmp_path / "m")


def states(table: ModelTable) -> dict[int, State]:
    return {version.number: version.state for version in table.versions("m")}


def answering(table: ModelTable, **asked: object) -> int:
    with table.lease("m", **asked) as servable:  # type: ignore[arg-type]
        return servable.version


def refusal(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ServingError) as caught:
        work()
    return caught.value.code, caught.value.message


def test_only_folders_that_read_as_a_number_are_versions(bench: Bench) -> None:
    bench.publish("00000123", 7, "007", -3, "tmp-8", "9a", "9223372036854775808")
    (bench.base / "10").write_text("a file")
    # Of two names of one number the last in name order counts.
    assert found(bench.base) == {123: bench.base / "00000123", 7: bench.base / "7", -3: bench.base / "-3"}


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [(Policy(), [3]), (Policy(latest=2), [3, 2]), (Policy(latest=None), [3, 2, 1]),
     (Policy(latest=None, specific=frozenset({1, 3, 8})), [3, 1])],
)  # fmt: skip
def test_the_policy_says_which_versions_are_aspired(policy: Policy, numbers: list[int]) -> None:
    assert list(aspired(policy, {n: Path(str(n)) for n in (1, 2, 3)})) == numbers


def test_the_newest_version_is_served_and_the_old_one_goes_after_it_answers(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    bench.publish(2)
    table.poll()
    assert bench.seen == ["load 1", "load 2", "unload 1"]
    assert states(table) == {2: State.AVAILABLE, 1: State.END}
    assert answering(table) == 2


def test_a_newer_version_that_does_not_load_leaves_the_old_one_serving(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    bench.broken = {2}
    bench.publish(2)
    table.poll()
    table.poll()
    assert bench.seen == ["load 1", "load 2"]  # not tried again, and 1 not unloaded
    assert states(table) == {2: State.END, 1: State.AVAILABLE}
    assert answering(table) == 1
    failed = table.versions("m")[0].error
    assert failed is not None
    assert failed.message == "no graph in 2"


def test_a_failed_load_is_tried_again_when_allowed(bench: Bench) -> None:
    bench.publish(1)
    bench.broken = {1}
    table = ModelTable(load=bench.load, retries=1, retry_wait_s=0.0)  # type: ignore[arg-type]
    table.configure([ModelConfig("m", bench.base)])
    table.poll()
    assert states(table) == {1: State.LOADING}
    bench.broken = set()
    table.poll()
    assert states(table) == {1: State.AVAILABLE}


def test_a_missing_folder_changes_nothing(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    bench.base.rename(bench.base.with_name("away"))
    table.poll()
    assert answering(table) == 1


def test_a_folder_without_versions_unloads_all(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    (bench.base / "1").rmdir()
    table.poll()
    assert states(table) == {1: State.END}
    assert refusal(lambda: answering(table)) == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)")


def test_a_version_that_comes_back_is_loaded_anew(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    (bench.base / "1").rmdir()
    table.poll()
    bench.publish(1)
    table.poll()
    assert bench.seen == ["load 1", "unload 1", "load 1"]
    assert answering(table) == 1


def test_of_two_versions_each_can_be_asked_for(bench: Bench) -> None:
    bench.publish(1, 2)
    table = bench.table(Policy(latest=2))
    table.poll()
    assert bench.seen == ["load 2", "load 1"]  # the newest first
    assert (answering(table), answering(table, version=1)) == (2, 1)
    assert refusal(lambda: answering(table, version=3))[1] == "Servable not found for request: Specific(m, 3)"


def test_labels_name_available_versions_only(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    labelled = ModelConfig("m", bench.base, Policy(), {"stable": 1})
    assert refusal(lambda: table.configure([labelled])) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 1 of model m, which is not currently available for inference",
    )
    table.poll()
    table.configure([labelled])
    assert answering(table, label="stable") == 1
    assert refusal(lambda: answering(table, label="beta")) == (
        grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: beta",
    )  # fmt: skip


def test_a_label_in_use_is_never_moved_to_a_version_that_does_not_answer(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table(labels_before_load=True)
    table.configure([ModelConfig("m", bench.base, Policy(latest=2), {"stable": 1})])  # new label: may come first
    table.poll()
    moved = ModelConfig("m", bench.base, Policy(latest=2), {"stable": 2})
    assert refusal(lambda: table.configure([moved]))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert answering(table, label="stable") == 1
    bench.publish(2)
    table.poll()
    table.configure([moved])
    assert answering(table, label="stable") == 2


def test_a_model_dropped_from_the_configuration_is_unloaded(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    table.configure([])
    table.poll()
    assert bench.seen == ["load 1", "unload 1"]
    assert states(table) == {1: State.END}


def test_a_lease_that_meets_a_closing_model_finds_the_next_one(bench: Bench) -> None:
    bench.publish(1, 2)
    table = bench.table(Policy(latest=2))
    table.poll()
    newest = table.versions("m")[0]
    assert newest.servable is not None
    newest.servable.close()  # as in a swap, between look-up and hold

    def gone() -> bool:
        newest.state = State.END
        return False

    newest.servable.hold = gone  # type: ignore[method-assign]
    assert answering(table) == 1


def test_a_failed_version_is_tried_again_once_it_was_not_wanted(bench: Bench) -> None:
    bench.publish(1)
    bench.broken = {1}
    table = bench.table()
    table.poll()
    bench.broken = set()
    table.poll()
    assert states(table) == {1: State.END}  # as long as it is wanted it stays failed
    table.configure([])
    table.configure([ModelConfig("m", bench.base)])
    table.poll()
    assert states(table) == {1: State.AVAILABLE}


def test_an_unwanted_version_goes_before_the_next_is_loaded_when_another_wanted_one_answers(bench: Bench) -> None:
    bench.publish(1, 2)
    table = bench.table(Policy(latest=2))
    table.poll()
    bench.publish(3)
    table.poll()
    assert bench.seen == ["load 2", "load 1", "unload 1", "load 3"]


def test_of_unwanted_versions_the_highest_answers_until_a_wanted_one_does(bench: Bench) -> None:
    bench.publish(1, 2)
    table = bench.table(Policy(latest=None))
    table.poll()
    bench.publish(3)
    bench.broken = {3}
    table.configure([ModelConfig("m", bench.base, Policy(latest=1))])
    table.poll()
    assert bench.seen == ["load 2", "load 1", "unload 1", "load 3"]
    assert answering(table) == 2


def test_a_version_that_is_held_is_unloading_until_it_is_let_go(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    with table.lease("m"):
        bench.publish(2)
        table.poll()
        assert states(table) == {2: State.AVAILABLE, 1: State.UNLOADING}
        assert answering(table) == 2
    table.poll()
    assert states(table) == {2: State.AVAILABLE, 1: State.END}
    assert bench.seen[-1] == "unload 1"


def test_the_end_does_not_wait_for_ever_for_a_version_that_is_held(bench: Bench) -> None:
    bench.publish(1, 2)
    table = bench.table(Policy(latest=2))
    table.poll()
    with table.lease("m", version=1):
        table.clear(wait_s=0.0)
        assert states(table) == {2: State.END, 1: State.UNLOADING}


def test_a_version_that_is_no_longer_wanted_when_its_load_ends_is_unloaded(bench: Bench) -> None:
    bench.publish(1)
    tables: list[ModelTable] = []

    def load(path: Path, name: str, version: int) -> Fake:
        tables[0].configure([])
        return bench.load(path, name, version)

    tables.append(ModelTable(load=load, retries=0))  # type: ignore[arg-type]
    tables[0].configure([ModelConfig("m", bench.base)])
    tables[0].poll()
    assert bench.seen == ["load 1", "unload 1"]


def test_a_version_wanted_again_while_it_loads_is_loaded_once(bench: Bench) -> None:
    bench.publish(1)
    tables: list[ModelTable] = []

    def load(path: Path, name: str, version: int) -> Fake:
        for models in ([], [ModelConfig("m", bench.base)]):
            tables[0].configure(models)
            tables[0].look()
        return bench.load(path, name, version)

    tables.append(ModelTable(load=load, retries=0))  # type: ignore[arg-type]
    tables[0].configure([ModelConfig("m", bench.base)])
    tables[0].poll()
    tables[0].poll()
    assert bench.seen == ["load 1"]
    assert answering(tables[0]) == 1


def test_a_version_asked_for_by_number_that_is_not_there_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.publish(1)
    table = bench.table(Policy(latest=None, specific=frozenset({1, 4})))
    table.poll()
    table.poll()
    said = [record.getMessage() for record in caplog.records if "specific" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("Version 4 of servable m, which was requested to be served as a 'specific' version")


def test_one_missing_folder_keeps_all_models_as_they_are(bench: Bench) -> None:
    bench.publish(1)
    table = bench.table()
    table.poll()
    table.configure([ModelConfig("m", bench.base), ModelConfig("n", bench.base / "none")])
    bench.publish(2)
    table.poll()
    assert answering(table) == 1


def test_a_configuration_is_read_with_policy_and_labels(tmp_path: Path) -> None:
    text = f"""model_config_list {{ config {{ name: "m" base_path: "{tmp_path}" model_platform: "tensorflow"
        model_version_policy {{ specific {{ versions: 4 versions: 5 }} }}
        version_labels {{ key: "stable" value: 4 }} }} }}"""
    assert parse(text, file="f") == (ModelConfig("m", tmp_path, Policy(None, frozenset({4, 5})), {"stable": 4}),)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('name: "m" base_path: "/m" model_platform: "tensorflow" } config { name: "m" base_path: "/m" model_platform: '
         '"tensorflow"', "Illegal to list model m multiple times in config list"),
        ('name: "m" base_path: "here" model_platform: "tensorflow"',
         "Expected model m to have an absolute path or URI; got base_path()=here"),
        ('name: "m" base_path: "/m" model_platform: "caffe"', "Model m requests unsupported platform caffe"),
        ('nome: "m"', "Invalid protobuf file: 'f'"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_in_upstreams_words(row: str, words: str) -> None:
    code, message = refusal(lambda: parse(f"model_config_list {{ config {{ {row} }} }}", file="f"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in message
