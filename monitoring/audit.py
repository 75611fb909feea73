"""The monthly bias audit of a line: whether groups of viewers are served alike and groups of creators get what they merit.

    record = audit(rows, AuditPlan(line="demo", month="2027-01", candidate=("demo-7",), incumbent=("demo-6",)))

Three outcomes by simultaneous intervals: a group's ratio is proved below four fifths (fail), proved above (pass), or neither
(undecided, which never passes; twice in a row fails). A candidate that makes a ratio worse than the incumbent's by proved
five points fails too; of exposure only what is lost below merit counts, since who had too much must be able to lose it. A
change that is merely unclear is reported and does not hold: level and change together would leave every small platform
undecided. Compared are rates as they come, so a group that likes less of what there is fails a line that treats it alike; the
change beside it tells the two apart.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from itertools import chain

import pyarrow as pa

from monitoring.audit_calibration import Tastes, calibration_notes, taste_notes
from monitoring.audit_cells import FamilyCells, judge_change, judge_level
from monitoring.audit_creators import by_creator, catalogue_counts, creator_groups, explored, inequality, judge_creators
from monitoring.audit_record import (
    AuditConfig,
    AuditReason,
    AuditRecord,
    Family,
    Inequality,
    Note,
    TableRow,
    Trouble,
    concluded,
)  # fmt: skip
from monitoring.audit_reranked import cannot_tell
from monitoring.audit_rows import AuditRows, wrong_with
from monitoring.audit_tables import group_tables
from monitoring.audit_viewers import (
    DIMENSIONS,
    RERANKED,
    Counts,
    Evidence,
    Grouping,
    Shown,
    answered,
    change_sums,
    groupings,
    level_sums,
    met_by,
    reranked,
    shown,
    traffic,
    unique,
)  # fmt: skip
from monitoring.errors import BadPlan
from registry import reranked as reranked_files
from registry.errors import BadReranked

ANSWERED = "answered_rate"
DEFAULT = AuditConfig()


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """Which line's month is audited: its releases, those it is compared with, the dials; BadPlan for no month or overlap."""

    line: str
    month: str  # "2027-01"
    candidate: tuple[str, ...]
    incumbent: tuple[str, ...] = ()
    config: AuditConfig = DEFAULT

    def __post_init__(self) -> None:
        month_days(self.month)
        both = sorted({*self.candidate} & {*self.incumbent})
        if both:
            raise BadPlan(f"release {both[0]} cannot be both candidate and incumbent of an audit")


def audit(rows: AuditRows, plan: AuditPlan, *, before: AuditRecord | None = None) -> AuditRecord:
    """Judge a month; `before` is the line's last record and counts when it is of the month before, by the same evidence."""
    troubles = wrong_with(rows)
    if troubles:
        return _held(rows, plan, troubles)
    viewers = _everybody(rows)
    seen = shown(rows, viewers, candidate=plan.candidate, incumbent=plan.incumbent)
    evidence = _evidence(rows, seen, viewers, plan)
    if not len(evidence.ours.viewer):
        said = f"line {plan.line} showed nothing in {plan.month}, and no re-ranked requests are given"
        return _held(rows, plan, [Trouble(AuditReason.NO_ROWS, said)])
    last = before if before is not None and _follows(before, plan, evidence) else None
    by = groupings(rows, viewers)
    counts = dict(evidence.counts)
    found = answered(rows, viewers)
    if found is not None:
        counts[ANSWERED] = found
    families = [
        *_consumers(counts, by, plan.config, last),
        *_creators(rows, seen, evidence, len(viewers), plan.config, last),
    ]
    cells = tuple(chain.from_iterable(one.cells for one in families))
    said_of = [trouble for one in families for trouble in one.troubles]
    if found is None:
        text = "no request was logged as answered with nothing up to this month, so that this was not audited"
        said_of.append(Trouble(AuditReason.NOT_MEASURED, text, holds=False))
    card = rows.reranked.card if evidence.source == RERANKED and rows.reranked is not None else None
    if evidence.source == RERANKED:
        said_of += cannot_tell(card)
    outcome, reasons, sentence = concluded(cells, said_of)
    return AuditRecord(
        line=plan.line, month=plan.month, at=rows.until, source=evidence.source, outcome=outcome, reasons=reasons,
        sentence=sentence, config=plan.config, cells=cells, troubles=tuple(said_of),
        notes=_notes(rows, evidence, by, viewers, plan.config), inequality=_inequality(rows, evidence),
        tables=_tables(counts, by, plan.config), releases=(card.candidate,) if card else plan.candidate,
        incumbents=(card.incumbent,) if card else plan.incumbent, reranked=card,
    )  # fmt: skip


def month_days(month: str) -> tuple[date, date]:
    """First day of a month, and of the next; BadPlan when it is none."""
    try:
        return reranked_files.month_days(month)
    except BadReranked as error:
        raise BadPlan(str(error)) from None


def month_before(month: str) -> str:
    """The month before, like 2026-12 for 2027-01."""
    first, _ = month_days(month)
    year, number = (first.year, first.month - 1) if first.month > 1 else (first.year - 1, 12)
    return f"{year:04d}-{number:02d}"


def sides_of(releases: Collection[str], line: str, *, against: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of release names `<line>-<version>`, those of the line, and those of `against` (empty: of all other lines)."""
    lines = {one: one.rpartition("-")[0] for one in releases if one.rpartition("-")[2].isdigit()}
    ours = tuple(sorted(name for name, of in lines.items() if of == line))
    theirs = tuple(sorted(name for name, of in lines.items() if of != line and of in (against or of,)))
    return ours, theirs


def _everybody(rows: AuditRows) -> pa.Array:
    """The ids of all viewers who are in any table of what happened."""
    tables = [rows.impressions, rows.requests, rows.reranked.rows if rows.reranked is not None else None]
    return unique(
        pa.chunked_array([c for one in tables if one is not None for c in one["user_id"].chunks], pa.string())
    )


def _evidence(rows: AuditRows, seen: Shown, viewers: pa.Array, plan: AuditPlan) -> Evidence:
    """Traffic, unless the candidate has met too few and re-ranked requests are there."""
    if rows.reranked is not None and met_by(seen, seen.candidate) < plan.config.traffic_viewers:
        return reranked(rows, viewers)
    return traffic(seen, len(viewers), until=rows.until, config=plan.config)


def _held(rows: AuditRows, plan: AuditPlan, troubles: list[Trouble]) -> AuditRecord:
    """A record of an audit that could not be made."""
    outcome, reasons, sentence = concluded((), troubles)
    return AuditRecord(
        line=plan.line, month=plan.month, at=rows.until, source="none", outcome=outcome, reasons=reasons, sentence=sentence,
        config=plan.config, troubles=tuple(troubles), releases=plan.candidate, incumbents=plan.incumbent,
    )  # fmt: skip


def _follows(before: AuditRecord, plan: AuditPlan, evidence: Evidence) -> bool:
    return (before.line, before.month, before.source) == (plan.line, month_before(plan.month), evidence.source)


def _consumers(
    counts: dict[str, Counts], by: dict[str, Grouping], config: AuditConfig, before: AuditRecord | None
) -> list[FamilyCells]:
    out = []
    for dimension, groups in by.items():
        for metric, numbers in counts.items():
            family = Family("consumer", dimension, metric)
            level = judge_level(family, level_sums(numbers, groups), config=config, before=before)
            out.append(level)
            if level.cells:
                moments = change_sums(numbers, groups)
                out.append(judge_change(family, moments, members=level.members, config=config))
    return out


def _creators(
    rows: AuditRows, seen: Shown, evidence: Evidence, viewers: int, config: AuditConfig, before: AuditRecord | None
) -> list[FamilyCells]:
    merit, catalogue = explored(seen), catalogue_counts(rows)
    return [
        judge_creators(
            dimension,
            by,
            candidate=evidence.ours,
            incumbent=evidence.theirs,
            merit=merit,
            catalogue=catalogue,
            viewers=viewers,
            config=config,
            before=before,
        )
        for dimension, by in creator_groups(rows, config).items()
    ]


def _notes(
    rows: AuditRows, evidence: Evidence, by: dict[str, Grouping], viewers: pa.Array, config: AuditConfig
) -> tuple[Note, ...]:
    tastes, n = Tastes.of(rows, viewers), len(viewers)
    out: list[Note] = []
    for dimension in DIMENSIONS:
        out += calibration_notes(dimension, by[dimension], evidence.predicted, viewers=n, config=config)
        out += taste_notes(
            dimension,
            by[dimension],
            tastes=tastes,
            ours=evidence.ours,
            theirs=evidence.theirs,
            viewers=n,
            config=config,
        )
    catalogue = catalogue_counts(rows)
    for dimension, groups in creator_groups(rows, config).items():
        out += by_creator(dimension, groups, evidence.ours, catalogue)
    return tuple(out)


def _inequality(rows: AuditRows, evidence: Evidence) -> tuple[Inequality, ...]:
    sides = (("candidate", evidence.ours), ("incumbent", evidence.theirs))
    return tuple(inequality(name, side, rows.creators.num_rows) for name, side in sides if rows.creators.num_rows)


def _tables(counts: dict[str, Counts], by: dict[str, Grouping], config: AuditConfig) -> tuple[TableRow, ...]:
    return tuple(chain.from_iterable(group_tables(name, groups, counts, config=config) for name, groups in by.items()))
