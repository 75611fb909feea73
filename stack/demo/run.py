"""The demo's main path: parts up, events in, learn, deploy, events again, a feed as a table, a summary as JSON."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from events.kafka import KafkaWriter
from monitoring.errors import MonitoringError
from registry.errors import RegistryError
from release.errors import ReleaseError
from settings import Settings
from simulator.config import WorldConfig
from stack.demo.canary import HOURS, Ended, canary_figures, wrong_sign
from stack.demo.child import follow
from stack.demo.source import DatasetSource, Played, Source, WorldSource
from stack.demo.steps import Say, Steps
from stack.demo.stored import Ledger, Stored, until
from stack.demo.table import show_feed
from stack.errors import StackError
from stack.parts import Parts

PARTS = ("kafka", "redis", "mlflow", "model-server", "collector", "proxy")
SUMMARY = "summary.json"


class DemoFailed(StackError):
    """A stage of the demo did not do what it is for; the message says which and what was seen."""


@dataclass(frozen=True)
class DemoConfig:
    """Dials of a demo."""

    dataset: str = ""  # empty: the simulated world
    path: Path | None = None  # folder of the data set
    seed: int = 7
    viewers: int = 1800
    hours_before: float = 42.0  # simulated hours the first model learns from
    hours_after: float = 4.0  # simulated hours it serves
    requests: int = 200  # feeds asked for after a data set was replayed


def demo_settings(settings: Settings, dataset: str = "") -> Settings:
    """The demo keeps its state apart, in `<var>/demo` or `<var>/<data set>`, and takes now from the request."""
    changes: dict[str, object] = {
        "var": settings.var / (dataset or "demo"),
        "clock": "request",
        "commit_every_s": 2.0,
        "request_budget_ms": 1000.0,
    }
    if dataset == "movielens":
        changes |= {"partitions_start": date(1997, 9, 1), "partitions_end": date(1998, 5, 1), "line": "movielens"}
    if dataset == "kuairand":
        changes |= {"partitions_start": date(2022, 4, 1), "partitions_end": date(2022, 5, 1), "line": "kuairand"}
    return settings.model_copy(update=changes)


def _source(config: DemoConfig) -> Source:
    if config.dataset:
        if config.path is None:
            raise DemoFailed(f"the data set {config.dataset} needs --path, the folder that holds it")
        return DatasetSource(config.dataset, config.path, requests=config.requests)
    world = WorldConfig(
        seed=config.seed,
        viewers=config.viewers,
        duplicate_share=0.01,
        late_share=0.002,
        broken_share=0.002,
    )
    return WorldSource(world, hours_before=config.hours_before, hours_after=config.hours_after)


def run_demo(settings: Settings, config: DemoConfig, *, say: Say) -> dict[str, Any]:
    """Run every stage on fresh state under `settings.var` and return (and write) the summary."""
    source, steps = _source(config), Steps(say)
    settings.var.mkdir(parents=True, exist_ok=True)
    with Parts(settings) as parts:
        with steps.step("parts", "starting the real parts: Kafka, Redis, MLflow, model server, collector, proxy"):
            parts.up(PARTS, report=lambda line: say(f"   {line}"))
        stored = Stored(settings)
        writer = KafkaWriter(settings.kafka)
        with steps.step("events", "events in, through Kafka; until there is a model the feed explores and trends"):
            before = source.before(writer, proxy=settings.proxy, settle=stored.settle, say=say)
        with steps.step("stored", "waiting until the collector has stored them all"):
            stored.wait()
        with steps.step("learn", "the Dagster graph: feature tables, samples, both models, verdict, deployment"):
            learned = learn(settings, first=before.first_day, last=before.last_day, say=say)
        with steps.step("serve", "events again; the feed answers from the model"):
            wait_for_release(settings, learned["release"], say=say)
            after = source.after(writer, proxy=settings.proxy, settle=stored.settle, say=say)
        with steps.step("close", "impressions of these feeds come back as events"):
            writer.close()
            ledger = stored.wait()
        feed = ask(settings, after.viewers[0], now=after.now)
        tried: Ended | None = None
        if isinstance(source, WorldSource):  # nobody answers the feeds of a data set
            with steps.step(
                "canary", f"a canary: {HOURS} hours with half of the viewers on a formula of the wrong sign"
            ):
                tried = try_canary(settings, learned["release"], source, stored, say=say)
        summary = _summary(ledger, before, after, learned, steps.seconds) | {"canary": canary_figures(tried)}
        (settings.var / SUMMARY).write_text(json.dumps(summary, indent=2), encoding="utf-8")
    show_feed(feed)
    if tried is not None:
        say(tried.line)
    _insist(ledger, before, after, feed)
    return summary


def try_canary(settings: Settings, release: str, source: WorldSource, stored: Stored, *, say: Say) -> Ended:
    """The world plays on while half of its viewers are shown a canary; decided by Dagster at the end."""
    writer = KafkaWriter(settings.kafka)

    def play(hours: float) -> None:
        source.more(hours, writer, proxy=settings.proxy, settle=stored.settle, say=say)
        stored.wait()

    try:
        return wrong_sign(settings, release, play=play, say=say)
    except (ReleaseError, RegistryError, MonitoringError) as error:
        raise DemoFailed(f"the canary could not be tried: {error}") from None
    finally:
        writer.close()


def learn(settings: Settings, *, first: date, last: date, say: Say) -> dict[str, Any]:
    """Materialise the asset graph over the days in a process of its own (TensorFlow and Spark go with it)."""
    with tempfile.TemporaryDirectory() as scratch:
        figures = Path(scratch) / "figures.json"
        command = [sys.executable, "-m", "dagster_project", "run", "--from", f"{first}", "--to", f"{last}"]
        process = subprocess.Popen(
            [*command, "--summary", str(figures)],
            env={**os.environ, **settings.environment()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines = follow(process, say)
        if process.returncode:
            raise DemoFailed(f"the pipeline failed: {lines[-1] if lines else f'exit status {process.returncode}'}")
        found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        return found


def wait_for_release(settings: Settings, release: str, *, say: Say, timeout_s: float = 30.0) -> None:
    """Until the proxy answers from that release; DemoFailed when it does not in time."""

    def serves() -> bool:
        return str(httpx.get(f"{settings.proxy}/readyz", timeout=5.0).json().get("release")) == release

    if not until(serves, timeout_s=timeout_s):
        raise DemoFailed(f"the proxy did not take up release {release} within {timeout_s:.0f} s")
    say(f"   the proxy serves release {release}")


def ask(settings: Settings, user_id: str, *, now: float, limit: int = 10) -> dict[str, Any]:
    """One viewer's feed, as the proxy answers it."""
    answer = httpx.get(
        f"{settings.proxy}/api/v1/content/feed",
        params={"user_id": user_id, "limit": limit},
        headers={"X-Livefeed-Now": f"{now:.3f}"},
        timeout=10.0,
    )
    answer.raise_for_status()
    page: dict[str, Any] = answer.json()
    return page


def _summary(
    ledger: Ledger, before: Played, after: Played, learned: Mapping[str, Any], seconds: Mapping[str, float]
) -> dict[str, Any]:
    figures, served, samples = learned["assets"]["candidate"], after.report, learned["assets"]["samples"]
    return {
        "events_produced": ledger.produced,
        "events_stored": ledger.stored,
        "duplicates": ledger.duplicates,
        "late": ledger.late,
        "dead_letters": ledger.dead_letters,
        "impressions": ledger.impressions,
        "samples": samples["rows"],
        "join_rate": samples["join_rate"],
        "retrieval": {name: value for name, value in figures.items() if "recall_at" in name},
        "ranking": {"auc": _by_objective(figures, "auc_"), "baseline_auc": _by_objective(figures, "baseline_auc_")},
        "verdict": learned["verdict"],
        "feed": {
            "requests": before.report.feed_requests + served.feed_requests,
            "errors": before.report.feed_errors + served.feed_errors,
            "p50_ms": served.feed_ms_at(0.5),
            "p99_ms": served.feed_ms_at(0.99),
            "degraded_after_deployment": served.feed_degraded,
            "click_rate_before": before.report.click_rate,
            "click_rate_after": served.click_rate,
        },
        "model": {"name": learned["release"], "version": int(str(learned["release"]).rsplit("-", 1)[1])},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1), "learn_by_asset": learned["seconds"]},
        "viewers": after.viewers[:200],
        "now": after.now,
    }


def _by_objective(figures: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)}


def _insist(ledger: Ledger, before: Played, after: Played, feed: Mapping[str, Any]) -> None:
    """What must be true of any demo, or it fails."""
    expected = ledger.produced - ledger.duplicates - ledger.dead_letters
    if ledger.stored != expected:
        raise DemoFailed(f"{ledger.stored} events are stored and {expected} should be: the accounts do not agree")
    errors = before.report.feed_errors + after.report.feed_errors
    if errors:
        raise DemoFailed(
            f"{errors} feed requests failed, the first with: {after.report.first_error or before.report.first_error}"
        )
    if not feed["items"] or feed["degraded"]:
        raise DemoFailed(
            f"the last feed has {len(feed['items'])} items and was degraded by {feed['degraded'] or 'nothing'}"
        )
