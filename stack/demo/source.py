"""Where the demo's events come from: a simulated world that asks the proxy for feeds, or a real data set replayed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from events import datasets
from events.log import EventWriter
from events.replay import Report, replay
from events.schema import Impression, Surface
from simulator.config import WorldConfig
from simulator.errors import FeedFailed
from simulator.feed import HttpFeed
from simulator.report import WorldReport
from simulator.world import World
from stack.demo.steps import Say

Settle = Callable[[float], None]


@dataclass
class Played:
    """What a source did: the days its events lie on, messages sent, feeds asked for, and who to show a feed to."""

    first_day: date
    last_day: date
    now: float  # epoch seconds, event time: where the source stands
    messages: int
    viewers: list[str]
    report: WorldReport = field(default_factory=WorldReport)


class Source(Protocol):
    """Plays events before there is a model, and again once there is one."""

    def before(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Everything the first model learns from."""
        ...

    def after(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """What happens while the model serves."""
        ...


class WorldSource:
    """The simulator: viewers, hosts and media whose truth is known; faults are on, so that the collector has work."""

    def __init__(self, config: WorldConfig, *, hours_before: float, hours_after: float) -> None:
        self._world, self._hours = World(config), (hours_before, hours_after)

    def before(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Play the first hours; the proxy answers from trending."""
        return self._play(self._hours[0], writer, proxy, settle, say)

    def after(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Play on; the proxy answers from the model."""
        return self._play(self._hours[1], writer, proxy, settle, say)

    def more(self, hours: float, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Play so many hours on."""
        return self._play(hours, writer, proxy, settle, say)

    def _play(self, hours: float, writer: EventWriter, proxy: str, settle: Settle, say: Say) -> Played:
        marks = [hours * share / 4 for share in (1, 2, 3, 4)]

        def report(done: float) -> None:
            while marks and done >= marks[0]:
                say(f"   {marks.pop(0):.0f} of {hours:.0f} simulated hours")

        feed = HttpFeed(proxy)
        try:
            done = self._world.advance(hours, writer, feed, report=report, settle=settle)
        finally:
            feed.close()
        active = sorted(self._world.viewers, key=lambda user: (-len(self._world.memories[user].watches), user))
        last = datetime.fromtimestamp(self._world.now - 1, UTC).date()
        return Played(self._world.config.first_at.date(), last, self._world.now, done.messages, active, done)


class DatasetSource:
    """A real data set replayed through Kafka as fast as it goes; afterwards its viewers ask for feeds at its end."""

    def __init__(self, name: str, path: Path, *, requests: int) -> None:
        self._name, self._path, self._requests = name, path, requests
        self._played: Played | None = None

    def before(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Replay everything."""
        events = list(datasets.read(self._name, self._path))
        sent = replay(events, writer, speed=None, report=_quarters(len(events), say))
        viewers = sorted({event.user_id for event in events if isinstance(event, Impression)})
        last = events[-1].event_at
        self._played = Played(events[0].event_at.date(), last.date(), last.timestamp(), sent, viewers)
        settle(last.timestamp())
        return self._played

    def after(self, writer: EventWriter, *, proxy: str, settle: Settle, say: Say) -> Played:
        """Ask for feeds an hour after the last event; nobody answers them, so nothing is clicked."""
        if self._played is None:
            raise RuntimeError("after() follows before()")
        now = self._played.now + timedelta(hours=1).total_seconds()
        report = _ask_feeds(proxy, self._played.viewers, now=now, requests=self._requests)
        day = datetime.fromtimestamp(now, UTC).date()
        return Played(self._played.first_day, day, now, 0, self._played.viewers, report)


def _quarters(total: int, say: Say) -> Report:
    """Says how far a replay of `total` events is, four times."""
    marks = [total * share // 4 for share in (1, 2, 3, 4)]

    def report(sent: int, at: datetime) -> None:
        while marks and sent >= marks[0]:
            marks.pop(0)
            say(f"   {sent:,} of {total:,} events, up to {at:%Y-%m-%d}")

    return report


def _ask_feeds(proxy: str, viewers: Sequence[str], *, now: float, requests: int) -> WorldReport:
    """One feed each for `requests` viewers in turn, timed."""
    report, feed = WorldReport(), HttpFeed(proxy)
    try:
        for number in range(requests):
            user, begun = viewers[number % len(viewers)], time.perf_counter()
            report.feed_requests += 1
            try:
                page = feed.ask(user, surface=Surface.HOME, content_type=None, limit=20, now=now)
            except FeedFailed as error:
                report.feed_errors += 1
                report.first_error = report.first_error or str(error)
                continue
            report.feed_ms.append((time.perf_counter() - begun) * 1e3)
            report.shown += len(page)
            report.feed_degraded += any(item.degraded for item in page)
    finally:
        feed.close()
    return report
