"""What a world did, counted: messages by topic, faults injected, feeds asked for and what viewers did with them."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class WorldReport:
    """Counts of one phase; phases add with `+`. `produced` has every message, duplicates and broken ones among them."""

    produced: Counter[str] = field(default_factory=Counter)  # messages by topic
    events: Counter[str] = field(default_factory=Counter)  # proper events by type, each once
    duplicates: int = 0
    late: int = 0
    broken: int = 0
    held: Counter[str] = field(default_factory=Counter)  # events held back or misdated, by fault
    lost: Counter[str] = field(default_factory=Counter)  # events that were never sent, by type
    hours: float = 0.0
    sessions: int = 0
    feed_requests: int = 0
    own_feeds: int = 0  # of these, answered by the world itself at random: they have no wall time
    feed_errors: int = 0
    feed_degraded: int = 0
    feed_empty: int = 0  # answered with nothing, each an event of the product's too
    feed_unknown: int = 0  # items of an answer that the world does not know, or rooms that were over
    feed_ms: list[float] = field(default_factory=list)  # wall milliseconds, one a request that the product answered
    first_error: str | None = None
    shown: int = 0  # items in the feeds
    clicks: int = 0
    closed_before_entry: int = 0  # clicks on rooms that were over by then
    breaks: int = 0  # sessions after which a viewer stays away for a while
    effective: int = 0  # rooms watched for 30 s and media played to the end, after a feed
    watch_s: float = 0.0  # seconds of play and of visits that a feed led to
    settle_s: float = 0.0  # wall seconds spent waiting for the product to catch up

    def __add__(self, other: "WorldReport") -> "WorldReport":
        """Both phases together."""
        total = WorldReport()
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            setattr(total, one.name, (mine or theirs) if one.name == "first_error" else mine + theirs)
        return total

    @property
    def messages(self) -> int:
        """All messages sent by the world, whatever the topic."""
        return self.produced.total()

    @property
    def click_rate(self) -> float | None:
        """Clicks per item shown; None when nothing was shown."""
        return self.clicks / self.shown if self.shown else None

    def feed_ms_at(self, quantile: float) -> float | None:
        """Wall milliseconds under which that share of the answered requests stayed (nearest rank); None without any."""
        if not self.feed_ms:
            return None
        ranked = sorted(self.feed_ms)
        return ranked[min(int(quantile * len(ranked)), len(ranked) - 1)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; the single request times become p50 and p99."""
        out = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "feed_ms"}
        out = {name: dict(value) if isinstance(value, Counter) else value for name, value in out.items()}
        return out | {
            "messages": self.messages, "click_rate": self.click_rate, "feed_p50_ms": self.feed_ms_at(0.5),
            "feed_p99_ms": self.feed_ms_at(0.99),
        }  # fmt: skip
