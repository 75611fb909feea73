"""Asks the parts that are left alone whether they answer again, so that no request has to find out.

A probe is a request of nobody's: the same stages, time limits and number of candidates, but nothing is shown and logged.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

from events.clock import Clock
from serving.arms import Arm
from serving.attempt import FeedParts, Probing
from serving.feed import STABLE, FeedRequest
from serving.metrics import Metrics
from serving.pipeline import compose

LOOK_EVERY_S = 0.05
PAGE = 20  # items that are read again as a page's would be


class Prober:
    """Looks for breakers that are due, from a thread of its own."""

    def __init__(self, parts: FeedParts, *, clock: Clock, report: Callable[[str], None]) -> None:
        self._parts = replace(parts, metrics=Metrics())  # a probe counts as no request
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
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.step()
            except Exception as failure:  # noqa: BLE001  the thread's outermost boundary: without it nothing comes back
                self._report(f"probe: {failure!r}")

    def step(self) -> None:
        """Probe each label of which a part is due."""
        parts = self._parts
        labels = {STABLE, *parts.background.retrievals}
        parts.model_breakers.forget_others(labels)
        for label in sorted(labels):
            if parts.store_breaker.is_due or any(one.is_due for one in parts.model_breakers.labelled({label})):
                self._probe(label)

    def _probe(self, label: str) -> None:
        attempt = Probing(self._parts, Arm(label=label))
        composed = compose(FeedRequest(request_id="probe", user_id="", now=self._clock.now()), attempt)
        page = [attempt.view.table.id_of[row] for row in composed.pool.rows[:PAGE].tolist()]
        attempt.store(lambda: self._parts.catalogue.recheck(page), dict)
