"""The commands of the log, as a user meets them: counts when it went well, one sentence when not."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from events.__main__ import app
from events.contract import contract
from events.dead_letters import send_dead_letter
from events.kafka import KafkaReader, KafkaWriter, end_offsets
from events.lines import BadLine, produce
from events.log import MemoryLog, MemoryWriter, Record
from events.topics import ENGAGEMENT, PROFILES, TOPICS, encode
from stack.parts import Parts
from tests.collector.stories import started


def line(event_id: str, **change: object) -> bytes:
    return json.dumps({**json.loads(encode(started(event_id, "vera", "film", 0))), **change}).encode() + b"\n"


def values(log: MemoryLog) -> list[tuple[bytes | None, bytes]]:
    return [(record.key, record.value) for lane in log.records.values() for record in lane]


def test_lines_become_events_under_their_key_and_empty_lines_are_skipped() -> None:
    log = MemoryLog()
    assert produce([line("a"), b"\n", line("b")], MemoryWriter(log), ENGAGEMENT) == 2
    assert values(log) == [(b"vera", line("a").strip()), (b"vera", line("b").strip())]


def test_a_line_that_is_no_event_is_named_by_its_number() -> None:
    log = MemoryLog()
    with pytest.raises(
        BadLine, match=r"line 3 is not an event: .*unknown field `colour`.* \(1 lines before it were sent\)"
    ):
        produce([line("a"), b"\n", line("b", colour="red"), line("c")], MemoryWriter(log), ENGAGEMENT)
    assert len(values(log)) == 1


def test_raw_sends_anything_as_it_is() -> None:
    log = MemoryLog()
    assert produce([b"{broken\n", line("a")], MemoryWriter(log), ENGAGEMENT, raw=True) == 2
    assert sorted(values(log), key=str) == sorted([(None, b"{broken"), (b"vera", line("a").strip())], key=str)


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        (b'{"user_id":"vera","colour":"red"}', b"vera"),
        (b'{"user_id":17}', None),
        (b'["vera"]', None),
        (b'{"user_id":"\xff"}', None),
    ],
    ids=["named", "a number", "no object", "no text"],
)
def test_a_raw_line_keeps_the_key_that_it_names(sent: bytes, key: bytes | None) -> None:
    log = MemoryLog()
    produce([sent], MemoryWriter(log), ENGAGEMENT, raw=True)
    assert values(log) == [(key, sent)]


def run(*words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


def assert_one_sentence(result: Result, start: str) -> None:
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {start}"), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_wrong_words_are_one_sentence_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIVEFEED_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    assert_one_sentence(
        run("produce", "-", "--topic", "films"), "unknown topic 'films'; allowed are user.engagement.events"
    )
    assert_one_sentence(run("produce", str(tmp_path / "no"), "--topic", PROFILES), f"there is no file '{tmp_path}/no'")
    monkeypatch.setenv("LIVEFEED_KAFKA_PORT", "0")
    assert_one_sentence(run("topics"), "LIVEFEED_KAFKA_PORT='0' is not allowed")


def test_a_contract_is_printed_alone_or_all_by_topic() -> None:
    one = run("schema", "--topic", PROFILES)
    assert one.exit_code == 0
    assert json.loads(one.stdout) == contract(PROFILES)
    assert json.loads(run("schema").stdout) == {name: contract(name) for name in TOPICS}


def test_contracts_are_written_one_file_a_topic(tmp_path: Path) -> None:
    shown = run("schema", "--topic", PROFILES, "--out", str(tmp_path))
    assert (shown.exit_code, shown.stdout) == (0, f"{tmp_path}/profiles.v1.json\n")
    assert json.loads((tmp_path / "profiles.v1.json").read_text()) == contract(PROFILES)
    assert run("schema", "--out", str(tmp_path)).exit_code == 0
    assert len(list(tmp_path.iterdir())) == len(TOPICS)


def test_contracts_of_no_topic_or_into_no_folder_are_refused_in_one_sentence(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert_one_sentence(run("schema", "--topic", "films"), "unknown topic 'films'; allowed are user.engagement.events")
    assert_one_sentence(
        run("schema", "--topic", "films", "--out", str(none)),
        "unknown topic 'films'; allowed are user.engagement.events",
    )
    assert_one_sentence(run("schema", "--out", str(none)), f"there is no folder '{none}'")
    assert not none.exists()
    (tmp_path / "profiles.v1.json").mkdir()
    assert_one_sentence(run("schema", "--out", str(tmp_path), "--topic", PROFILES), "the contract cannot be written to")


@pytest.fixture
def real(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in parts.settings.environment().items():
        monkeypatch.setenv(name, value)
    yield parts.settings.kafka


def sent_since(bootstrap: str, before: dict[object, int]) -> list[Record]:
    reader = KafkaReader(bootstrap, [PROFILES], group=None)
    ends = reader.end_offsets()
    for place in ends:
        reader.seek(place, before[place])
    out: list[Record] = []
    while len(out) < sum(ends.values()) - sum(before.values()):
        out.extend(reader.poll(timeout_s=0.2, limit=100))
    reader.close()
    return out


@pytest.mark.parts
def test_produce_from_a_file_and_from_standard_input(real: str, tmp_path: Path) -> None:
    before = dict(end_offsets(real, [PROFILES]))
    user = f"u-{uuid.uuid4()}"
    event = {"type": "viewer_profile", "event_id": user, "event_at": "2026-11-01T18:00:00Z", "user_id": user}
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(event) + "\n")
    shown = run("produce", str(file), "--topic", PROFILES)
    assert (shown.exit_code, shown.stdout) == (0, "1 messages sent to profiles\n")
    assert_one_sentence(
        run("produce", "-", "--topic", PROFILES, stdin=b"{oops\n"),
        "line 1 is not an event: profiles: JSON is malformed",
    )
    assert [record.key for record in sent_since(real, before)] == [user.encode()]


@pytest.mark.parts
def test_topics_are_listed_with_their_tables_and_counts(real: str) -> None:
    shown = run("topics")
    lines = {row.split()[0]: row.split() for row in shown.stdout.splitlines()}
    total = sum(end_offsets(real, [PROFILES]).values())
    assert lines["profiles"][1:] == ["user_id", "profiles", "3", "4", str(total)]
    assert set(lines) >= {"user.engagement.events", "feed.impressions", "livefeed.dead_letters"}


@pytest.mark.parts
def test_dead_letters_are_listed_and_sent_again(real: str) -> None:
    writer = KafkaWriter(real)
    user = f"u-{uuid.uuid4()}"
    place = uuid.uuid4().int % 10**9 * 2
    good = json.dumps(
        {"type": "viewer_profile", "event_id": user, "event_at": "2026-11-01T18:00:00Z", "user_id": user}
    ).encode()
    send_dead_letter(writer, Record(PROFILES, 7, place, user.encode(), good), f"not read by an older version {user}")
    send_dead_letter(writer, Record(PROFILES, 7, place + 1, user.encode(), b"{broken"), f"broken {user}")
    writer.close()
    before = dict(end_offsets(real, [PROFILES]))
    shown = run("dead-letters", "list", "--limit", "100000")
    assert f"profiles/7@{place + 1}  broken {user}\n    {{broken\n" in shown.stdout
    again = run("dead-letters", "replay")
    assert again.exit_code == 0 and "sent again" in again.stdout
    found = sent_since(real, before)
    assert (user.encode(), good) in [(record.key, record.value) for record in found]
    assert b"{broken" not in [record.value for record in found]


@pytest.mark.parts
def test_replaying_a_data_set_that_is_not_there_is_one_sentence(real: str, tmp_path: Path) -> None:
    assert_one_sentence(
        run("replay", "movielens", "--path", str(tmp_path / "none")),
        f"the data set path {tmp_path}/none is not a folder",
    )
    assert_one_sentence(
        run("replay", "netflix", "--path", str(tmp_path)), "unknown data set 'netflix'; allowed are movielens, kuairand"
    )
    assert_one_sentence(run("replay", "movielens", "--path", str(tmp_path)), str(tmp_path))
