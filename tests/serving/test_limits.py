"""Token buckets and the gate, by a clock that is set by hand."""

from events.clock import SetClock
from serving.limits import Gate, Rates


def test_a_burst_and_then_the_rate() -> None:
    clock = SetClock(100.0)
    rates = Rates(2.0, 3.0, clock=clock.now)
    assert [rates.wait_s("u") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.set(100.5)
    assert [rates.wait_s("u") for _ in range(2)] == [0.0, 0.5]


def test_who_waits_is_told_how_long_and_asking_does_not_make_it_longer() -> None:
    clock = SetClock(100.0)
    rates = Rates(0.5, 1.0, clock=clock.now)
    assert [rates.wait_s("u") for _ in range(3)] == [0.0, 2.0, 2.0]
    clock.set(101.5)
    assert rates.wait_s("u") == 0.5


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = SetClock(100.0)
    rates = Rates(1.0, 2.0, clock=clock.now)
    rates.wait_s("u")
    clock.set(10_000.0)
    assert [rates.wait_s("u") for _ in range(3)] == [0.0, 0.0, 1.0]


def test_one_viewers_haste_is_nobody_elses() -> None:
    rates = Rates(1.0, 1.0, clock=SetClock(100.0).now)
    assert [rates.wait_s(one) for one in ("a", "a", "b")] == [0.0, 1.0, 0.0]


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    rates = Rates(1.0, 1.0, clock=SetClock(100.0).now, most=10)
    rates.wait_s("busy")
    for n in range(1000):
        rates.wait_s(f"u{n}")
        assert rates.wait_s("busy") == 1.0
    assert len(rates) == 10


def test_a_rate_of_nothing_limits_nobody() -> None:
    rates = Rates(0.0, 0.0)
    assert [rates.wait_s("u") for _ in range(1000)] == [0.0] * 1000


def test_the_gate_lets_so_many_in_and_gives_the_room_back() -> None:
    gate = Gate(2)
    with gate.enter() as first, gate.enter() as second, gate.enter() as third:
        assert (first, second, third) == (True, True, False)
    with gate.enter() as first, gate.enter() as second:
        assert (first, second) == (True, True)
