"""What the collector counts, by topic and by partition; metrics.py shows it to Prometheus."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from events.log import Place

Outcome = Literal["stored", "late", "duplicate", "dead_letter", "erased"]


@dataclass
class Report:
    """Counts since this process started; an event is counted when its place is committed, so a re-read counts once."""

    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)  # "late" events are also "stored"
    applied: int = 0  # events folded into online records
    lag: dict[Place, int] = field(default_factory=dict)  # messages not committed yet, at the last commit
    commits: int = 0
    commit_s: float = 0.0  # seconds spent in commits, all together
    flushes: int = 0
    flush_s: float = 0.0
    retries: int = 0  # times that a store or the log did not answer
    watermark: float | None = None

    def total(self, outcome: Outcome) -> int:
        """How many events had this outcome, all topics together."""
        return sum(count for (_, kind), count in self.outcomes.items() if kind == outcome)
