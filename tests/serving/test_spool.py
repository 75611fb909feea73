"""The spool loses one person's impressions, and nothing of anybody else's, even while it is being sent."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from events import schema as s
from events.topics import IMPRESSIONS, encode
from serving.spool import Spool, erase_lines

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def shown(number: int, user: str, creator: str = "anna") -> s.Impression:
    return s.Impression(
        event_id=f"r{number}:0", event_at=NOON, request_id=f"r{number}", user_id=user, item_id="film", position=0,
        content_type=s.ContentType.VIDEO, creator_id=creator,
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "impressions.jsonl"


@pytest.fixture
def spool(path: Path) -> Spool:
    return Spool(path, topic=IMPRESSIONS, max_bytes=10_000)


def users(spool: Spool) -> list[str]:
    return [event.user_id for event in spool.take()[0] if isinstance(event, s.Impression)]


def test_her_lines_go_and_those_of_an_id_that_begins_alike_stay(spool: Spool, path: Path) -> None:
    spool.append([shown(0, "u1"), shown(1, "u17"), shown(2, "otto", creator="u1")])
    assert erase_lines(path, "u1") == 2
    assert users(spool) == ["u17"]
    assert b'"u1"' not in path.read_bytes()


def test_what_was_read_before_the_erasure_can_still_be_cut_off_after_it(spool: Spool, path: Path) -> None:
    spool.append([shown(0, "vera"), shown(1, "otto")])
    _, size = spool.take()
    erase_lines(path, "vera")
    spool.append([shown(2, "anna")])
    spool.drop(size)
    assert users(spool) == ["anna"]


def test_a_torn_line_that_has_her_id_goes_too(spool: Spool, path: Path) -> None:
    spool.append([shown(0, "otto")])
    with path.open("ab") as file:
        file.write(encode(shown(1, "vera"))[:-10])
    assert erase_lines(path, "vera") == 1
    assert b"vera" not in path.read_bytes() and users(spool) == ["otto"]


def test_a_draft_that_a_crash_left_is_removed(spool: Spool, path: Path) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(encode(shown(0, "vera")))
    erase_lines(path, "vera")
    assert not draft.exists()


def test_without_a_spool_there_is_nothing_to_erase_and_nothing_is_made(path: Path) -> None:
    assert erase_lines(path, "vera") == 0
    assert not path.parent.exists()


def test_erasing_twice_finds_nothing_the_second_time(spool: Spool, path: Path) -> None:
    spool.append([shown(0, "vera")])
    assert [erase_lines(path, "vera"), erase_lines(path, "vera")] == [1, 0]
