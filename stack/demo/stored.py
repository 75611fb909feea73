"""What became of every message: waits for the collector, then holds the broker's count against the tables' and its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pyarrow.compute as pc
from prometheus_client.parser import text_string_to_metric_families

from collector.config import COLLECTED
from collector.lag import wait_until_stored
from dagster_project.stored import stored_figures
from events.dead_letters import read_dead_letters
from events.kafka import end_offsets
from events.topics import IMPRESSION, IMPRESSIONS, TOPICS
from features.redis import RedisStore
from features.tables import DeltaTables
from settings import Settings
from stack.errors import StackError

POLL_S = 0.02
SETTLE_S = 60.0  # wall seconds the online store may need for one tick of the world
STORED_S = 300.0


@dataclass(frozen=True)
class Ledger:
    """Three independent counts: the broker's messages, the tables' rows, the collector's own outcomes."""

    produced: int
    stored: int
    duplicates: int
    late: int
    dead_letters: int
    impressions: int


def until(true: Callable[[], bool], *, timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Poll until `true()` holds; False when it did not in time."""
    ends_at = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > ends_at:
            return False
        time.sleep(poll_s)
    return True


class Stored:
    """Watches the collector from outside."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RedisStore(settings.redis)

    def settle(self, at: float) -> None:
        """Return when the online store has applied everything that is in the log now."""
        ends = end_offsets(self._settings.kafka, COLLECTED)

        def applied() -> bool:
            progress = self._store.progress()
            return all(progress.get(place, 0) >= end for place, end in ends.items() if end)

        if not until(applied, timeout_s=SETTLE_S):
            raise StackError(f"the collector did not apply what was sent within {SETTLE_S:.0f} s; see its log")

    def wait(self) -> Ledger:
        """Wait until both stores have everything, and count."""
        settings = self._settings
        tables = DeltaTables(settings.lake)
        wait_until_stored(settings.kafka, tables, store=self._store, timeout_s=STORED_S)
        figures = stored_figures(tables, read_dead_letters(settings.kafka))
        outcomes = self._outcomes()
        return Ledger(
            produced=sum(end_offsets(settings.kafka, list(TOPICS)).values()),
            stored=figures.rows,
            duplicates=outcomes["duplicate"],
            late=outcomes["late"],
            dead_letters=outcomes["dead_letter"],
            impressions=tables.read(
                TOPICS[IMPRESSIONS].table, columns=["event_id"], where=pc.field("type") == IMPRESSION
            ).num_rows,
        )

    def _outcomes(self) -> dict[str, int]:
        """The collector's own counts from its metrics page."""
        page = httpx.get(f"http://{self._settings.host}:{self._settings.metrics_port}/metrics", timeout=10.0).text
        counts = dict.fromkeys(("duplicate", "late", "dead_letter"), 0)
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "livefeed_collector_events_total" and sample.labels["outcome"] in counts:
                    counts[sample.labels["outcome"]] += int(sample.value)
        return counts
