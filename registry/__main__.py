"""`livefeed registry list | show` (also `python -m registry ...`): what was trained, with its figures."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from registry.errors import RegistryError
from registry.mlflow_store import MlflowRegistry
from settings import SettingsError, load

app = typer.Typer(help="What was trained: releases and their runs.", no_args_is_help=True)
console = Console(soft_wrap=True)


@app.command("list")
def list_releases(line: Annotated[str, typer.Option(help="Only this line; empty: all.")] = "") -> None:
    """Show registered releases, newest first."""
    try:
        releases = MlflowRegistry(load().mlflow).releases(line or None)
    except (RegistryError, SettingsError) as error:
        raise _sentence(error) from None
    table = Table("release", "trained", "aliases", "MLflow run")
    for one in releases:
        table.add_row(one.name, one.created_at, ", ".join(one.aliases), one.run_id)
    console.print(table)


@app.command()
def show(release: Annotated[str, typer.Argument(help="Name of a release, such as demo-3.")]) -> None:
    """Show a release's figures, dials and table versions."""
    try:
        line, version = split(release)
        found = MlflowRegistry(load().mlflow).show(line, version)
    except (RegistryError, SettingsError) as error:
        raise _sentence(error) from None
    table = Table("what", "name", "value", title=f"{release}, run {found['run_id']}")
    for group in ("metrics", "params", "tags"):
        for name, value in sorted(found[group].items()):
            table.add_row(group, name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)


def split(release: str) -> tuple[str, int]:
    """Line and version of a release's name; RegistryError when it is not one."""
    line, _, version = release.rpartition("-")
    if not line or not version.isdecimal():
        raise RegistryError(f"release {release!r} is not a name; allowed is <line>-<version>, such as demo-3")
    return line, int(version)


def _sentence(error: Exception) -> typer.Exit:
    sys.stderr.write(f"{error}\n")
    return typer.Exit(1)


if __name__ == "__main__":
    app()
