"""Injected faults: each is counted, each is what it says, and nothing else is lost."""

from collections import Counter
from typing import Any

import pytest

from events.errors import MalformedEvent
from events.log import MemoryLog, MemoryWriter, Record
from events.topics import decode
from simulator import NoFeed, World, WorldConfig, WorldReport

SMALL: dict[str, Any] = {"viewers": 30, "hosts": 6, "creators": 20, "items": 100, "sessions_per_day": 6.0}


def play(**dials: Any) -> tuple[list[Record], WorldReport]:
    log = MemoryLog(partitions=1)
    done = World(WorldConfig(**(SMALL | dials))).advance(12.0, MemoryWriter(log), NoFeed())
    return [record for lane in log.records.values() for record in lane], done


def readable(records: list[Record]) -> tuple[Counter[str], list[str]]:
    """How often each event id was read, and why the rest could not be."""
    ids: Counter[str] = Counter()
    reasons = []
    for record in records:
        try:
            ids[decode(record.topic, record.value).event_id] += 1
        except MalformedEvent as error:
            reasons.append(error.reason)
    return ids, reasons


def test_without_faults_every_message_is_one_event() -> None:
    records, done = play()
    ids, reasons = readable(records)
    assert (done.duplicates, done.late, done.broken, reasons) == (0, 0, 0, [])
    assert set(ids.values()) == {1}
    assert done.messages == len(records) == done.events.total()


def test_duplicates_are_second_copies_and_counted() -> None:
    records, done = play(duplicate_share=0.1)
    ids, _ = readable(records)
    assert Counter(ids.values()) == {2: done.duplicates, 1: len(ids) - done.duplicates}
    assert 0.07 < done.duplicates / len(ids) < 0.13
    assert set(ids) == set(readable(play()[0])[0])


def test_broken_copies_are_of_three_kinds_and_the_event_itself_still_comes() -> None:
    records, done = play(broken_share=0.1)
    ids, reasons = readable(records)
    assert len(reasons) == done.broken > 50
    assert set(ids) == set(readable(play()[0])[0])
    assert any("unknown field `not_in_the_schema`" in reason for reason in reasons)
    assert any("Expected `datetime`, got `array`" in reason for reason in reasons)
    assert any("truncated" in reason for reason in reasons)


def test_late_events_come_after_later_ones_and_none_is_sent_twice() -> None:
    records, done = play(late_share=0.1, late_by_s=600.0)
    newest, behind = 0.0, []
    topic = "stream.lifecycle"
    for record in records:
        if record.topic == topic:
            at = decode(topic, record.value).event_at.timestamp()
            newest = max(newest, at)
            behind.append(newest - at)
    assert done.late > 50
    assert sum(lag > 250.0 for lag in behind) > 50
    assert max(behind) <= 900.0 + 60.0
    assert set(readable(records)[0].values()) == {1}


@pytest.mark.parametrize("fault", ["duplicate_share", "late_share", "broken_share"])
def test_messages_are_events_plus_what_was_injected(fault: str) -> None:
    records, done = play(**{fault: 0.05})
    assert done.messages == len(records)
    held = done.events.total() + done.duplicates + done.broken - done.messages  # late ones that are still on their way
    assert 0 <= held <= done.late
