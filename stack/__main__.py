"""`livefeed stack up | status | down | jars` (also `python -m stack ...`): the real parts on this machine."""

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from settings import Settings, SettingsError, load
from stack.errors import StackError
from stack.jars import GROUPS, fetch
from stack.parts import Parts, PartStatus

app = typer.Typer(
    help="Start, look at and stop the real parts: Kafka, Redis, MLflow, Dagster, model server, collector, proxy."
)
console = Console(soft_wrap=True)
Only = Annotated[
    str, typer.Option(help="Names of parts, separated by commas; what they need comes along. Default: all.")
]
OnlyDown = Annotated[
    str, typer.Option("--only", help="Names of parts, separated by commas; what needs them goes along. Default: all.")
]
Result = TypeVar("Result")
PAGES = {
    "dagster": "Dagster, the asset graph",
    "mlflow": "MLflow, runs and versions",
    "proxy": "the feed (?user_id=...)",
}
COLOURS = {"running": "green", "silent": "yellow", "died": "red", "stopped": "dim"}


def _names(only: str) -> list[str] | None:
    return [name.strip() for name in only.split(",") if name.strip()] or None


@app.command()
def up(only: Only = "") -> None:
    """Start the parts that do not run yet, wait until they answer, and say where to look."""
    # A SIGTERM (a CI runner's) must stop what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    statuses = _or_sentence(lambda settings: Parts(settings).up(_names(only), report=_say))
    _show(statuses)
    for row in statuses:
        if row.name in PAGES:
            _say(f"{PAGES[row.name]}: {row.look}")


@app.command()
def status() -> None:
    """Show every part: its state, process, memory, address and log."""
    _show(_or_sentence(lambda settings: Parts(settings).status()))


@app.command()
def down(only: OnlyDown = "") -> None:
    """Stop the parts; data and logs stay."""
    _or_sentence(lambda settings: Parts(settings).down(_names(only), report=_say))


@app.command()
def jars() -> None:
    """Download the Java archives of Kafka and of Delta for Spark into the cache, once."""

    def fetch_all(settings: Settings) -> None:
        for group in GROUPS:
            paths = fetch(settings.jars, group=group, report=_say)
            _say(f"{group}: {len(paths)} Java archives, checksums as locked, in {paths[0].parent}")

    _or_sentence(fetch_all)


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _or_sentence(work: Callable[[Settings], Result]) -> Result:
    """Run with the settings in force; what goes wrong is one sentence and exit code 1."""
    try:
        return work(load())
    except (StackError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what this command started was stopped\n")
        raise typer.Exit(1) from None


def _show(statuses: Sequence[PartStatus]) -> None:
    table = Table("part", "state", "pid", "MB", "where to look", "log")
    for row in statuses:
        memory = f"{row.resident_mb:.0f}" if row.resident_mb else ""
        condition = f"[{COLOURS[row.condition]}]{row.condition}[/]"
        table.add_row(row.name, condition, str(row.pid or ""), memory, row.look, row.log)
    console.print(table)


if __name__ == "__main__":
    app()
