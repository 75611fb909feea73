"""Waits for the product to catch up with the world, by reading the collector's metrics page over HTTP."""

import re
import time
from collections.abc import Callable

import httpx

from simulator.errors import NotSettled

WATERMARK = re.compile(r"^livefeed_collector_watermark_seconds (\S+)$", re.MULTILINE)
FLUSHES = re.compile(r"^livefeed_collector_flushes_total (\S+)$", re.MULTILINE)
POLL_S = 0.05
FLUSH_WITHIN_S = 1.0  # a collector that read everything writes it to the online store within this


class CollectorSettled:
    """A `Settle` for a world: the collector's watermark has reached the time, and one more flush was made since."""

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 60.0,
        client: httpx.Client | None = None,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address, self._timeout_s, self._timer, self._sleep = address, timeout_s, timer, sleep
        self._client = client or httpx.Client(timeout=10.0, trust_env=False)

    def __call__(self, at: float) -> None:
        """Return when events up to epoch second `at` are in the online store; NotSettled when they are not in time."""
        begun = self._timer()
        while (watermark := self._read()[0]) is None or watermark < at:
            if self._timer() - begun > self._timeout_s:
                raise NotSettled(
                    f"the collector at {self._address} has not read the world's events after {self._timeout_s:g} s"
                )
            self._sleep(POLL_S)
        flushes, reached = self._read()[1], self._timer()
        while self._read()[1] == flushes and self._timer() - reached < FLUSH_WITHIN_S:
            self._sleep(POLL_S)

    def _read(self) -> tuple[float | None, float | None]:
        try:
            page = self._client.get(f"{self._address}/metrics").raise_for_status().text
        except httpx.HTTPError as error:
            raise NotSettled(f"the collector's metrics at {self._address} did not answer: {error}") from None
        watermark, flushes = (found and float(found[1]) for found in (WATERMARK.search(page), FLUSHES.search(page)))
        return watermark, flushes
