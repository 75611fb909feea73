"""Replay: order, pace by the injected clock, durability at the end and on Ctrl-C."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from events import schema as s
from events.clock import SetClock
from events.log import MemoryLog, MemoryWriter
from events.replay import FLUSH_EVERY, BadReplay, replay
from events.topics import MEDIA, decode

START = datetime(2026, 11, 2, tzinfo=UTC)


def removed(second: float) -> s.Event:
    return s.MediaRemoved(event_id=f"e{second}", event_at=START + timedelta(seconds=second), item_id="m1")


class Watched(MemoryWriter):
    """Notes the clock at each send, and counts flushes."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__(MemoryLog())
        self.clock, self.sent_at, self.flushes, self.unflushed = clock, list[float](), 0, 0

    def send(self, event: s.Event) -> None:
        self.sent_at.append(self.clock.now())
        self.unflushed += 1

    def flush(self) -> None:
        self.flushes += 1
        self.unflushed = 0


def test_a_replay_at_speed_60_plays_a_minute_a_second_and_keeps_order() -> None:
    clock = SetClock(1_000.0)
    writer = Watched(clock)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.set(clock.now() + seconds)

    sent = replay([removed(0), removed(60), removed(60), removed(240)], writer, speed=60, clock=clock, sleep=sleep)
    assert sent == 4
    assert writer.sent_at == [1_000.0, 1_001.0, 1_001.0, 1_004.0]
    assert slept == [1.0, 3.0]


def test_a_slow_log_is_caught_up_with_and_not_slept_for() -> None:
    clock = SetClock(0.0)

    class Slow(Watched):
        def send(self, event: s.Event) -> None:
            super().send(event)
            clock.set(clock.now() + 5.0)

    slept: list[float] = []
    replay([removed(0), removed(2), removed(4)], Slow(clock), speed=1, clock=clock, sleep=slept.append)
    assert slept == []


def test_as_fast_as_possible_never_sleeps_and_keeps_every_event() -> None:
    log = MemoryLog(partitions=1)

    def never(seconds: float) -> None:
        raise AssertionError("slept")

    assert replay((removed(n) for n in range(10)), MemoryWriter(log), sleep=never) == 10
    (lane,) = log.records.values()
    assert [decode(MEDIA, record.value).event_id for record in lane] == [f"e{n}" for n in range(10)]


def test_everything_is_durable_at_the_end_and_flushed_on_the_way() -> None:
    writer = Watched(SetClock(0.0))
    replay((removed(n) for n in range(FLUSH_EVERY + 1)), writer)
    assert (writer.flushes, writer.unflushed) == (2, 0)


def test_ctrl_c_makes_what_was_sent_durable_and_is_passed_on() -> None:
    writer = Watched(SetClock(0.0))

    def interrupted() -> Iterator[s.Event]:
        yield removed(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(interrupted(), writer)
    assert (len(writer.sent_at), writer.unflushed) == (1, 0)


def test_progress_is_reported_with_the_event_time_reached() -> None:
    said: list[tuple[int, datetime]] = []
    replay((removed(n) for n in range(1_500)), Watched(SetClock(0.0)), report=lambda n, at: said.append((n, at)))
    assert said == [(1_000, START + timedelta(seconds=999)), (1_500, START + timedelta(seconds=1_499))]


def test_an_event_out_of_order_is_refused_by_name() -> None:
    with pytest.raises(BadReplay, match=r"event e1 of 2026-11-02 00:00:01\+00:00 comes after"):
        replay([removed(2), removed(1)], Watched(SetClock(0.0)))


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_is_not_above_zero_is_refused(speed: float) -> None:
    with pytest.raises(BadReplay, match="give a number above 0"):
        replay([], Watched(SetClock(0.0)), speed=speed)
