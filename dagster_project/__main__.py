"""`livefeed pipeline run --from DAY --to DAY` (also `python -m dagster_project run ...`): the whole graph in this process."""

import json
import os
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from dagster_project.run import Learned

app = typer.Typer(help="The asset graph: from stored events to a deployed release.")
console = Console(soft_wrap=True)
DAY = ["%Y-%m-%d"]


@app.callback()
def pipeline() -> None:
    """The asset graph; Dagster's web page shows every run of it."""


@app.command()
def run(
    first: Annotated[datetime, typer.Option("--from", formats=DAY, help="First event date.")],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, help="Last event date, included.")],
    summary: Annotated[Path | None, typer.Option(help="File for the run's figures as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of training and of the gate's intervals.")] = 1,
) -> None:
    """Materialise every asset for those days; exit 1 naming the asset or check that stopped it."""
    try:
        settings = load()
    except SettingsError as error:
        raise _sentence(str(error)) from None
    learned = _learn(settings, first.date(), last.date(), seed=seed)
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(json.dumps(figures_of(learned, first.date(), last.date()), indent=2), encoding="utf-8")
    _show(learned)
    if not learned.succeeded:
        raise _sentence(learned.failure)


def figures_of(learned: "Learned", first: date, last: date) -> dict[str, Any]:
    """The figures of a run, ready for JSON; parts of the graph that were not reached are absent."""
    assets = learned.assets
    return {
        "run_id": learned.run_id,
        "succeeded": learned.succeeded,
        "failure": learned.failure or None,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "seconds": dict(learned.seconds),
        "assets": dict(assets),
        "checks": [
            {"asset": said.asset, "name": said.name, "passed": said.passed, "sentence": said.sentence}
            for said in learned.checks
        ],
        "verdict": assets.get("verdict", {}).get("outcome"),
        "release": assets.get("deployment", {}).get("release"),
    }


def _learn(settings: Settings, first: date, last: date, *, seed: int) -> "Learned":
    home = settings.var / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():  # the stack writes its own when it starts Dagster
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    console.print(f"pipeline: event dates {first} to {last}", highlight=False)
    from dagster import DagsterInstance

    from dagster_project.definitions import defs
    from dagster_project.errors import PipelineError
    from dagster_project.run import learn_range

    try:
        with DagsterInstance.get() as instance:
            job = defs.resolve_job_def("learn")
            return learn_range(job, instance, first=first, last=last, seed=seed, report=_say)
    except PipelineError as error:
        raise _sentence(str(error)) from None
    except KeyboardInterrupt:
        raise _sentence("interrupted: what was materialised stays") from None


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _sentence(message: str) -> typer.Exit:
    sys.stderr.write(f"{message}\n")
    return typer.Exit(1)


def _show(learned: "Learned") -> None:
    table = Table("asset or check", "seconds")
    for name, seconds in learned.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    app()
