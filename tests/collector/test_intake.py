"""What counts and what does not: duplicates, late events, and bytes that are no events."""

import json
from pathlib import Path

import pytest

from events import schema as s
from events.topics import ENGAGEMENT, IMPRESSIONS, encode
from features.definitions import Entity
from features.state import values
from tests.collector.stories import EVENING, Evening, at, liked, published, started


@pytest.fixture
def evening(tmp_path: Path) -> Evening:
    return Evening(tmp_path)


def plays(evening: Evening, item: str) -> float:
    return float(values(Entity.ITEM, evening.store.read(Entity.ITEM, [item])[0], EVENING)["plays"])


def test_an_event_sent_twice_counts_once(evening: Evening) -> None:
    event = started("e1", "vera", "film", 10)
    evening.send(published("film"), event, event)
    report = evening.collect().report
    assert [row["event_id"] for row in evening.rows(ENGAGEMENT)] == ["e1"]
    assert plays(evening, "film") == 1.0
    assert report.outcomes[ENGAGEMENT, "duplicate"] == 1


def test_a_duplicate_is_found_after_a_restart(evening: Evening) -> None:
    event = started("e1", "vera", "film", 10)
    evening.send(event)
    evening.collect()
    evening.send(event, started("e2", "vera", "film", 11))
    report = evening.collect().report
    assert [row["event_id"] for row in evening.rows(ENGAGEMENT)] == ["e1", "e2"]
    assert report.outcomes[ENGAGEMENT, "duplicate"] == 1


def test_the_window_of_seen_ids_reaches_over_midnight_after_a_restart(evening: Evening) -> None:
    before = started("e1", "vera", "film", 6 * 3600 - 600)  # 23:50
    evening.send(before, started("e2", "vera", "film", 6 * 3600 + 600))  # 00:10 of the next day
    evening.collect()
    evening.send(before)
    assert evening.collect().report.outcomes[ENGAGEMENT, "duplicate"] == 1
    assert plays(evening, "film") == 2.0


def test_the_same_id_twice_beyond_the_lateness_bound_is_found_in_the_table(evening: Evening) -> None:
    event = started("e1", "vera", "film", 0)
    evening.send(event, started("e2", "vera", "film", 2 * 3600), event)
    report = evening.collect().report
    assert [row["event_id"] for row in evening.rows(ENGAGEMENT)] == ["e1", "e2"]
    assert (report.total("stored"), report.total("duplicate"), report.total("late")) == (2, 1, 0)


def test_an_event_older_than_the_bound_is_stored_as_late_and_not_applied(evening: Evening) -> None:
    evening.send(
        started("new", "vera", "film", 3601), started("late", "vera", "film", 0), started("ok", "vera", "film", 1)
    )
    report = evening.collect().report
    assert {row["event_id"]: row["late"] for row in evening.rows(ENGAGEMENT)} == {
        "new": False,
        "late": True,
        "ok": False,
    }
    assert plays(evening, "film") == 2.0
    assert report.outcomes[ENGAGEMENT, "late"] == 1


def test_what_is_late_stays_late_after_a_restart(evening: Evening) -> None:
    evening.send(started("new", "vera", "film", 3601), started("ok", "vera", "film", 1800))
    evening.collect()
    evening.send(started("late", "vera", "film", 0))
    evening.collect()
    assert {row["event_id"]: row["late"] for row in evening.rows(ENGAGEMENT)} == {
        "new": False,
        "ok": False,
        "late": True,
    }


def test_one_viewers_future_does_not_make_another_partitions_events_late(evening: Evening) -> None:
    users = [f"u{n}" for n in range(20)]
    evening.send(*(started(f"a-{user}", user, "film", 0) for user in users))
    places = {record.place: None for lane in evening.log.records.values() for record in lane}
    assert len(places) == 2
    evening.send(started("far", users[0], "film", 9 * 3600))
    evening.collect()  # reads the first partition to its end before the second
    assert not any(row["late"] for row in evening.rows(ENGAGEMENT))


def test_a_changed_item_holds_however_late_it_comes(evening: Evening) -> None:
    evening.send(published("film", 9 * 3600, title="new"), published("song", 0.0, title="old"))
    evening.send(published("film", 0.0, title="older"))
    evening.collect()
    titles = [
        values(Entity.ITEM, state, EVENING)["title"] for state in evening.store.read(Entity.ITEM, ["film", "song"])
    ]
    assert titles == ["new", "old"]
    assert not any(row["late"] for row in evening.rows("media.published"))


def broken(**change: object) -> bytes:
    return json.dumps({**json.loads(encode(liked("e9", "vera", "film", 1))), **change}).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{not json", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b"", "truncated"),
        (broken(colour="red"), "unknown field `colour`"),
        (broken(user_id=7), "Expected `str`, got `int`"),
        (broken(type="media_eaten"), "Invalid value 'media_eaten'"),
        (broken(event_at="2026-11-01T18:00:00"), "timezone"),
        (broken(event_at="9999-01-01T00:00:00Z"), "outside the years 1970 to 2099"),
        (broken(schema_v=2), "Invalid enum value 2"),
    ],
)
def test_what_cannot_be_read_becomes_a_dead_letter_and_the_rest_goes_on(
    evening: Evening, value: bytes, reason: str
) -> None:
    evening.send(started("before", "vera", "film", 0))
    evening.producer.send_raw(ENGAGEMENT, key=b"vera", value=value)
    evening.send(started("after", "vera", "film", 1))
    report = evening.collect().report
    (letter,) = evening.dead_letters()
    assert (letter.topic, letter.offset, letter.key, letter.value) == (ENGAGEMENT, 1, b"vera", value)
    assert reason in letter.reason
    assert [row["event_id"] for row in evening.rows(ENGAGEMENT)] == ["before", "after"]
    assert report.outcomes[ENGAGEMENT, "dead_letter"] == 1


def test_an_integer_that_no_column_holds_is_a_dead_letter_not_a_stuck_collector(evening: Evening) -> None:
    seen = s.Impression(
        event_id="r:0", event_at=at(0), request_id="r", user_id="vera", item_id="film",
        content_type=s.ContentType.VIDEO, creator_id="anna", position=0,
    )  # fmt: skip
    huge = json.dumps({**json.loads(encode(seen)), "position": 2**64}).encode()
    evening.producer.send_raw(IMPRESSIONS, key=b"vera", value=huge)
    evening.send(seen)
    evening.collect()
    assert [letter.reason for letter in evening.dead_letters()] == ["feed.impressions: position is outside 64 bits"]
    assert len(evening.rows(IMPRESSIONS)) == 1


def test_a_partition_of_nothing_but_dead_letters_is_done_once(evening: Evening) -> None:
    evening.producer.send_raw(ENGAGEMENT, key=b"vera", value=b"{")
    evening.collect()
    assert evening.collect().report.total("dead_letter") == 0
    assert len(evening.dead_letters()) == 1


def test_an_event_of_a_clock_that_runs_ahead_is_a_dead_letter_and_makes_nothing_late(evening: Evening) -> None:
    evening.send(
        published("film"), started("mad", "vera", "film", 100 * 86_400.0), started("sane", "vera", "film", 60.0)
    )
    evening.collect(evening.collector(ahead_s=3_600.0))
    assert plays(evening, "film") == 1.0
    (letter,) = evening.dead_letters()
    assert "is after 2026-11-01T19:00:00+00:00" in letter.reason
    assert [row["late"] for row in evening.rows(ENGAGEMENT)] == [False]
