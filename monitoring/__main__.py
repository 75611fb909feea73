"""`livefeed monitoring judge | drift | skew | audit` (also `python -m monitoring ...`): verdicts, the ranker's inputs."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from monitoring.audit_record import AuditRecord
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


@app.command()
def audit(
    month: Annotated[str, typer.Option(help="Month to audit, like 2027-01.")],
    out: Annotated[Path, typer.Option(help="Folder of the records; last month's is looked for here.")],
    line: Annotated[
        str, typer.Option(help="Line whose releases are audited. Default: the running canary's, else LIVEFEED_LINE.")
    ] = "",
    against: Annotated[str, typer.Option(help="Line to compare with. Default: all others that were in traffic.")] = "",
    min_viewers: Annotated[int, typer.Option(help="Smaller groups are judged together.")] = 1_000,
    min_events: Annotated[int, typer.Option(help="Groups that expect fewer events are judged together.")] = 100,
    reranked: Annotated[
        Path | None, typer.Option(help="File of `training rerank`; counts when the line met too few viewers.")
    ] = None,
) -> None:
    """Audit a line's month for bias, and write record and page; exit 0 only when it passes."""
    from features.errors import FeaturesError
    from monitoring.audit import audit as judge_month
    from monitoring.audit import month_before
    from monitoring.audit_lake import audit_plan, audit_rows
    from monitoring.audit_page import write_page
    from monitoring.audit_record import AuditConfig, read_record, write_record
    from monitoring.audit_reranked import load_reranked
    from monitoring.errors import MonitoringError
    from registry.errors import RegistryError
    from registry.reranked import line_in_question
    from settings import SettingsError, load

    try:
        settings = load()
        line = line or line_in_question(settings.releases, settings.line)
        config = AuditConfig(min_viewers=min_viewers, min_events=min_events)
        before = read_record(out, line, month_before(month))
        again = None if reranked is None else load_reranked(reranked, month=month, line=line, against=against)
        rows = audit_rows(settings.lake, month, reranked=again)
        plan = audit_plan(rows, month=month, line=line, against=against, config=config)
        record = judge_month(rows, plan, before=before)
        page = write_page(record, write_record(record, out).with_suffix(".html"))
    except (FeaturesError, MonitoringError, RegistryError, SettingsError) as error:
        raise _sentence(str(error)) from None
    _show_audit(record)
    console.print(f"page: {page}", highlight=False)
    if record.outcome != "pass":
        raise _sentence(f"line {line} has no passing audit of {month}: {record.outcome}: {record.sentence}")


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


def _show_audit(record: "AuditRecord") -> None:
    table = Table("family", "group", "check", "outcome", "ratio or change", "bounds", "viewers")
    for cell in record.cells:
        bounds = f"{_number(cell.low)} .. {_number(cell.high)}"
        outcome = f"{cell.outcome}{'' if cell.family.gates else ' (reported)'}"
        table.add_row(
            str(cell.family), cell.group, cell.check, outcome, _number(cell.estimate), bounds, str(cell.viewers)
        )
    console.print(table)
    for one in record.troubles:
        console.print(f"{'held' if one.holds else 'not judged'}: {one.text}", highlight=False, markup=False)
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
