"""`livefeed features tables | samples | list` (also `python -m features ...`): offline features and samples by day."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from features.errors import BadRange, FeaturesError
from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

app = typer.Typer(help="What we know: feature tables, samples, definitions.", no_args_is_help=True)
console = Console(soft_wrap=True, highlight=False)
From = Annotated[str, typer.Option("--from", metavar="DATE", help="First event date, YYYY-MM-DD.")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="Last event date, YYYY-MM-DD; it is included.")]
Result = TypeVar("Result")


@app.command()
def tables(start: From, end: To) -> None:
    """Build the user, item and creator feature tables of those days, replacing them."""
    written = _or_sentence(lambda settings: _tables(settings, start, end))
    for table, count in written.items():
        console.print(f"{table}: {count:,} rows")


@app.command()
def samples(
    start: From,
    end: To,
    attribution: Annotated[
        str, typer.Option(help="negative-cache (table samples) or correction (table samples_corrected).")
    ] = "negative-cache",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Only what was known then, event time (ISO 8601). Default: everything.")
    ] = "",
    real_negatives: Annotated[
        str, typer.Option(metavar="NAMES", help="Objectives whose final negatives the correction also emits.")
    ] = "",
) -> None:
    """Join impressions and labels of those days into a table of samples, replacing them."""
    asked = {"attribution": attribution, "until": until, "real_negatives": real_negatives}
    figures = _or_sentence(lambda settings: _samples(settings, start, end, **asked))
    for name, value in figures.items():
        console.print(f"{name}: {value}")


@app.command("list")
def definitions(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/features.md instead.")] = False,
) -> None:
    """Show every feature definition."""
    from features import catalogue

    if markdown:
        print(catalogue.markdown(), end="")
        return
    table = Table("feature", "computed as", "window", "unit", "default", "stores")
    for row in catalogue.rows():
        table.add_row(*row[:6])
    console.print(table)


def _tables(settings: Settings, start: str, end: str) -> dict[str, int]:
    from features.offline import build_feature_tables
    from features.offline_events import need_events
    from features.offline_tables import days

    dates = days(_day("--from", start), _day("--to", end))
    need_events(settings.lake)  # say so before Spark starts
    return build_feature_tables(_spark(settings), settings.lake, dates=dates, report=_say)


def _samples(
    settings: Settings, start: str, end: str, *, attribution: str, until: str, real_negatives: str
) -> dict[str, object]:
    from dataclasses import asdict

    from features.attribution import Attribution
    from features.labels import NAMES
    from features.offline_tables import days, need_table
    from features.samples import build_samples

    dates = days(_day("--from", start), _day("--to", end))
    how = Attribution(_one_of("--attribution", attribution, list(Attribution)))
    negatives = [_one_of("--real-negatives", name, NAMES) for name in filter(None, real_negatives.split(","))]
    if negatives and how is Attribution.NEGATIVE_CACHE:
        raise BadRange(f"--real-negatives {real_negatives!r} is for --attribution correction only")
    at = _time("--until", until) if until else None
    need_table(settings.lake, "impressions", made_by="the collector")  # say so before Spark starts
    found = build_samples(
        _spark(settings), settings.lake, dates=dates, attribution=how, until=at, real_negatives=negatives, report=_say
    )
    return asdict(found)


def _spark(settings: Settings) -> "SparkSession":
    from features.spark import jars_in, session

    jars = jars_in(settings.jars / "delta")
    _say("starting Spark")
    return session(jars=jars, memory=settings.spark_memory, cores=settings.spark_cores)


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRange(f"{option} {text!r} is not a date; write it as YYYY-MM-DD") from None


def _time(option: str, text: str) -> float:
    """Epoch seconds; a time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRange(f"{option} {text!r} is not a time; write it as YYYY-MM-DDTHH:MM:SSZ") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise BadRange(f"{option} {value!r} is not known; allowed are {', '.join(allowed)}")
    return value


def _say(line: str) -> None:
    console.print(line)


def _or_sentence(run: Callable[[Settings], Result]) -> Result:
    """The result, or one sentence on standard error and exit status 1 (2 for a bad setting)."""
    try:
        return run(load())
    except SettingsError as error:
        print(f"livefeed: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except FeaturesError as error:
        print(f"livefeed: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
