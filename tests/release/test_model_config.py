"""The model server's configuration file, read by TensorFlow Serving's own message."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from release.model_config import Held, read_model_config, write_model_config

TWO = Held(frozenset({8, 12}), {"stable": 8, "canary": 12})


def parsed(path: Path) -> model_server_config_pb2.ModelServerConfig:
    message = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), message)
    return message


def test_both_models_have_the_versions_and_the_labels(tmp_path: Path) -> None:
    rows = parsed(write_model_config(tmp_path, TWO)).model_config_list.config
    assert [one.name for one in rows] == ["two_tower", "ranker"]
    for row in rows:
        assert row.base_path == str(tmp_path / row.name)
        assert row.model_platform == "tensorflow"
        assert list(row.model_version_policy.specific.versions) == [8, 12]
        assert dict(row.version_labels) == {"stable": 8, "canary": 12}


def test_without_versions_the_newest_two_are_served(tmp_path: Path) -> None:
    for row in parsed(write_model_config(tmp_path, Held())).model_config_list.config:
        assert row.model_version_policy.latest.num_versions == 2
        assert not row.version_labels


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    for held in (Held(), Held(frozenset({3})), TWO):
        write_model_config(tmp_path, held)
        assert read_model_config(tmp_path) == held


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_model_config(tmp_path) == Held()


def test_a_file_that_says_the_same_is_left_alone_and_another_is_replaced_whole(tmp_path: Path) -> None:
    before = write_model_config(tmp_path, TWO).stat()
    assert write_model_config(tmp_path, TWO).stat().st_mtime_ns == before.st_mtime_ns
    assert write_model_config(tmp_path, Held()).stat().st_ino != before.st_ino
