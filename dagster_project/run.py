"""Materialise the whole asset graph in this process, with progress, into the instance that the web page shows."""

import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
from dagster import DagsterEventType as Type
from dagster import DagsterInstance, EventLogEntry

from dagster_project.checks import CHECKS
from dagster_project.errors import UnknownDays
from dagster_project.jobs import range_tags
from dagster_project.partitions import EVENT_DAYS

POLL_S = 0.3
SKIPPED = "Dependencies for step"  # how Dagster begins its lines about what a failure left out
CHECK_STEPS = frozenset(check.node_def.name for check in CHECKS)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Report = Callable[[str], None]
Figures = dict[str, Any]


@dataclass(frozen=True)
class CheckSaid:
    """The result of one asset check; one that did not pass and does not block could not decide."""

    asset: str
    name: str
    passed: bool
    sentence: str
    blocks: bool = True


@dataclass(frozen=True)
class Learned:
    """One run over the graph: what every asset reported, its seconds, the checks, and the sentence of a failure."""

    run_id: str
    assets: Mapping[str, Figures]
    seconds: Mapping[str, float]
    checks: tuple[CheckSaid, ...]
    failure: str  # empty when everything was materialised

    @property
    def succeeded(self) -> bool:
        """True when every asset was materialised and every check passed."""
        return not self.failure


def learn_range(
    job: dg.JobDefinition, instance: DagsterInstance, *, first: date, last: date, seed: int, report: Report
) -> Learned:
    """Run the job for the event dates `first` to `last`, both included; UnknownDays when they are not partitions."""
    refuse_unknown_days(first, last)
    run_id = str(uuid.uuid4())
    with _followed(instance, run_id, report):
        result = job.execute_in_process(
            run_config=QUIET | _training(seed),
            instance=instance,
            run_id=run_id,
            tags=range_tags(first.isoformat(), last.isoformat()),
            raise_on_error=False,
        )
    return learned(run_id, result.all_events)


def learned(run_id: str, events: Sequence[dg.DagsterEvent]) -> Learned:
    """What a finished run's events say."""
    assets: dict[str, Figures] = {}
    seconds: dict[str, float] = {}
    checks: list[CheckSaid] = []
    for event in events:
        if event.event_type is Type.ASSET_MATERIALIZATION and event.asset_key:
            assets[event.asset_key.to_user_string()] = _figures(event.materialization.metadata)
        elif event.event_type is Type.STEP_SUCCESS and event.step_key:
            seconds[event.step_key] = round(event.step_success_data.duration_ms / 1000, 3)
        elif event.event_type is Type.ASSET_CHECK_EVALUATION:
            said = event.asset_check_evaluation_data
            checks.append(
                CheckSaid(
                    said.asset_key.to_user_string(), said.check_name, said.passed, said.description or "", _blocks(said)
                )
            )
    return Learned(run_id, assets, seconds, tuple(checks), _failure(events, checks))


def refuse_unknown_days(first: date, last: date) -> None:
    """Both days must be partitions, in order."""
    if last < first:
        raise UnknownDays(f"the last day {last} comes before the first, {first}")
    keys = EVENT_DAYS.get_partition_keys()
    for day in (first, last):
        if day.isoformat() not in keys:
            known = f"{keys[0]} to {keys[-1]}" if keys else "none"
            raise UnknownDays(
                f"{day} is not a daily partition; allowed are {known} "
                "(LIVEFEED_PARTITIONS_START and LIVEFEED_PARTITIONS_END set them)"
            )


def _training(seed: int) -> dict[str, Any]:
    return {"ops": {name: {"config": {"seed": seed}} for name in ("candidate", "verdict")}}


def _blocks(said: dg.AssetCheckEvaluation) -> bool:
    return said.severity is dg.AssetCheckSeverity.ERROR


def _failure(events: Sequence[dg.DagsterEvent], checks: Sequence[CheckSaid]) -> str:
    """One sentence for the first thing that failed; empty when nothing did."""
    for said in checks:
        if not said.passed and said.blocks:
            return f"asset check {said.name} of {said.asset} failed: {said.sentence}"
    for event in events:
        if event.event_type is Type.STEP_FAILURE:
            return f"asset {event.step_key} failed: {_root_cause(event)}"
    if any(event.event_type is Type.RUN_FAILURE for event in events):
        return "the run failed before its first asset; its log in Dagster says why"
    return ""


def _root_cause(event: dg.DagsterEvent) -> str:
    """The message of the innermost error, without its class name."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "it gave no reason"
    return re.sub(r"^[\w.]+: ", "", (error.message.strip().splitlines() or [error.cls_name or "it gave no reason"])[0])


@contextmanager
def _followed(instance: DagsterInstance, run_id: str, report: Report) -> Iterator[None]:
    """Report the run's events while it runs, from a thread that reads its log."""
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(instance, run_id, report, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(instance: DagsterInstance, run_id: str, report: Report, done: threading.Event) -> None:
    cursor, last = None, False
    while not last:
        last = done.wait(POLL_S)
        connection = instance.get_records_for_run(run_id, cursor=cursor)
        cursor = connection.cursor
        for record in connection.records:
            if line := progress_line(record.event_log_entry):
                report(line)


def progress_line(entry: EventLogEntry) -> str:
    """What a person should see of a log entry; empty for the rest."""
    event = entry.dagster_event
    if event is None:
        wanted = int(entry.level) >= logging.INFO and not entry.user_message.startswith(SKIPPED)
        return f"  {entry.step_key}: {entry.user_message}" if wanted else ""
    if event.step_key in CHECK_STEPS and event.event_type is not Type.ASSET_CHECK_EVALUATION:
        return ""
    match event.event_type:
        case Type.STEP_START:
            return f"{event.step_key}: started"
        case Type.STEP_SUCCESS:
            return f"{event.step_key}: done in {event.step_success_data.duration_ms / 1000:.1f} s"
        case Type.STEP_FAILURE:
            return f"{event.step_key}: failed"
        case Type.ASSET_CHECK_EVALUATION:
            said = event.asset_check_evaluation_data
            word = "passed" if said.passed else "FAILED" if _blocks(said) else "undecided"
            return f"  check {said.check_name}: {word}: {said.description or ''}"
        case _:
            return ""


def _figures(metadata: Mapping[str, dg.MetadataValue[Any]]) -> Figures:
    """Numbers, words and tables of a materialisation; pictures stay in Dagster."""
    out: Figures = {}
    for name, value in metadata.items():
        if isinstance(value, dg.TableMetadataValue):
            out[name] = [dict(record.data) for record in value.records]
        elif not isinstance(value, dg.MarkdownMetadataValue):
            out[name] = value.value
    return out
