"""Injected faults: each is counted, each is what it says, and nothing else is lost."""

from collections import Counter
from typing import Any

import pytest

from events import schema as s
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


def by_send(config: WorldConfig, hours: float = 12.0) -> tuple[list[tuple[float, s.Event]], WorldReport]:
    """Every event with the world's time at which it was sent."""
    sent: list[tuple[float, s.Event]] = []
    world = World(config)

    class Clocked(MemoryWriter):
        def send(self, event: s.Event) -> None:
            sent.append((clock[0], event))

    clock, road = [0.0], world._road
    released = road.release

    def release(writer: Any, *, until: float) -> None:
        clock[0] = until
        released(writer, until=until)

    road.release = release  # type: ignore[method-assign]
    return sent, world.advance(hours, Clocked(MemoryLog()), NoFeed())


@pytest.mark.parametrize("paired", [False, True])
def test_in_an_outage_nothing_is_sent_and_afterwards_everything_is_in_order(paired: bool) -> None:
    config = WorldConfig(**SMALL, paired=paired, outage_at_h=3.0, outage_h=1.0)
    sent, done = by_send(config)
    start = config.start_at.timestamp()
    closed, opens = start + 3 * 3_600.0, start + 4 * 3_600.0
    at = [event.event_at.timestamp() for _, event in sent]
    assert not [when for when, _ in sent if closed <= when < opens]
    assert done.held["outage"] == sum(closed <= one < opens for one in at) > 20
    assert at == sorted(at)
    ids = {event.event_id for _, event in sent}
    assert ids == {event.event_id for _, event in by_send(WorldConfig(**SMALL, paired=paired))[0]}


def test_a_sleeping_phone_sends_its_viewers_events_when_it_wakes_and_hosts_are_not_held() -> None:
    dials = SMALL | {"sessions_per_day": 30.0, "screen_off_share": 0.8, "screen_off_s": 900.0, "paired": True}
    sent, done = by_send(WorldConfig(**dials))
    behind = [(when - event.event_at.timestamp(), event) for when, event in sent]
    held = [event for late, event in behind if late > 1.0]
    assert done.held["screen off"] >= len(held) > 20
    assert not [event for event in held if isinstance(event, s.RoomEvent | s.MediaPublished)]
    assert max(late for late, _ in behind) <= 2 * 3_600.0


def test_a_device_whose_clock_is_wrong_is_wrong_by_the_same_for_all_its_events() -> None:
    wrong = {e.event_id: e for _, e in by_send(WorldConfig(**SMALL, paired=True, skew_share=0.5, skew_s=120.0))[0]}
    right = {e.event_id: e for _, e in by_send(WorldConfig(**SMALL, paired=True))[0]}
    assert wrong.keys() == right.keys()
    off: dict[str, set[float]] = {}
    for event_id, event in wrong.items():
        error = round((event.event_at - right[event_id].event_at).total_seconds(), 3)
        who = getattr(event, "user_id", "") if isinstance(event, s.MediaEvent | s.LiveEvent) else "other"
        off.setdefault(who, set()).add(error)
    assert off.pop("other") == {0.0}
    assert all(len(errors) == 1 for errors in off.values())
    skewed = [error for errors in off.values() for error in errors if error]
    assert 0.2 * len(off) < len(skewed) < 0.8 * len(off)
    assert 20.0 < max(map(abs, skewed)) < 600.0


def test_in_a_paired_world_a_fault_is_a_matter_of_the_event_it_hits() -> None:
    """With twice the viewers, the hosts' events are duplicated exactly as before."""
    repeated = []
    for viewers in (30, 60):
        records, _ = play(duplicate_share=0.1, paired=True, viewers=viewers)
        ids = readable([record for record in records if record.topic == "stream.lifecycle"])[0]
        repeated.append({event_id for event_id, count in ids.items() if count == 2})
    assert repeated[0] == repeated[1]
    assert len(repeated[0]) > 20
