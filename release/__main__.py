"""`livefeed release deploy | status | rollback` (also `python -m release ...`): which release is in traffic."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from release.guard import Guard
    from release.proxies import AdminProxy

app = typer.Typer(help="Verdict to traffic: deploy, status, roll back.", no_args_is_help=True)
console = Console(soft_wrap=True)
Wait = Annotated[float, typer.Option(min=1.0, help="Seconds that each step may take, such as loading the release.")]
Label = Annotated[str, typer.Option(help="Under which it is in traffic: stable or canary.")]
Why = Annotated[
    str, typer.Option(help="Overrides what stands against it (another line than stable's, a canary); for the history.")
]  # fmt: skip
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", help="Administration of a proxy to wait for, http://host:port; repeatable.")
]  # fmt: skip


@app.command()
def deploy(
    candidate: Annotated[Path, typer.Argument(help="Folder of a judged candidate.")],
    label: Label = "stable",
    why: Why = "",
    wait_s: Wait = 60.0,
    proxy: Proxies = None,
) -> None:
    """Register a candidate if need be, and bring it into traffic if its verdict is a pass and its line may be there."""
    from registry.evaluation import Evaluation
    from registry.manifest import read_manifest
    from registry.verdict import read_verdict
    from release.deploy import deploy as bring
    from release.traffic import check_label

    def work(settings: Settings) -> None:
        check_label(label)
        verdict, ends = read_verdict(candidate), _ends(settings, proxy)
        ends["registry"].register(candidate, read_manifest(candidate), Evaluation.load(candidate).measured())
        bring(candidate, verdict, label=label, wait_s=wait_s, may=_guard(settings, label, why), **ends)

    _or_sentence(work)


@app.command()
def rollback(
    release: Annotated[str, typer.Argument(help="Name of a published release, such as demo-3; none: no canary.")] = "",
    label: Label = "stable",
    why: Why = "",
    wait_s: Wait = 60.0,
    proxy: Proxies = None,
) -> None:
    """Put an earlier release back into traffic; with --label canary and no name, take the canary out."""
    from release.deploy import rollback as go_back
    from release.deploy import withdraw
    from release.errors import UnknownRelease

    def work(settings: Settings) -> None:
        ends = _ends(settings, proxy)
        if not release and label == "stable":
            raise UnknownRelease("no release was named; livefeed release status lists those that are published")
        if release:
            go_back(release, label=label, wait_s=wait_s, may=_guard(settings, label, why, back=True), **ends)
        else:
            withdraw(label, wait_s=wait_s, **{name: end for name, end in ends.items() if name != "registry"})

    _or_sentence(work)


@app.command()
def status(proxy: Proxies = None) -> None:
    """Show published releases, which of them are in traffic, and what model server and proxies say of it."""
    from release.deploy import status as published

    def work(settings: Settings) -> None:
        table = Table("release", "version", "trained", "in traffic as")
        releases = published(settings.releases)
        for one in releases:
            table.add_row(one.name, str(one.version), one.created_at, ", ".join(one.labels))
        console.print(table)
        for one in releases:
            for label in one.labels:
                _say(f"{label}: {one.name}; the model server: {_on_server(settings, one.name, label)}")
        for end in _proxies(settings, proxy):
            _say(f"the proxy at {end.address}: {_used(end)}")

    _or_sentence(work)


def _on_server(settings: Settings, name: str, label: str) -> str:
    """What both models answer under a label: their versions, or why there is none."""
    from release.publish import check
    from release.served import labelled
    from serving.tf_serving import TfServing

    found = labelled(TfServing(settings.model_server), check(settings.releases / name), label)
    return ", ".join(f"{model} {said}" for model, said in found.items())


def _used(end: "AdminProxy") -> str:
    from release.errors import NoAnswer

    try:
        held = end.in_use()
    except NoAnswer:
        return "does not say what it uses"
    if held is None:
        return "is not there"
    return f"uses {', '.join(f'{name} as {label}' for label, name in held.items()) or 'none'}"


def _guard(settings: Settings, label: str, why: str, *, back: bool = False) -> "Guard":
    """What a release is asked about before it comes under a label; times are those of the promotions' history."""
    import getpass

    from events.clock import WallClock
    from release.guard import Guard
    from release.promotion_parts import StoredClock

    clock = StoredClock(settings.lake, WallClock()) if settings.clock == "request" else WallClock()
    return Guard(releases=settings.releases, clock=clock, who=getpass.getuser(), label=label, why=why, back=back)


def _ends(settings: Settings, proxies: Sequence[str] | None) -> dict[str, Any]:
    """The arguments that every way into traffic takes."""
    from registry.mlflow_store import MlflowRegistry
    from serving.tf_serving import TfServing

    return {
        "releases": settings.releases, "models": settings.models, "server": TfServing(settings.model_server),
        "registry": MlflowRegistry(settings.mlflow), "proxies": _proxies(settings, proxies), "report": _say,
    }  # fmt: skip


def _proxies(settings: Settings, given: Sequence[str] | None) -> "list[AdminProxy]":
    from release.proxies import AdminProxy

    host = f"[{settings.admin_host}]" if ":" in settings.admin_host else settings.admin_host
    own = f"http://{host}:{settings.admin_port}"
    return [AdminProxy(address.rstrip("/"), token=settings.admin_token) for address in given or [own]]


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
