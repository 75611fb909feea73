"""`livefeed training train | evaluate | rerank` (also `python -m training ...`): candidates, and how good they are."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from settings import Settings, SettingsError, load
from training.errors import BadCandidate, TrainingError
from training.progress import Report

if TYPE_CHECKING:
    from registry.evaluation import Evaluation

app = typer.Typer(
    help="Samples to model: train a candidate, measure one again, hold its order against a release's.",
    no_args_is_help=True,
)
console = Console(stderr=True, soft_wrap=True)
Until = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last event date of the samples. Default: all.")
]


@app.command()
def train(
    line: Annotated[str, typer.Option(help="Model line. Default: the setting LIVEFEED_LINE.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, shuffles and dropout.")] = 1,
    until: Until = None,
    version: Annotated[int | None, typer.Option(min=1, help="Version. Default: the next one MLflow has free.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: var/candidates/<line>-<version>.")] = None,
) -> None:
    """Train both models on the samples and write a candidate; its folder is the last line printed."""

    def work(settings: Settings) -> None:
        from features.history import store_as_of
        from features.offline_tables import versions_now
        from features.training_input import TRAINED_ON, read_samples
        from registry.line_formula import formula_of
        from training.pipeline import train_candidate

        name = line or settings.line
        tables = versions_now(settings.lake, tables=TRAINED_ON)
        samples = read_samples(settings.lake, until=_day(until), version=tables.get("samples"))
        store = store_as_of(settings.lake, versions=tables)
        number = version or _next_version(settings, name)
        folder = out or settings.var / "candidates" / f"{name}-{number}"
        with _bars() as report:
            train_candidate(
                samples, store, folder, line=name, version=number, seed=seed, report=report, tables=tables,
                formula=formula_of(settings.releases, name),
            )  # fmt: skip
        _show(folder)
        sys.stdout.write(f"{folder}\n")

    _or_sentence(work)


@app.command()
def evaluate(
    candidate: Annotated[Path, typer.Argument(help="Folder of a trained candidate.")],
    until: Until = None,
) -> None:
    """Measure a candidate's exported models again, on the last fifth of the samples there are now; writes nothing."""

    def work(settings: Settings) -> None:
        from features.encoder import Encoder
        from features.history import store_as_of
        from features.training_input import read_samples
        from registry.manifest import ENCODER, read_manifest
        from training.catalogue import catalogue_of
        from training.data import prepare
        from training.evaluate import evaluate as measure
        from training.export import load_scorers
        from training.pipeline import TrainingConfig, refuse_seen

        manifest, encoder = read_manifest(candidate), Encoder.load(candidate / ENCODER)
        samples, store = read_samples(settings.lake, until=_day(until)), store_as_of(settings.lake)
        with _bars() as report:
            share = TrainingConfig().train_share
            data = prepare(samples, train_share=share, encoder=encoder, objectives=manifest.objectives, report=report)
            refuse_seen(manifest, data)
            found = measure(data, catalogue_of(store, samples), load_scorers(candidate), report=report)
        console.print(_figures(found))

    _or_sentence(work)


@app.command()
def rerank(
    month: Annotated[str, typer.Option(help="Month whose logged requests are put in order again, like 2027-01.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write; it names viewers, remove it after the audit.")],
    candidate: Annotated[
        str, typer.Argument(help="Candidate's folder or release's name. Default: the line's canary, or its newest.")
    ] = "",
    against: Annotated[str, typer.Option(help="Release to hold it against. Default: what is in traffic.")] = "",
    line: Annotated[
        str,
        typer.Option(help="Line of a candidate that is not named. Default: the running canary's, else LIVEFEED_LINE."),
    ] = "",
    requests: Annotated[int, typer.Option(min=1, help="Requests to draw at random; all of a smaller log.")] = 50_000,
) -> None:
    """Put a month's logged requests in order again, for the audit of a candidate that few have met.

    Without a candidate, and none that is or may become a canary, nothing is written and that is said.
    """

    def work(settings: Settings) -> None:
        from registry.reranked import line_in_question, month_days
        from training.errors import NothingToRerank

        month_days(month)  # a wrong month is said before anything is looked for
        name = line or line_in_question(settings.releases, settings.line)
        sides = _sides(settings, candidate, against, name)
        if sides is None:
            console.print(f"line {name} has no candidate: nothing is put in order again", markup=False)
            return
        try:
            _rerank(settings, month, sides, out, requests)
        except NothingToRerank as error:
            if candidate:
                raise
            console.print(str(error), markup=False)

    _or_sentence(work)


def _sides(settings: Settings, candidate: str, against: str, line: str) -> tuple[Path, Path] | None:
    """Folders of the candidate and of what it is held against; None where none is named and there is none."""
    from registry.manifest import read_live
    from registry.reranked import STABLE, to_rerank

    folders = (settings.releases, settings.var / "candidates")
    found = to_rerank(*folders, line)
    if not candidate:
        return found and (found[0], _folder(against, *folders) if against else found[1])
    return _folder(candidate, *folders), _folder(against or read_live(settings.releases).get(STABLE, ""), *folders)


def _rerank(settings: Settings, month: str, sides: tuple[Path, Path], out: Path, requests: int) -> None:
    from training.rerank import rerank as again
    from training.rerank import said

    with _bars() as report:
        card = again(
            settings.lake, month, candidate=sides[0], incumbent=sides[1], out=out, requests=requests, report=report
        )
    console.print(
        f"{card.requests:,} requests of {month} with {card.rows:,} items in the order of {card.candidate} and of "
        f"{card.incumbent}; {card.drawn:,} were drawn: {said(card.logged, card.left_out)}",
        markup=False,
    )
    sys.stdout.write(f"{out}\n")


def _folder(named: str, *folders: Path) -> Path:
    """A folder as it is given, or the first that has something of that name."""
    for one in (Path(named), *(folder / named for folder in folders)):
        if named and one.is_dir():
            return one
    places = " and ".join(map(str, folders))
    raise BadCandidate(f"there is no candidate or release {named!r} in {places}, and no such folder; name one of them")


def _next_version(settings: Settings, line: str) -> int:
    from registry.mlflow_store import MlflowRegistry

    return MlflowRegistry(settings.mlflow).next_version(line)


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.date()


def _or_sentence(work: Callable[[Settings], None]) -> None:
    """Run with the settings in force; what goes wrong is one sentence and exit code 1."""
    from features.errors import FeaturesError
    from registry.errors import RegistryError

    try:
        work(load())
    except (TrainingError, FeaturesError, RegistryError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: no candidate was written\n")
        raise typer.Exit(1) from None


@contextmanager
def _bars() -> Iterator[Report]:
    """A bar a stage on standard error, so that standard output holds the answer alone."""
    columns = (TextColumn("{task.description:32}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        shown: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in shown:
                shown[stage] = bars.add_task(stage, total=total, note=note)
            bars.update(shown[stage], completed=done, total=total, note=note)

        yield report


def _show(folder: Path) -> None:
    from registry.evaluation import Evaluation

    console.print(_figures(Evaluation.load(folder)))


def _figures(evaluation: "Evaluation") -> Table:
    table = Table("figure", "value")
    for name, value in evaluation.figures().items():
        table.add_row(name, "could not be computed" if value is None else f"{value:.4g}")
    return table


if __name__ == "__main__":
    app()
