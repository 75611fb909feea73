"""The jar lock and its cache: what is read, what is refused, what is kept."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stack import jars
from stack.errors import JarsUnavailable, JavaMissing
from stack.jars import Jar, fetch, ivy_file, read_lock
from stack.java import find_java, java_version

CONTENT = b"a jar"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "jars.lock"
    path.write_text(f"# why\n[kafka]\norg.one:alpha:1.0  {SHA}\norg.two:beta_2.13:2.0  {SHA}\n")
    return path


def ivy_that_writes(content: dict[str, bytes]) -> Callable[..., list[str]]:
    """A stand-in for running Ivy: writes files into the scratch folder and says nothing."""

    def retrieve(wanted: Sequence[Jar], scratch: Path, **_: object) -> list[str]:
        for name, data in content.items():
            (scratch / name).write_bytes(data)
        return []

    return retrieve


def test_the_lock_lists_both_groups_with_whole_closures() -> None:
    locked = read_lock(jars.LOCK.read_text())
    assert set(locked) == set(jars.GROUPS)
    assert len(locked["kafka"]) == 46
    assert "kafka_2.13-4.1.0.jar" in {jar.file for jar in locked["kafka"]}
    assert "delta-spark_4.2_2.13-4.4.0.jar" in {jar.file for jar in locked["delta"]}


def test_a_line_that_is_no_coordinate_is_named() -> None:
    with pytest.raises(JarsUnavailable, match=r"line 2 of the jar lock is .*alpha  abc"):
        read_lock("[kafka]\norg.one:alpha  abc\n")


def test_a_group_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(JarsUnavailable, match="unknown group of jars 'flink'; allowed are kafka"):
        fetch(tmp_path / "cache", group="flink", lock=lock)


def test_the_module_file_asks_for_each_archive_without_what_it_depends_on() -> None:
    text = ivy_file([Jar("org.one", "alpha", "1.0", SHA)])
    assert '<dependency org="org.one" name="alpha" rev="1.0" transitive="false"' in text


def test_what_was_fetched_once_is_not_fetched_again(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"alpha-1.0.jar": CONTENT, "beta_2.13-2.0.jar": CONTENT}
    monkeypatch.setattr(jars, "_retrieve", ivy_that_writes(both))
    first = fetch(tmp_path / "cache", group="kafka", lock=lock)
    monkeypatch.setattr(jars, "_retrieve", ivy_that_writes({}))
    assert fetch(tmp_path / "cache", group="kafka", lock=lock) == first
    assert [path.name for path in first] == list(both)


def test_a_download_with_another_checksum_is_refused_and_nothing_is_kept(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "_retrieve", ivy_that_writes({"alpha-1.0.jar": CONTENT, "beta_2.13-2.0.jar": b"evil"}))
    with pytest.raises(JarsUnavailable, match=rf"beta_2.13-2.0.jar was downloaded with sha256 .* allows only {SHA}"):
        fetch(tmp_path / "cache", group="kafka", lock=lock)
    assert [path.name for path in (tmp_path / "cache/kafka").iterdir()] == [".lock"]


def test_a_cached_file_that_was_damaged_is_fetched_anew(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"alpha-1.0.jar": CONTENT, "beta_2.13-2.0.jar": CONTENT}
    monkeypatch.setattr(jars, "_retrieve", ivy_that_writes(both))
    alpha, _ = fetch(tmp_path / "cache", group="kafka", lock=lock)
    alpha.write_bytes(b"half")
    fetch(tmp_path / "cache", group="kafka", lock=lock)
    assert alpha.read_bytes() == CONTENT


def test_an_offline_machine_is_told_so_in_one_sentence(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["SERVER ERROR: java.net.UnknownHostException: some.host"]
    monkeypatch.setattr(jars, "_retrieve", lambda *_, **__: said)
    with pytest.raises(JarsUnavailable, match=r"alpha:1\.0 could not be downloaded: its repository cannot be reached"):
        fetch(tmp_path / "cache", group="kafka", lock=lock)


def test_a_missing_java_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match="Java 17 or newer is needed but no java is on PATH: get it with `apt-get"):
        find_java()


@pytest.mark.parametrize(("said", "version"), [("17.0.15", 17), ("1.8.0_392", 8), ("21", 21)])
def test_the_major_version_is_read_from_what_java_says(tmp_path: Path, said: str, version: int) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{said}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    assert java_version(java) == version


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setitem(os.environ, "JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissing, match="is Java 11"):
        find_java()
