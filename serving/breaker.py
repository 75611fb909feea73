"""Stops asking a part that does not answer: requests then cost nothing instead of its whole time limit.

closed --failures in a row--> open --a rest, then one asks--> half open --answer--> closed, --failure--> open.
Whoever may ask says afterwards how it went; who did not (its thread died) loses the claim after a while.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class State(IntEnum):
    """How a part is treated: asked, asked by one, left alone; the numbers are the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True)
class BreakerConfig:
    """When a part is left alone, and for how long."""

    failures: int = 3  # in a row
    rest_s: float = 0.2  # until a probe that no request pays for
    overdue_s: float = 0.5  # until a request asks because nobody else did
    lost_s: float = 10.0  # until a claim counts as lost: longer than anybody waits for an answer


class Watch(Protocol):
    """Who is told of what breakers do."""

    def moved(self, part: str, state: State) -> None:
        """The breaker of that part is in another state now."""
        ...

    def rejected(self, part: str) -> None:
        """A request went without that part."""
        ...


class Unwatched:
    """Nobody is told."""

    def moved(self, part: str, state: State) -> None:
        """Nothing."""

    def rejected(self, part: str) -> None:
        """Nothing."""


DEFAULT = BreakerConfig()
UNWATCHED = Unwatched()


@dataclass
class Breaker:
    """One part's breaker; safe among threads."""

    part: str = ""
    config: BreakerConfig = DEFAULT
    watch: Watch = UNWATCHED
    clock: Callable[[], float] = lambda: time.monotonic()
    state: State = State.CLOSED
    trouble: str = ""  # what the last failure said; empty since the last answer
    _failed: int = 0
    _since: float = 0.0  # when it opened, or when the claim under way was made
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """The metric is there from the start."""
        self.watch.moved(self.part, self.state)

    @property
    def is_open(self) -> bool:
        """Whether the part is left alone, but for probes."""
        return self.state is not State.CLOSED

    @property
    def is_due(self) -> bool:
        """Whether a probe would be let through now, and is needed."""
        return self.state is not State.CLOSED and self._rested(self.config.rest_s)

    def admits(self) -> bool:
        """Whether a request may ask now; then `answered` or `failed` must follow."""
        with self._lock:
            if self.state is State.CLOSED or self._claimed(self.config.overdue_s):
                return True
        self.watch.rejected(self.part)
        return False

    def probes(self) -> bool:
        """Whether a probe may ask now; then `answered` or `failed` must follow."""
        with self._lock:
            return self.state is State.CLOSED or self._claimed(self.config.rest_s)

    def answered(self) -> None:
        """The part answered; what was asked before it was left alone proves nothing."""
        with self._lock:
            if self.state is not State.OPEN:
                self._failed, self.trouble = 0, ""
                self._move(State.CLOSED)

    def failed(self, trouble: str) -> None:
        """The part did not answer, or answered what cannot be used."""
        with self._lock:
            self.trouble = trouble
            self._failed += 1
            if self.state is State.HALF_OPEN or (self.state is State.CLOSED and self._failed >= self.config.failures):
                self._since = self.clock()
                self._move(State.OPEN)

    def _rested(self, rest_s: float) -> bool:
        return self.clock() - self._since >= (rest_s if self.state is State.OPEN else self.config.lost_s)

    def _claimed(self, rest_s: float) -> bool:
        if not self._rested(rest_s):
            return False
        self._since = self.clock()
        self._move(State.HALF_OPEN)
        return True

    def _move(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.watch.moved(self.part, state)


class Breakers:
    """One breaker a label and model: a canary whose models fail must not take the stable release's away."""

    def __init__(self, watch: Watch = UNWATCHED, config: BreakerConfig = DEFAULT) -> None:
        self._watch, self._config = watch, config
        self._held: dict[tuple[str, str], Breaker] = {}
        self._lock = threading.Lock()

    def of(self, label: str, model: str) -> Breaker:
        """The breaker of a label's model."""
        found = self._held.get((label, model))
        if found is None:
            with self._lock:
                found = self._held.get((label, model)) or Breaker(f"{model}/{label}", self._config, self._watch)
                self._held[label, model] = found
        return found

    def labelled(self, labels: Collection[str]) -> Iterator[Breaker]:
        """The breakers there are of those labels."""
        return (held for (label, _), held in sorted(self._held.items()) if label in labels)

    def forget_others(self, labels: Iterable[str]) -> None:
        """Labels that are no longer in traffic keep no trouble."""
        kept = set(labels)
        with self._lock:
            for key in [one for one in self._held if one[0] not in kept]:
                self._watch.moved(self._held.pop(key).part, State.CLOSED)

    @property
    def troubles(self) -> dict[str, str]:
        """What the last failures of each label said, for those that have not answered since."""
        said: dict[str, list[str]] = {}
        for (label, _), held in sorted(self._held.items()):
            if held.trouble:
                said.setdefault(label, []).append(held.trouble)
        return {label: "; ".join(dict.fromkeys(found)) for label, found in said.items()}
