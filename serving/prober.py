"""Asks the parts that are left alone whether they answer again, so that no request has to find out.

A probe is a request of nobody's: the same stages, time limits and number of candidates, but nothing is shown and logged.
While no part is left alone its thread sleeps.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

from events.clock import Clock
from serving.arms import Arm
from serving.attempt import FeedParts, Probing
from serving.breaker import State, Watch
from serving.feed import STABLE, FeedRequest
from serving.metrics import Metrics
from serving.pipeline import compose

LOOK_EVERY_S = 0.05  # while a part is left alone
TIDY_EVERY_S = 1.0  # while none is: labels that have left traffic keep no trouble
PAGE = 20  # items that are read again as a page's would be


class Alarm:
    """Rings when a breaker opens, and tells another watch everything."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.rung = threading.Event()

    def moved(self, part: str, state: State) -> None:
        """The breaker of that part is in another state now."""
        self._watch.moved(part, state)
        if state is not State.CLOSED:
            self.rung.set()

    def rejected(self, part: str) -> None:
        """A request went without that part."""
        self._watch.rejected(part)


class Prober:
    """Looks for breakers that are due, from a thread of its own, after `alarm`, which watches them, rang."""

    def __init__(self, parts: FeedParts, alarm: Alarm, *, clock: Clock, report: Callable[[str], None]) -> None:
        self._parts = replace(parts, metrics=Metrics())  # a probe counts as no request
        self._alarm = alarm
        self._clock = clock
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the probe at hand."""
        self._stop.set()
        self._alarm.rung.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        rung = self._alarm.rung
        while not self._stop.wait(LOOK_EVERY_S if rung.wait(TIDY_EVERY_S) else 0.0):
            rung.clear()  # before the look: a breaker that opens meanwhile rings again
            try:
                self.step()
            except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: without it nothing comes back
                self._report(f"probe: {failure!r}")
            if self._leaves_alone():
                rung.set()

    def _leaves_alone(self) -> bool:
        """Whether a part is left alone, and is therefore to be looked at again soon."""
        held = self._parts.model_breakers.labelled(self._labels())
        return self._parts.store_breaker.is_open or any(one.is_open for one in held)

    def _labels(self) -> set[str]:
        return {STABLE, *self._parts.background.retrievals}

    def step(self) -> None:
        """Probe each label of which a part is due."""
        parts = self._parts
        labels = self._labels()
        parts.model_breakers.forget_others(labels)
        for label in sorted(labels):
            if parts.store_breaker.is_due or any(one.is_due for one in parts.model_breakers.labelled({label})):
                self._probe(label)

    def _probe(self, label: str) -> None:
        attempt = Probing(self._parts, Arm(label=label))
        composed = compose(FeedRequest(request_id="probe", user_id="", now=self._clock.now()), attempt)
        page = [attempt.view.table.id_of[row] for row in composed.pool.rows[:PAGE].tolist()]
        attempt.store(lambda: self._parts.catalogue.recheck(page), dict)
