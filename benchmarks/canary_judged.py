"""What else was judged of the drill's canaries: their audits again with other dials, and what the log said of a shadow phase.

An audit is made again of the very rows that Dagster's was made of: nothing has happened since.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.canary_ground import MONTH, AuditDials, Ground, Stretch
from monitoring.audit import audit
from monitoring.audit_creators import MERIT
from monitoring.audit_lake import audit_plan, audit_rows
from monitoring.audit_record import AuditConfig, AuditRecord, Check, read_record
from monitoring.audit_rows import AuditRows
from monitoring.off_policy_lake import OffPolicyRecord
from registry.experiment import Experiment
from registry.verdict import Outcome
from release.promotion_parts import AUDITS
from release.promotion_shadow import sentence
from settings import Settings

CODES = {Outcome.PASS: 0.0, Outcome.UNDECIDED: 1.0, Outcome.FAIL: 2.0}
Figures = dict[str, float | None]
# Dials beside the drill's: its floors with the default lines, and every default.
DEFAULTS = {"default_lines": ("min_viewers", "min_events", "traffic_viewers"), "default": ()}


@dataclass(frozen=True)
class Audits:
    """A line's audit as Dagster recorded it (None: it did not), and by name what other dials would have made of it."""

    recorded: AuditRecord | None = None
    again: Mapping[str, AuditRecord] = field(default_factory=dict)

    def figures(self) -> Figures:
        """Outcomes (0 pass, 1 hold, 2 block), and of what creators were due the least they had and the most they lost."""
        cells = [one for one in self.recorded.cells if one.family.metric == MERIT] if self.recorded else []
        told = {check: [c.estimate for c in cells if c.check is check and c.estimate is not None] for check in Check}
        out: Figures = {
            "audit_outcome": code(self.recorded),
            "audit_least_of_merit": min(told[Check.LEVEL], default=None),
            "audit_most_lost": min(told[Check.CHANGE], default=None),
        }
        return out | {f"audit_{name}_outcome": code(self.again.get(name)) for name in DEFAULTS}


@dataclass(frozen=True)
class Shadowed:
    """A shadow phase at its end: what was answered in it, and the verdict of its log (None: it was not made)."""

    stretch: Stretch
    record: OffPolicyRecord | None

    def figures(self) -> Figures:
        """Outcome (0 pass, 1 undecided, 2 fail), the places, viewers and rows it was made of, the canary's share of pages."""
        record = self.record
        seen = record.verdict.overlap if record else None
        return {
            "shadow_outcome": CODES[record.verdict.outcome] if record else None,
            "shadow_explored": float(record.read.explored) if record else None,
            "shadow_places": float(record.read.scored) if record else None,
            "shadow_viewers": float(seen.viewers) if seen else None,
            "shadow_rows": seen.ess_difference if seen else None,
            "shadow_canary_share": self.stretch.share("canary"),
        }


def code(record: AuditRecord | None) -> float | None:
    """An audit's outcome as a number: 0 pass, 1 hold, 2 block."""
    return CODES[record.outcome] if record else None


def audited(settings: Settings, line: str, dials: AuditDials, *, against: str) -> Audits:
    """The line's audit of the month, and what default dials make of its rows; only while the tables end where it did."""
    recorded = read_record(settings.var / AUDITS, line, MONTH)
    rows = audit_rows(settings.lake, MONTH)
    if recorded is None or recorded.at != rows.until:
        return Audits(recorded)
    return Audits(recorded, again(rows, line, dials, against=against))


def again(rows: AuditRows, line: str, dials: AuditDials, *, against: str) -> dict[str, AuditRecord]:
    """The same rows judged by the default lines with the drill's floors, and by every default."""
    configs = {name: AuditConfig(**{dial: getattr(dials, dial) for dial in kept}) for name, kept in DEFAULTS.items()}
    return {
        name: audit(rows, audit_plan(rows, month=MONTH, line=line, against=against, config=config))
        for name, config in configs.items()
    }


def shadowed(ground: Ground, one: Experiment, *, hours: float) -> Shadowed:
    """Play a shadow phase of so many hours of event time to its end, and have Dagster judge its log and go on."""
    stretch = ground.stretch(hours + 0.5)  # the log is judged up to where labels can be known
    experiment = ground.drive.evaluate(one).experiment
    record = ground.drive.promotion.off_policy(experiment)
    ground.say(f"   {sentence(record)}" if record else "   no verdict of the shadow phase")
    ground.say(f"   {experiment.id} is {experiment.state}; in its shadow {stretch.said()}")
    return Shadowed(stretch, record)
