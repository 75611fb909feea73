"""`livefeed demo`: the whole loop with one command; `--dataset movielens --path FOLDER` runs it on real data."""

import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from settings import Settings, SettingsError, load
from stack.errors import StackError

DATASETS = ("movielens", "kuairand")
MARK = "made-by-livefeed-demo"


def demo(
    dataset: Annotated[str, typer.Option(help="movielens or kuairand; empty: the simulated world.")] = "",
    path: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the world.")] = 7,
    viewers: Annotated[int, typer.Option(min=1, help="Viewers of the world.")] = 1800,
) -> None:
    """Run the whole loop on the real parts: events, features, models, deployment, a ranked feed; then stop the parts."""
    from events.errors import EventsError
    from features.errors import FeaturesError
    from simulator.errors import WorldError
    from stack.demo.run import DemoConfig, demo_settings, run_demo

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI runner's stop must end the parts, as Ctrl-C does
    if dataset and dataset not in DATASETS:
        raise _fail(f"unknown data set {dataset!r}; allowed are {', '.join(DATASETS)}")
    try:
        settings = demo_settings(load(), dataset)
        config = DemoConfig(dataset=dataset, path=path, seed=seed, viewers=viewers)
        check_dataset(config.dataset, config.path)
        start_afresh(settings)
        summary = run_demo(settings, config, say=_say)
    except (StackError, SettingsError, EventsError, FeaturesError, WorldError) as error:
        raise _fail(str(error)) from None
    except KeyboardInterrupt:
        raise _fail("interrupted: every part that the demo started was stopped") from None
    _say(f"summary: {_short(settings.var / 'summary.json')} ({summary['seconds']['total']:.0f} s)")
    _say(f"to look around (Dagster, MLflow, feed): LIVEFEED_VAR={_short(settings.var)} LIVEFEED_CLOCK=request make up")


def check_dataset(name: str, path: Path | None) -> None:
    """Read the first event, so that a wrong path is said before anything is started."""
    if not name:
        return
    from events import datasets
    from stack.demo.run import DemoFailed

    if path is None:
        raise DemoFailed(f"the data set {name} needs --path, the folder that holds it")
    next(iter(datasets.read(name, path)))


def start_afresh(settings: Settings) -> None:
    """Empty the demo's own state folder; one that the demo did not make, or whose parts run, is refused."""
    from stack.demo.run import DemoFailed
    from stack.parts import Parts

    if settings.var.exists():
        if any(settings.var.iterdir()) and not (settings.var / MARK).is_file():
            raise DemoFailed(f"{settings.var} was not made by the demo and is not touched; set LIVEFEED_VAR elsewhere")
        running = [status.name for status in Parts(settings).status() if status.condition in ("running", "silent")]
        if running:
            where = _short(settings.var)
            raise DemoFailed(
                f"parts of an earlier demo still run ({', '.join(running)}); LIVEFEED_VAR={where} make down"
            )
        shutil.rmtree(settings.var)
    settings.var.mkdir(parents=True)
    (settings.var / MARK).touch()


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _say(line: str) -> None:
    print(line, flush=True)


def _fail(message: str) -> typer.Exit:
    print(f"livefeed demo: {message}", file=sys.stderr)
    return typer.Exit(1)
