"""`livefeed release deploy | status | rollback` (also `python -m release ...`): which release is in traffic."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from registry.mlflow_store import MlflowRegistry
    from serving.tf_serving import TfServing

app = typer.Typer(help="Verdict to traffic: deploy, status, roll back.", no_args_is_help=True)
console = Console(soft_wrap=True)
Wait = Annotated[float, typer.Option(min=1.0, help="Seconds the model server may take to load the release.")]


@app.command()
def deploy(
    candidate: Annotated[Path, typer.Argument(help="Folder of a judged candidate.")],
    wait_s: Wait = 60.0,
) -> None:
    """Register a candidate if need be, and bring it into traffic if its verdict is a pass."""
    from registry.evaluation import Evaluation
    from registry.manifest import read_manifest
    from registry.verdict import read_verdict
    from release.deploy import deploy as bring

    def work(settings: Settings) -> None:
        registry, server = _ends(settings)
        verdict = read_verdict(candidate)
        registry.register(candidate, read_manifest(candidate), Evaluation.load(candidate).measured())
        bring(
            candidate, verdict, releases=settings.releases, models=settings.models, server=server, registry=registry,
            wait_s=wait_s, report=_say,
        )  # fmt: skip

    _or_sentence(work)


@app.command()
def rollback(
    release: Annotated[str, typer.Argument(help="Name of a published release, such as demo-3.")],
    wait_s: Wait = 60.0,
) -> None:
    """Put an earlier release back into traffic."""
    from release.deploy import rollback as go_back

    def work(settings: Settings) -> None:
        registry, server = _ends(settings)
        go_back(
            release, releases=settings.releases, models=settings.models, server=server, registry=registry,
            wait_s=wait_s, report=_say,
        )  # fmt: skip

    _or_sentence(work)


@app.command()
def status() -> None:
    """Show published releases and which of them are in traffic."""
    from release.deploy import status as published

    def work(settings: Settings) -> None:
        table = Table("release", "version", "trained", "in traffic as")
        for one in published(settings.releases):
            table.add_row(one.name, str(one.version), one.created_at, ", ".join(one.labels))
        console.print(table)

    _or_sentence(work)


def _ends(settings: Settings) -> "tuple[MlflowRegistry, TfServing]":
    from registry.mlflow_store import MlflowRegistry
    from serving.tf_serving import TfServing

    return MlflowRegistry(settings.mlflow), TfServing(settings.model_server)


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _or_sentence(work: Callable[[Settings], None]) -> None:
    """Run with the settings in force; what goes wrong is one sentence and exit code 1."""
    from registry.errors import RegistryError
    from release.errors import ReleaseError

    try:
        work(load())
    except (ReleaseError, RegistryError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
