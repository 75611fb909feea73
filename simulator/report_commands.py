"""The command `livefeed world report`: a named world, played in process, against what is published of real platforms."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from simulator.calibration import Calibration, calibrate, played_h, write_record
from simulator.config import WorldConfig
from simulator.errors import WorldError
from simulator.policies import NAMES
from simulator.report_page import VERDICTS, between, played, ranged, said, verdict_of, write_page
from simulator.worlds import WORLDS, named, turned

OUT = Path("var/world-report")
_STYLES = {"inside": "green", "outside": "red", "undecided": "yellow"}


def mount(app: typer.Typer) -> None:
    """Add the command to the world's."""
    app.command("report")(report)


def report(
    world: Annotated[str, typer.Option(help=f"One of {', '.join(WORLDS)}.")] = "live-first",
    seed: Annotated[int, typer.Option(help="Equal seeds give an equal report.json.")] = WorldConfig().seed,
    hours: Annotated[float, typer.Option(help="Event time that counts; a week is the least for some figures.")] = 168.0,
    warm_up: Annotated[float, typer.Option(help="Hours of event time before that, remembered but not counted.")] = 24.0,
    policy: Annotated[str, typer.Option(help=f"What orders the feeds: one of {', '.join(NAMES)}.")] = "popularity",
    random_pages: Annotated[
        float, typer.Option(help="Share of pages drawn at random, which show position bias.")
    ] = 0.1,
    dial: Annotated[list[str] | None, typer.Option(help="A dial of the world, as name=value; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = OUT,
) -> None:
    """Play a world without Kafka and compare its event log with published figures."""
    try:
        config = replace(named(world), seed=seed)
        for name, _, value in (one.partition("=") for one in dial or []):
            config = turned(config, name, value)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("world", total=played_h(hours, warm_up_h=warm_up))
            record = calibrate(
                config, name=world, hours=hours, warm_up_h=warm_up, policy=policy, random_pages=random_pages,
                report=lambda done: bar.update(task, completed=done),
            )  # fmt: skip
        written = [write_record(record, out), write_page(record, out)]
    except WorldError as error:
        typer.echo(f"livefeed: {error}", err=True)
        raise typer.Exit(1) from None
    _show(record)
    for path in written:
        typer.echo(str(path))


def _show(record: Calibration) -> None:
    """The figures that have a range, and how many were met."""
    table = Table(
        "figure", "world", "95 % interval", "range", "verdict", title=f"World {record.world}", box=SIMPLE_HEAD
    )
    for one in record.figures:
        if one.published is not None and one.published.low is not None:
            ours = " (assumption)" if one.published.basis == "assumption" else ""
            table.add_row(
                one.label, said(one.value, one.unit), between(one.low, one.high, one.unit),
                ranged(one.published, one.unit), verdict_of(one) + ours, style=_STYLES.get(one.verdict, "dim"),
            )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    console.print(table)
    console.print(played(record))
    for label, assumed in (("what others published", False), ("our own assumptions", True)):
        counts = ", ".join(f"{record.count(verdict, assumed=assumed)} {verdict}" for verdict in VERDICTS)
        console.print(f"against {label}: {counts}")
