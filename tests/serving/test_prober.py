"""The prober's thread sleeps while every part answers, and is up while one is left alone."""

import threading

import pytest

from serving.breaker import Breaker, BreakerConfig, State
from serving.prober import Alarm, Prober
from tests.serving.small_world import SmallWorld, ask
from tests.serving.test_impressions import wait_until


class Told:
    """Writes down what a watch is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, State | None]] = []

    def moved(self, part: str, state: State) -> None:
        self.said.append((part, state))

    def rejected(self, part: str) -> None:
        self.said.append((part, None))


def test_the_alarm_rings_when_a_breaker_opens_and_tells_everything() -> None:
    told = Told()
    alarm = Alarm(told)
    breaker = Breaker("store", BreakerConfig(failures=1, rest_s=100.0, overdue_s=100.0), alarm)
    assert not alarm.rung.is_set()
    breaker.failed("gone")
    assert alarm.rung.is_set()
    assert not breaker.admits()
    assert told.said == [("store", State.CLOSED), ("store", State.OPEN), ("store", None)]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the alarm wakes the prober."""
    monkeypatch.setattr("serving.prober.TIDY_EVERY_S", 1_000.0)
    monkeypatch.setattr("serving.prober.LOOK_EVERY_S", 0.001)


@pytest.mark.usefixtures("waits")
def test_it_wakes_for_a_breaker_that_opens_looks_until_the_part_answers_and_sleeps_again(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    ask(proxy)
    proxy.prober.start()
    try:
        for part in (proxy.parts.store_breaker, proxy.parts.model_breakers.of("stable", "ranker")):
            for _ in range(part.config.failures):
                part.failed("gone")
            wait_until(lambda part=part: not part.is_open)  # type: ignore[misc]
            wait_until(lambda: not proxy.prober._alarm.rung.is_set())
    finally:
        proxy.prober.close()
    assert not proxy.prober._thread.is_alive()


@pytest.mark.usefixtures("waits")
def test_it_goes_on_looking_after_a_look_that_failed(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, said, twice = world.proxy(), list[str](), threading.Event()

    def fails() -> None:
        raise ZeroDivisionError

    def report(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            twice.set()

    prober = Prober(proxy.parts, proxy.prober._alarm, clock=proxy.clock, report=report)
    monkeypatch.setattr(prober, "step", fails)
    prober.start()
    proxy.parts.store_breaker.failed("gone")
    assert twice.wait(20.0)
    prober.close()
    assert said[0] == "probe: ZeroDivisionError()"


def test_labels_that_left_traffic_are_forgotten_without_an_alarm(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.prober.TIDY_EVERY_S", 0.001)
    proxy = world.proxy()
    proxy.parts.model_breakers.of("canary", "ranker").failed("once, which opens nothing")
    assert proxy.parts.model_breakers.troubles
    proxy.prober.start()
    wait_until(lambda: not proxy.parts.model_breakers.troubles)
    proxy.prober.close()
