"""`livefeed monitoring judge | drift | skew` (also `python -m monitoring ...`): a verdict, the ranker's inputs."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from monitoring.drift import DriftReport
    from monitoring.skew import SkewRecord
    from registry.verdict import Verdict

app = typer.Typer(help="Is a candidate better, and do the inputs still look the same?")
console = Console(soft_wrap=True)
TEST_SHARE = 0.2  # training measures on the last fifth; drift compares the same two periods unless told otherwise


@app.command()
def judge(
    candidate: Annotated[Path, typer.Argument(help="Folder of a trained candidate.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 1,
) -> None:
    """Write the candidate's verdict.json; exit 0 only when it passes."""
    from events.clock import WallClock, utc
    from monitoring.gate import judge_offline
    from registry.errors import RegistryError
    from registry.evaluation import Evaluation
    from registry.verdict import write_verdict

    try:
        verdict = judge_offline(Evaluation.load(candidate), seed=seed, decided_at=utc(WallClock().now()).isoformat())
    except RegistryError as error:
        raise _sentence(str(error)) from None
    write_verdict(candidate, verdict)
    _show_verdict(verdict)
    if not verdict.passed:
        raise _sentence(f"{candidate} is not good enough: {verdict.outcome} ({', '.join(verdict.reasons)})")


@app.command()
def drift(
    out: Annotated[Path, typer.Option(help="HTML page to write.")],
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="First event date of the current side. Default: the last fifth of the samples."
        ),
    ] = None,
) -> None:
    """Compare the ranker's features in older samples with the newest, and write the page."""
    from features.errors import FeaturesError
    from features.training_input import read_samples
    from monitoring.drift import drift_report
    from monitoring.errors import MonitoringError
    from settings import SettingsError, load

    try:
        samples = read_samples(load().lake)
        cut = len(samples.features) - int(len(samples.features) * TEST_SHARE)
        if since is not None:
            cut = sum(at < _midnight(since.date()) for at in samples.event_at)
        report = drift_report(samples.features[:cut], samples.features[cut:], out)
    except (FeaturesError, MonitoringError, SettingsError) as error:
        raise _sentence(str(error)) from None
    _show_drift(report)


@app.command()
def skew(
    out: Annotated[Path, typer.Option(help="Folder for skew.html, skew.json and distributions.html.")],
    sample: Annotated[int, typer.Option(min=1, help="Impressions to compute again.")] = 1_000,
) -> None:
    """Compare what the ranker saw with what history says it was; exit 0 only when every feature agrees."""
    from features.errors import FeaturesError
    from monitoring.skew import SkewConfig
    from monitoring.skew_report import PAGE, report_skew
    from settings import SettingsError, load

    try:
        record = report_skew(load().lake, out, config=SkewConfig(sample=sample))
    except (FeaturesError, SettingsError) as error:
        raise _sentence(str(error)) from None
    _show_skew(record)
    console.print(f"page: {out / PAGE}", highlight=False)
    if record.outcome != "pass":
        raise _sentence(f"the features do not agree: {record.outcome}: {record.sentence}")


def _midnight(day: date) -> float:
    from datetime import UTC

    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _sentence(message: str) -> typer.Exit:
    sys.stderr.write(f"{message}\n")
    return typer.Exit(1)


def _show_verdict(verdict: "Verdict") -> None:
    table = Table("metric", "candidate", "baseline", "difference, 95 % interval", "viewers")
    for row in verdict.evidence:
        interval = "not computable" if row.low is None or row.high is None else f"{row.low:+.4f} .. {row.high:+.4f}"
        table.add_row(row.metric, _number(row.candidate), _number(row.baseline), interval, str(row.n))
    console.print(table)
    console.print(f"{verdict.outcome}: {', '.join(verdict.reasons)}", highlight=False)


def _show_skew(record: "SkewRecord") -> None:
    table = Table("feature", "outcome", "equal when settled", "of", "distance", "why")
    for row in record.features:
        table.add_row(
            row.name, str(row.outcome), _number(row.equal_rate), str(row.settled), _number(row.distance), row.reason
        )
    console.print(table)
    console.print(f"{record.outcome}: {record.sentence}", highlight=False)


def _show_drift(report: "DriftReport") -> None:
    table = Table("feature", "method", "score", "KS p", "drifted")
    for row in report.features:
        table.add_row(
            row.name,
            row.method,
            _number(row.score),
            _number(row.ks_p),
            "" if row.drifted is None else ("yes" if row.drifted else "no"),
        )
    console.print(table)
    share = "not computable" if report.share is None else f"{report.share:.0%}"
    sides = f"{report.reference_rows} older and {report.current_rows} newer rows"
    console.print(f"drifted share: {share} ({sides}); page: {report.page}", highlight=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    app()
