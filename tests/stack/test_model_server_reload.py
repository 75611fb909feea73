"""Moving from one configuration to another: the rules, their order and words, what answers after a refusal, and waiting."""

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from stack.model_server.config import read
from stack.model_server.lifecycle import State
from stack.model_server.protos import read_file
from stack.model_server.reload import ConfigFile, Configuration, wait_until_available
from stack.model_server.table import ModelTable
from tests.stack.test_model_table import Bench, answering, refusal

Config = model_server_config_pb2.ModelServerConfig


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "m")
    bench.publish(1, 2)
    return bench


@pytest.fixture
def table(bench: Bench) -> ModelTable:
    return ModelTable(load=bench.load, retries=0)  # type: ignore[arg-type]


@pytest.fixture
def configuration(table: ModelTable) -> Configuration:
    return Configuration(table)


def listing(*rows: str) -> Config:
    text = " ".join(f"config {{ {row} }}" for row in rows)
    return text_format.Parse(f"model_config_list {{ {text} }}", Config())


def row(bench: Bench, *more: str, name: str = "m", platform: str = "tensorflow") -> str:
    return f'name: "{name}" base_path: "{bench.base}" model_platform: "{platform}" {" ".join(more)}'


def label(name: str, version: int) -> str:
    return f'version_labels {{ key: "{name}" value: {version} }}'


BOTH = "model_version_policy { latest { num_versions: 2 } }"


def ended(work: Callable[[], object]) -> tuple[str, str]:
    code, words = refusal(work)
    return code.name, words


def test_a_new_model_is_named_and_a_known_one_is_not(bench: Bench, configuration: Configuration) -> None:
    assert configuration.apply(listing(row(bench))) == {"m"}
    assert configuration.apply(listing(row(bench), row(bench, name="n"))) == {"n"}


def test_a_policy_can_change_while_the_model_answers(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    configuration.apply(listing(row(bench)))
    table.advance()
    configuration.apply(listing(row(bench, "model_version_policy { specific { versions: 1 } }")))
    table.advance()
    assert bench.seen == ["load 2", "load 1", "unload 2"]
    assert answering(table) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{m}", "{m}"], "Illegal to list model m multiple times in config list"),
        (['name: "n" base_path: "here" model_platform: "tensorflow"'],
         "Expected model n to have an absolute path or URI; got base_path()=here"),
        (['name: "m" base_path: "/m" model_platform: "caffe"'],
         "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is caffe"),
        (['name: "n" base_path: "/n" model_platform: "caffe"'], "Model n requests unsupported platform caffe"),
        (['name: "n" base_path: "/n" model_platform: "tensorflow" model_type: TENSORFLOW'],
         "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."),
        (['name: "n" base_path: "/n"'],
         "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."),
        (['name: "n" base_path: "/n" model_type: OTHER'], "ModelServerConfig::model_type choice 2 not supported."),
    ],
)  # fmt: skip
def test_a_list_that_may_not_be_is_refused_and_what_answers_answers_on(
    bench: Bench, table: ModelTable, configuration: Configuration, rows: list[str], words: str
) -> None:
    configuration.apply(listing(row(bench)))
    table.poll()
    bad = listing(*[text.replace("{m}", row(bench)) for text in rows])
    assert ended(lambda: configuration.apply(bad)) == ("INVALID_ARGUMENT", words)
    table.poll()
    assert answering(table) == 2


def test_the_deprecated_type_names_the_platform_too(bench: Bench, configuration: Configuration) -> None:
    assert configuration.apply(listing(f'name: "m" base_path: "{bench.base}" model_type: TENSORFLOW')) == {"m"}


def test_a_uri_counts_as_a_path(configuration: Configuration) -> None:
    assert configuration.apply(listing('name: "m" base_path: "gs://bucket/m" model_platform: "tensorflow"')) == {"m"}


def test_an_empty_configuration_changes_nothing_and_may_be_followed_by_a_list(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    assert configuration.apply(Config()) == frozenset()
    assert ended(lambda: answering(table, label="stable")) == ("UNAVAILABLE", "Model labels does not init yet.stable")
    assert configuration.apply(listing(row(bench))) == {"m"}
    assert ended(lambda: answering(table, label="stable")) == (
        "INVALID_ARGUMENT", "Unrecognized servable version label: stable",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["custom_model_config {}", ""])
def test_from_a_list_there_is_a_way_to_lists_only(bench: Bench, configuration: Configuration, text: str) -> None:
    configuration.apply(listing(row(bench)))
    other = text_format.Parse(text, Config())
    assert ended(lambda: configuration.apply(other)) == (
        "FAILED_PRECONDITION",
        "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another.",
    )


def test_a_custom_configuration_is_not_served(configuration: Configuration) -> None:
    custom = text_format.Parse("custom_model_config {}", Config())
    assert ended(lambda: configuration.apply(custom))[0] == "INVALID_ARGUMENT"


def test_a_first_list_may_not_label_what_is_not_loaded_yet(bench: Bench, configuration: Configuration) -> None:
    assert ended(lambda: configuration.apply(listing(row(bench, label("stable", 2))))) == (
        "FAILED_PRECONDITION",
        "Request to assign label to version 2 of model m, which is not currently available for inference",
    )


def test_a_promotion_moves_the_label_between_answering_versions_then_drops_the_old_one(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    configuration.apply(listing(row(bench, BOTH)))
    table.advance()
    configuration.apply(listing(row(bench, BOTH, label("stable", 1))))
    assert answering(table, label="stable") == 1
    configuration.apply(listing(row(bench, BOTH, label("stable", 2))))
    assert answering(table, label="stable") == 2
    configuration.apply(listing(row(bench, label("stable", 2))))
    table.advance()
    assert bench.seen[-1] == "unload 1"
    assert answering(table, label="stable") == 2


def test_a_refused_label_leaves_labels_and_models_but_becomes_what_the_next_list_is_compared_with(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    configuration.apply(listing(row(bench, BOTH)))
    table.advance()
    configuration.apply(listing(row(bench, BOTH, label("stable", 1))))
    refused = listing(row(bench, BOTH, label("stable", 9)), row(bench, name="n", platform="caffe"))
    for _ in range(2):  # again the same: checked again
        assert ended(lambda: configuration.apply(refused))[0] == "FAILED_PRECONDITION"
    assert answering(table, label="stable") == 1
    assert table.names() == {"m"}
    assert ended(lambda: configuration.apply(listing(row(bench, name="n"))))[1] == (
        "Illegal to change a model's platform. For model n platform was caffe and new platform requested is tensorflow"
    )


def test_labels_that_a_list_does_not_repeat_are_gone(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    configuration.apply(listing(row(bench)))
    table.advance()
    configuration.apply(listing(row(bench, label("stable", 2))))
    configuration.apply(listing(row(bench, label("canary", 2))))
    assert answering(table, label="canary") == 2
    assert ended(lambda: answering(table, label="stable"))[0] == "INVALID_ARGUMENT"


def test_a_label_moves_while_another_version_is_being_loaded(bench: Bench, tmp_path: Path) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(path: Path, name: str, version: int) -> object:
        if version == 3:
            loading.set()
            assert go_on.wait(20)
        return bench.load(path, name, version)

    table = ModelTable(load=load, retries=0)  # type: ignore[arg-type]
    configuration = Configuration(table)
    everything = "model_version_policy { all {} }"
    configuration.apply(listing(row(bench, everything)))
    table.advance()
    bench.publish(3)
    table.look()
    thread = threading.Thread(target=table.advance)
    thread.start()
    try:
        assert loading.wait(20)
        configuration.apply(listing(row(bench, everything, label("stable", 1))))
        assert answering(table, label="stable") == 1
        assert next(v.state for v in table.versions("m") if v.number == 3) is State.LOADING
    finally:
        go_on.set()
        thread.join()


def test_waiting_ends_when_the_models_answer_and_names_those_that_cannot(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    new = configuration.apply(listing(row(bench)))
    bench.broken = {2}
    thread = threading.Thread(target=table.advance)
    thread.start()
    code, words = refusal(lambda: wait_until_available(table, new, what="model(s)", going_on=lambda: True))
    thread.join()
    assert code is grpc.StatusCode.UNKNOWN
    assert words == (
        "1 model(s) did not become available: {{{name: m version: 2} due to error: UNKNOWN: no graph in 2}, }"
    )
    bench.broken = set()
    bench.publish(3)
    table.poll()
    wait_until_available(table, ["m"], what="model(s)", going_on=lambda: True)
    assert answering(table) == 3


def test_waiting_ends_with_whoever_waits(bench: Bench, table: ModelTable, configuration: Configuration) -> None:
    new = configuration.apply(listing(row(bench)))
    wait_until_available(table, new, what="model(s)", going_on=lambda: False)
    assert not table.serves("m")


def test_a_reload_waits_for_models_that_an_earlier_one_did_not_see_settled(
    bench: Bench, table: ModelTable, configuration: Configuration
) -> None:
    assert configuration.reload(listing(row(bench))) == {"m"}
    # Its caller gave up; nothing has been loaded since.
    assert configuration.reload(listing(row(bench))) == {"m"}
    assert configuration.reload(listing(row(bench), row(bench, name="n"))) == {"m", "n"}
    assert configuration.reload(listing(row(bench))) == {"m"}  # n is not listed any more
    table.advance()
    assert configuration.reload(listing(row(bench))) == frozenset()
    bench.broken = {1, 2}
    assert configuration.reload(listing(row(bench), row(bench, name="n"))) == {"n"}
    table.advance()
    assert configuration.reload(listing(row(bench), row(bench, name="n"))) == frozenset()  # it has failed


def config(path: Path, *rows: str) -> None:
    path.write_text(f"model_config_list {{ {' '.join(f'config {{ {text} }}' for text in rows)} }}")


def test_a_bad_file_changes_nothing_and_is_said_once(
    bench: Bench, table: ModelTable, configuration: Configuration, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.config"
    file = ConfigFile(path, configuration)
    assert ended(file.apply) == ("NOT_FOUND", f"{path}; No such file or directory")
    config(path, row(bench))
    assert file.apply() == {"m"}
    table.advance()
    for content in (b"model_config_list { nonsense", b"\xff"):
        path.write_bytes(content)
        file.poll()
        file.poll()
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    refused = f"PollFilesystemAndReloadConfig failed to ReloadConfig: Invalid protobuf file: '{path}'"
    assert [text for text in said if text.startswith("Poll")] == [refused]
    assert len([text for text in said if text.startswith("Error parsing text-format")]) == 1
    table.poll()
    assert answering(table) == 2
    config(path, row(bench, label("stable", 2)))
    file.poll()
    assert answering(table, label="stable") == 2


def test_the_file_wins_over_a_reload_at_its_next_poll(
    bench: Bench, table: ModelTable, configuration: Configuration, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    config(path, row(bench))
    file = ConfigFile(path, configuration)
    file.apply()
    table.advance()
    configuration.reload(listing(row(bench, name="n")))
    table.advance()
    assert table.names() == {"n"}
    file.poll()
    table.advance()
    assert table.names() == {"m"}
    assert answering(table) == 2


def test_a_file_that_stays_as_it_is_looks_at_the_disk_once_and_repeats_no_warning(
    bench: Bench,
    table: ModelTable,
    configuration: Configuration,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "models.config"
    config(path, row(bench, "model_version_policy { specific { versions: 2 versions: 9 } }"))
    file = ConfigFile(path, configuration)
    file.apply()
    table.advance()
    for _ in range(3):
        file.poll()
        table.poll()
    assert bench.seen == ["load 2"]
    assert len([record for record in caplog.records if "requested to be served as a 'specific'" in record.message]) == 1
    looked: list[bool] = []
    table.look = lambda: looked.append(True)  # type: ignore[method-assign]
    file.poll()
    assert looked == []


def test_a_file_is_parsed_when_it_changes_and_a_complaint_comes_back_with_what_is_wrong(
    bench: Bench,
    configuration: Configuration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, parsed = tmp_path / "models.config", list[str]()
    monkeypatch.setattr(
        "stack.model_server.reload.read", lambda text, file: (parsed.append(text), read(text, file=file))[1]
    )
    config(path, row(bench))
    file = ConfigFile(path, configuration)
    file.apply()
    for _ in range(3):
        file.poll()
    assert len(parsed) == 1
    good = path.read_text()
    for text in ("nonsense {", good, "nonsense {", good):
        path.write_text(text)
        file.poll()
        file.poll()
    assert parsed[1:] == ["nonsense {", "nonsense {"]
    assert sum("PollFilesystemAndReloadConfig failed" in record.message for record in caplog.records) == 2


def test_a_file_is_read_again_when_it_may_have_changed(
    bench: Bench, configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = tmp_path / "models.config", list[Path]()
    monkeypatch.setattr("stack.model_server.reload.read_file", lambda path: (reads.append(path), read_file(path))[1])
    config(path, row(bench))
    file = ConfigFile(path, configuration)
    file.apply()
    file.poll()
    assert len(reads) == 2  # written just now: it may change again and have the same times
    monkeypatch.setattr("stack.model_server.reload.SETTLED_NS", -(10**18))
    for _ in range(3):
        file.poll()
    assert len(reads) == 3
    config(tmp_path / "draft", row(bench, name="n"))
    (tmp_path / "draft").replace(path)
    file.poll()
    assert (len(reads), configuration._table.names()) == (4, {"n"})
    path.unlink()
    file.poll()
    file.poll()
    assert (len(reads), file._complaint != "") == (6, True)


def test_a_label_of_a_version_to_come_is_tried_again_at_every_poll(
    bench: Bench, table: ModelTable, configuration: Configuration, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    config(path, row(bench))
    file = ConfigFile(path, configuration)
    file.apply()
    table.advance()
    bench.publish(3)
    config(path, row(bench, label("stable", 3)))
    file.poll()
    assert ended(lambda: answering(table, label="stable"))[0] == "INVALID_ARGUMENT"
    table.poll()
    file.poll()
    assert answering(table, label="stable") == 3


def test_below_zero_the_disk_is_never_looked_at(bench: Bench, table: ModelTable) -> None:
    configuration = Configuration(table, looks=False)
    assert configuration.apply(listing(row(bench))) == {"m"}
    table.advance()
    assert bench.seen == []
