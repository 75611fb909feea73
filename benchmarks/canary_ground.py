"""What the canaries' drill stands on: parts that learned a release from a world, and that world, which plays on.

A stretch of world time says by arm what the proxy answered and what was true of it: the simulator's expected clicks of every
page as it was shown, so that the luck of clicks is gone from it.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import httpx

from benchmarks.result import BenchError
from events import schema as s
from events.clock import utc
from events.kafka import KafkaWriter
from registry.manifest import read_live, read_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import read_verdict
from release.deploy import deploy
from release.proxies import AdminProxy
from serving.feed import STABLE
from serving.tf_serving import TfServing
from settings import Settings
from simulator.config import WorldConfig
from simulator.feed import FeedItem, HttpFeed
from simulator.report import WorldReport
from simulator.truth import Truth
from simulator.world import World
from stack.demo.canary import Drive, materialise
from stack.demo.run import learn, wait_for_release
from stack.demo.stored import Stored

Say = Callable[[str], None]
MONTH = "2026-11"


@dataclass(frozen=True, kw_only=True)
class AuditDials:
    """An audit for a thousand viewers, its lines fixed between what so small a world does by itself and what is planted.

    Under an oracle in two other worlds of this kind a language's creators had 0.86 to 1.18 of the exposure that their merit
    would give them; the narrow ranker leaves its language the explored places, about 0.1. In a run with seed 11 the
    trained ranker left two languages at 0.76, having lost 0.20 and 0.24 below their merit: proved more than five points.
    """

    four_fifths: float = 0.5
    worsened: float = 0.3  # of a group's exposure, what it loses below its merit
    min_viewers: int = 50
    min_events: int = 30
    traffic_viewers: int = 100  # who met it says more than what it would have ordered; by default a month needs 10,000


@dataclass
class Stretch:
    """Some hours of the world: by arm the pages and items answered and the clicks to expect; by (arm, release) the pages."""

    begun: float  # epoch seconds of event time
    hours: float
    shown: Counter[str] = field(default_factory=Counter)
    expected: dict[str, float] = field(default_factory=dict)
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    report: WorldReport = field(default_factory=WorldReport)

    @property
    def lift(self) -> float | None:
        """The true lift of CTR, canary over stable; None without pages of both."""
        rates = [
            self.expected.get(arm, 0.0) / self.shown[arm] if self.shown[arm] else 0.0 for arm in ("canary", STABLE)
        ]
        return rates[0] / rates[1] - 1.0 if min(rates) > 0 else None

    def share(self, arm: str) -> float:
        """The arm's share of the pages answered."""
        return sum(n for (one, _), n in self.answered.items() if one == arm) / max(self.answered.total(), 1)

    def said(self) -> str:
        """In words."""
        lift = "not known" if self.lift is None else f"{self.lift:+.1%}"
        answered = ", ".join(f"{arm} by {name} {n}" for (arm, name), n in sorted(self.answered.items()))
        return f"lift of expected clicks {lift}; pages answered: {answered}"


class HeardFeed(HttpFeed):
    """The product's feed, heard by a judge who knows the world's truth."""

    def __init__(self, address: str, world: World, stretch: Stretch) -> None:
        super().__init__(address)
        self._world, self._truth, self._stretch = world, Truth(world), stretch
        self._arm = self._release = ""
        self._client.event_hooks["response"].append(self._hear)

    def _hear(self, answer: httpx.Response) -> None:
        self._arm, self._release = (answer.headers.get(f"x-livefeed-{name}", "") for name in ("arm", "release"))

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """The page, noted by arm with the clicks that it must be expected to bring."""
        page = super().ask(
            user_id, surface=surface, content_type=content_type, limit=limit, now=now, context_item_id=context_item_id
        )
        if not page:
            return page
        on = {thing.item_id: thing for item in page if (thing := self._world.thing(item.item_id)) is not None}
        outlook = self._truth.of(user_id, now, among=list(on.values()))
        seen, stretch = self._arm, self._stretch
        stretch.answered[seen, self._release] += 1
        stretch.shown[seen] += len(page)
        clicks = self._truth.page_value(outlook, [item.item_id for item in page if item.item_id in on], surface).clicks
        stretch.expected[seen] = stretch.expected.get(seen, 0.0) + clicks
        return page


class Ground:
    """Running parts and the world in front of them."""

    def __init__(self, settings: Settings, world: WorldConfig, *, say: Say) -> None:
        self.settings, self.say = settings, say
        self.drive = Drive(settings, say=say)
        self.made = settings.var / "candidates"
        self._world, self._stored = World(world), Stored(settings)
        self._registry = MlflowRegistry(settings.mlflow)
        self._trained = ""
        self._labelled_from = world.first_at.date()

    @property
    def release(self) -> Path:
        """The folder of the release that was trained; BenchError before there is one."""
        if not self._trained:
            raise BenchError("no release was trained yet")
        return self.settings.releases / self._trained

    @property
    def today(self) -> date:
        """The event date on which the world stands."""
        return utc(self._world.now - 1.0).date()

    def learn(self, hours: float) -> None:
        """Let the world explore for so long, then have Dagster train, judge and deploy."""
        explored = self.stretch(hours)
        self.say(f"explored: {explored.report.feed_requests} pages, click rate {explored.report.click_rate or 0:.1%}")
        figures = learn(self.settings, first=self._labelled_from, last=self.today, say=self.say)
        self._trained, self._labelled_from = str(figures["release"]), self.today
        wait_for_release(self.settings, self._trained, say=self.say)

    def stretch(self, hours: float) -> Stretch:
        """Play on; returns when everything that happened is stored. BenchError when a feed failed."""
        out = Stretch(self._world.now, hours)
        writer, feed = KafkaWriter(self.settings.kafka), HeardFeed(self.settings.proxy, self._world, out)
        try:
            out.report = self._world.advance(
                hours, writer, feed, settle=self._stored.settle, report=self._sixths(hours)
            )
        finally:
            feed.close()
            writer.close()
        if out.report.feed_errors:
            raise BenchError(f"{out.report.feed_errors} feeds failed, the first with: {out.report.first_error}")
        self._stored.wait()
        return out

    def _sixths(self, hours: float) -> Callable[[float], None]:
        """Says how far a stretch is, six times."""
        marks = [hours * share / 6 for share in range(1, 7)]

        def report(done: float) -> None:
            while marks and done >= marks[0]:
                self.say(f"   {marks.pop(0):.0f} of {hours:.0f} simulated hours")

        return report

    def next_version(self) -> int:
        """A version that no release has."""
        return self._registry.next_version(self.settings.line)

    def make_stable(self, make: Callable[[int], Path], *, line: str) -> None:
        """Deploy what `make` makes of the next version as stable, unless a release of that line is."""
        if read_live(self.settings.releases)[STABLE].startswith(f"{line}-"):
            return
        candidate, settings = make(self.next_version()), self.settings
        self._registry.register(candidate, read_manifest(candidate), {})
        deploy(
            candidate, read_verdict(candidate), releases=settings.releases, models=settings.models,
            server=TfServing(settings.model_server), registry=self._registry, report=lambda said: self.say(f"   {said}"),
            proxies=(AdminProxy(settings.admin, token=settings.admin_token),),
        )  # fmt: skip
        wait_for_release(settings, candidate.name, say=self.say)

    def audit(self, line: str, dials: AuditDials, *, against: str) -> None:
        """Have Dagster label what came since it last did, and audit the line's month beside another's."""
        span = ("--from", f"{self._labelled_from}", "--to", f"{self.today}")
        self._labelled_from = self.today
        config = json.dumps({"bias_audit": {"line": line, "against": against, **asdict(dials)}})
        for job, arguments in (
            ("learn", ("--only", "samples", *span)),
            ("audit", ("--partition", f"{MONTH}-01", "--config", config)),
        ):
            failure = materialise(self.settings, job, say=self.say, arguments=arguments)
            if failure:
                self.say(f"   Dagster's job {job} failed: {failure}")
