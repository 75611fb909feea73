"""Group audit: the monthly bias audit of a line, which a promotion needs."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg

from dagster_project.metadata import plain
from dagster_project.partitions import EVENT_MONTHS
from dagster_project.resources import Platform, steps_to
from monitoring.audit import audit, month_before
from monitoring.audit_lake import audit_plan, audit_rows
from monitoring.audit_record import AuditConfig, AuditRecord, read_record, write_record
from monitoring.audit_reranked import load_reranked, met_too_few
from monitoring.audit_rows import AuditRows, Reranked
from registry.reranked import line_in_question, to_rerank
from release.promotion_parts import AUDITS
from settings import Settings

FILE = "reranked.parquet"


class Audited(dg.Config):
    """What a run may set; floors as in monitoring.audit_record.AuditConfig."""

    line: str = ""  # empty: the running canary's, else the platform's
    against: str = ""  # line to compare with; empty: all others that were in traffic
    min_viewers: int = 1_000
    min_events: int = 100
    traffic_viewers: int = 10_000
    four_fifths: float = 0.80
    worsened: float = 0.05


@dg.asset(group_name="audit", kinds={"fairlearn"}, partitions_def=EVENT_MONTHS)
def bias_audit(
    context: dg.AssetExecutionContext, platform: Platform, config: Audited
) -> dg.MaterializeResult[AuditRecord]:
    """Are groups of viewers and of creators served alike: the month's record and page, which a promotion asks for."""
    from monitoring.audit_page import write_page  # matplotlib

    record = audited(platform.settings, context.partition_key[:7], config, report=steps_to(context))
    page = write_page(record, write_record(record, platform.settings.var / AUDITS).with_suffix(".html"))
    figures = {
        "line": record.line,
        "source": record.source,
        "outcome": str(record.outcome),
        "sentence": record.sentence,
    }
    return dg.MaterializeResult(value=record, metadata={"page": dg.MetadataValue.path(page), **plain(figures)})


def audited(settings: Settings, month: str, config: Audited, *, report: Callable[..., None]) -> AuditRecord:
    """The line's month judged, with the record of the month before where there is one."""
    line = config.line or line_in_question(settings.releases, settings.line)
    dials = AuditConfig(
        min_viewers=config.min_viewers, min_events=config.min_events, traffic_viewers=config.traffic_viewers,
        four_fifths=config.four_fifths, worsened=config.worsened,
    )  # fmt: skip
    rows = audit_rows(settings.lake, month)
    rows = with_reranked(rows, settings, month, line=line, config=config, report=report)
    plan = audit_plan(rows, month=month, line=line, against=config.against, config=dials)
    return audit(rows, plan, before=read_record(settings.var / AUDITS, line, month_before(month)))


def with_reranked(
    rows: AuditRows, settings: Settings, month: str, *, line: str, config: Audited, report: Callable[..., None]
) -> AuditRows:
    """The rows; with the month's requests as a candidate of the line would order them, if too few viewers met that line."""
    sides = to_rerank(settings.releases, settings.var / "candidates", line)
    if sides is None or not met_too_few(rows.impressions, line, viewers=config.traffic_viewers):
        return rows
    again = reranked(settings, month, sides, line=line, report=report)
    return rows if again is None else replace(rows, reranked=again)


def reranked(
    settings: Settings, month: str, sides: tuple[Path, Path], *, line: str, report: Callable[..., None]
) -> Reranked | None:
    """The re-ranked requests, whose file is gone again; None where none can be, and the month's traffic must do."""
    from training.errors import NothingToRerank
    from training.rerank import rerank  # TensorFlow

    with tempfile.TemporaryDirectory(prefix="livefeed-audit-") as scratch:
        file = Path(scratch) / FILE
        try:
            rerank(settings.lake, month, candidate=sides[0], incumbent=sides[1], out=file, report=report)
        except NothingToRerank as error:
            report("rerank", 0, 0, str(error))
            return None
        return load_reranked(file, month=month, line=line)
