"""The breaker against a model of it, through any order of requests, probes, answers, failures and waiting."""

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.breaker import Breaker, BreakerConfig, Breakers, State

CONFIG = BreakerConfig(failures=3, rest_s=1.0, overdue_s=4.0, lost_s=10.0)


class Book:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.rejections = 0

    def moved(self, part: str, state: State) -> None:
        self.states.append(state)

    def rejected(self, part: str) -> None:
        self.rejections += 1


class BreakerMachine(RuleBasedStateMachine):
    """Two askers at a time; the clock moves only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.book = Book()
        self.breaker = Breaker("part", CONFIG, self.book, clock=lambda: self.now)
        self.failed_in_a_row = 0
        self.since = 0.0  # of the opening, or of the claim
        self.rejections = 0

    @rule(seconds=st.sampled_from([0.4, 0.6, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_request_asks(self) -> None:
        before, waited = self.breaker.state, self.now - self.since
        admitted = self.breaker.admits()
        limit = {State.CLOSED: 0.0, State.OPEN: CONFIG.overdue_s, State.HALF_OPEN: CONFIG.lost_s}[before]
        assert admitted is (before is State.CLOSED or waited >= limit)
        self._claimed(before, admitted)
        self.rejections += not admitted

    @rule()
    def a_probe_asks(self) -> None:
        before, waited = self.breaker.state, self.now - self.since
        limit = {State.CLOSED: 0.0, State.OPEN: CONFIG.rest_s, State.HALF_OPEN: CONFIG.lost_s}[before]
        admitted = self.breaker.probes()
        assert admitted is (before is State.CLOSED or waited >= limit)
        self._claimed(before, admitted)

    def _claimed(self, before: State, admitted: bool) -> None:
        if admitted and before is not State.CLOSED:
            assert self.breaker.state is State.HALF_OPEN
            self.since = self.now

    @rule()
    def the_part_answers(self) -> None:
        before = self.breaker.state
        self.breaker.answered()
        assert self.breaker.state is (State.OPEN if before is State.OPEN else State.CLOSED)
        if before is not State.OPEN:
            self.failed_in_a_row = 0

    @rule()
    def the_part_fails(self) -> None:
        before = self.breaker.state
        self.breaker.failed("gone")
        self.failed_in_a_row += 1
        opens = before is State.HALF_OPEN or (before is State.CLOSED and self.failed_in_a_row >= CONFIG.failures)
        assert self.breaker.state is (State.OPEN if opens else before)
        if opens:
            self.since = self.now

    @precondition(lambda self: self.breaker.state is State.HALF_OPEN and self.now - self.since < CONFIG.lost_s)
    @rule()
    def while_one_asks_nobody_else_may(self) -> None:
        assert not self.breaker.probes()
        assert not self.breaker.admits()
        self.rejections += 1

    @invariant()
    def every_state_is_told_once_and_every_rejection(self) -> None:
        told = self.book.states
        assert told[-1] is self.breaker.state
        assert all(one is not after for one, after in pairwise(told))
        assert self.book.rejections == self.rejections

    @invariant()
    def trouble_is_said_exactly_while_something_is_wrong(self) -> None:
        assert bool(self.breaker.trouble) is (self.failed_in_a_row > 0)


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def opened(breakers: Breakers, label: str, model: str) -> None:
    for _ in range(CONFIG.failures):
        breakers.of(label, model).failed(f"{model} is gone")


def test_a_canarys_breaker_leaves_the_stable_releases_alone() -> None:
    breakers = Breakers(config=CONFIG)
    opened(breakers, "canary", "ranker")
    assert not breakers.of("canary", "ranker").admits()
    assert breakers.of("stable", "ranker").admits()
    assert breakers.of("canary", "two_tower").admits()
    assert breakers.troubles == {"canary": "ranker is gone"}


def test_a_label_that_left_traffic_keeps_no_trouble() -> None:
    book = Book()
    breakers = Breakers(book, CONFIG)
    opened(breakers, "canary", "ranker")
    breakers.forget_others(["stable"])
    assert breakers.troubles == {}
    assert book.states[-1] is State.CLOSED
