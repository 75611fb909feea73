"""What the canary's gate is given: the plan fixed before the start, one look an hour, the line's audit. Values only."""

import math
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from monitoring.dials import CHANCE, PART, POSITIVE, SOME, Allowed, check_dials
from monitoring.errors import BadPlan
from monitoring.stats import Moments, RatioSums
from registry.experiment import line_of
from registry.verdict import Outcome

HOUR_S = 3_600.0
_ALLOWED = {
    "hours": SOME, "day_hours": SOME, "max_hours": SOME, "early_hours": SOME, "alpha": CHANCE,
    "mde": Allowed(0, 1, low_counts=False), "reach": Allowed(1, 10), "practical_share": Allowed(0, 1),
    "harm_alpha": CHANCE, "margin": Allowed(0, 0.5, low_counts=False), "margin_alpha": CHANCE,
    "segment_floor": Allowed(-0.5, 0), "segment_alpha": CHANCE, "segment_min_viewers": Allowed(2),
    "disagree_alpha": CHANCE, "fading_share": PART, "min_viewers": Allowed(2), "min_events": SOME,
    "answered_share": Allowed(0, 1, low_counts=False), "both_arms_share": Allowed(0, 0.1), "ratio_alpha": CHANCE,
    "ratio_strength": POSITIVE, "baseline_alpha": CHANCE, "max_lag_s": Allowed(0, 24 * HOUR_S, low_counts=False),
    "hold_hours": Allowed(0, 168, low_counts=False), "audit_days": Allowed(0, 366, low_counts=False),
    "audit_run_days": Allowed(0, 31),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """The dials of a canary's gate; saved whole with its plan. BadPlan for one that would switch a check off."""

    hours: int = 48  # of event time until the first decision: two full days, so that each hour of day counts alike
    day_hours: int = 24  # an undecided canary goes on by this much, and novelty compares the first and last of these
    max_hours: int = 168  # then it ends without promotion
    alpha: float = 0.05  # two-sided, of the deciding metric's test, which a canary takes once
    mde: float = 0.05  # lift that must be detectable before the test is taken
    reach: float = 2.8  # standard errors that a detectable lift measures: 5 % two-sided with 80 % power
    practical_share: float = 0.5  # of the mde that the estimate must reach
    harm_alpha: float = 0.05  # over all metrics and all looks together: split evenly among the metrics
    margin: float = (
        0.05  # relative loss of a guarding metric that is not a loss; with 5,000 viewers 2 % fails many harmless
    )
    margin_alpha: float = 0.05  # one-sided, of non-inferiority
    segment_floor: float = -0.10  # a group proved to have lost more than this blocks
    segment_alpha: float = 0.05  # over all groups and metrics together (Holm)
    segment_min_viewers: int = 300  # in the canary; smaller groups of one dimension are judged as one
    use_cuped: bool = True  # the deciding test adjusts by the pre-period
    disagree_alpha: float = 0.01  # of arms that differed before, where adjusting turned the lift's sign: a hold
    check_fading: bool = True  # first day's lift against the last day's
    fading_share: float = 0.5  # of the first day's lift that may be lost before it counts as novelty
    min_viewers: int = 500  # in each arm before anything is tested
    min_events: int = 100  # numerator events to expect in each arm before a metric is tested
    answered_share: float = (
        0.5  # of the canary's impressions, so far and in each hour, that its own line must have answered
    )
    both_arms_share: float = 0.001  # of viewers that may have been seen in more than one arm
    ratio_alpha: float = 0.001  # of the sample ratio, at every look and once more at a decision
    ratio_strength: float = 100.0  # how many viewers the belief in the weights counts as
    baseline_alpha: float = (
        0.01  # two-sided at all looks, of the fresh baseline against control, split among the metrics
    )
    max_lag_s: float = 2 * HOUR_S  # event time that the newest event of an arm may lie behind the look
    hold_hours: float = 6.0  # of event time that a hold may last with canary traffic on, before it is rolled back
    audit_days: float = 31.0  # since the end of the month that passed its audit: the longest month may follow it
    audit_run_days: float = 2.0  # and so much more, in which the month after it is labelled and audited
    early_hours: tuple[int, ...] = ()  # looks before `hours` that may promote, at Lan-DeMets bounds; none by default

    def __post_init__(self) -> None:
        check_dials("a canary's gate", self, _ALLOWED)

    def due(self, hour: int) -> bool:
        """Whether a decision is due when this many hours are complete."""
        return hour >= self.hours and (hour - self.hours) % self.day_hours == 0

    def early(self, hour: int) -> bool:
        """Whether this look may promote before the decision is due."""
        return hour in self.early_hours and hour < self.hours


class Role(StrEnum):
    """What a metric is there for."""

    DECIDES = "decides"  # must be better
    GUARDS = "guards"  # must not be worse


class MetricPlan(Struct, frozen=True):
    """One ratio metric: names of two counts a viewer, and the variance its lift is expected to have at the decision."""

    name: str
    numerator: str
    denominator: str
    role: Role
    planned_variance: float  # of the relative lift; fixed before the start and never tuned by what is seen


class ExperimentPlan(Struct, frozen=True, kw_only=True):
    """One canary as it was planned; BadPlan when it cannot be judged."""

    id: str
    line: str  # what canary, verdict and audit attach to
    started_at: float  # epoch seconds of event time: hour 1 begins here
    weights: dict[str, float]  # arm -> configured share of the viewers assigned to this experiment
    metrics: tuple[MetricPlan, ...]
    canary: str = "canary"
    control: str = "stable"
    baseline: str = ""  # an arm that serves what control serves, deployed like the canary; "" for none
    segments: tuple[str, ...] = ()  # dimensions that must be reported: a group is named "language=en"
    config: CanaryConfig = CanaryConfig()
    release: str = ""  # that the canary began with, and ...
    control_line: str = ""  # ... what stable was of: a canary of that same line is known by its release alone

    def __post_init__(self) -> None:
        named = [self.canary, self.control, *([self.baseline] if self.baseline else [])]
        if len(set(named)) < len(named) or not set(named) <= set(self.weights):
            raise BadPlan(f"arms {named} must differ and have a weight; weighted are {sorted(self.weights)}")
        if not all(w > 0 for w in self.weights.values()) or not math.isclose(sum(self.weights.values()), 1.0):
            raise BadPlan(f"weights {self.weights} are not allowed: each above 0, together 1")
        if sum(metric.role is Role.DECIDES for metric in self.metrics) != 1:
            raise BadPlan(f"metrics {[m.name for m in self.metrics]} must have exactly one that decides")
        for metric in self.metrics:
            if not (math.isfinite(metric.planned_variance) and metric.planned_variance > 0):
                raise BadPlan(f"planned variance {metric.planned_variance} of {metric.name} must be above 0")
        if not 0 < self.config.day_hours <= self.config.hours <= self.config.max_hours:
            raise BadPlan(f"hours {self.config.hours} must lie between day_hours and max_hours")

    @property
    def deciding(self) -> MetricPlan:
        """The metric that must be better."""
        return next(metric for metric in self.metrics if metric.role is Role.DECIDES)

    def is_canary(self, release: str) -> bool:
        """Whether a release is the canary's, or an increment of it where it has a line of its own."""
        return release == self.release or (line_of(release) == self.line != self.control_line)


class ArmLook(Struct, frozen=True, kw_only=True):
    """One arm, everything cumulated from the start; None for sums that were not numbers."""

    viewers: int
    newest_at: float | None  # event time of the arm's newest event; None without one
    metrics: dict[str, RatioSums | None]
    before: dict[
        str, Moments | None
    ] = {}  # metric -> moments with the pre-period (cuped.COLUMNS); when a decision is due
    days: dict[str, Moments | None] = {}  # metric -> moments of first and last day (cuped.DAYS); when a decision is due
    segments: dict[str, dict[str, RatioSums | None]] = {}  # group -> metric -> sums; when a decision is due


class HourLook(Struct, frozen=True, kw_only=True):
    """What is known when that many hours of event time are complete."""

    hour: int
    at: float  # epoch seconds: the end of that hour
    arms: dict[str, ArmLook]
    missing_hours: tuple[int, ...] = ()  # hours so far whose data are not complete
    in_both: int = 0  # viewers seen in more than one arm
    canary_share: float = 1.0  # of all viewers, whom the canary is meant to answer in that hour; 0 when it is off
    answered: float = 1.0  # of the canary's impressions, what its line answered: the lower of so far and in that hour

    def __post_init__(self) -> None:
        if (
            self.hour < 1
            or not math.isfinite(self.at)
            or not all(0 <= one <= 1 for one in (self.canary_share, self.answered))
        ):
            raise BadPlan(
                f"look of hour {self.hour} at {self.at} with share {self.canary_share}, of which {self.answered} answered, "
                "is not allowed: hours count from 1, times are finite, shares lie between 0 and 1"
            )


class Looks(Struct, frozen=True):
    """A canary as seen so far, hours rising."""

    experiment: ExperimentPlan
    hours: tuple[HourLook, ...]


class Audit(Struct, frozen=True):
    """The last bias audit of a line."""

    line: str
    outcome: Outcome
    at: float  # epoch seconds

    def __post_init__(self) -> None:
        if not math.isfinite(self.at):
            raise BadPlan(f"audit of line {self.line} at {self.at} is not allowed: its time must be a number")


STANDARD = (
    ("ctr", "clicks", "impressions", Role.DECIDES),
    ("completion_rate", "completions", "starts", Role.GUARDS),
    ("session_depth", "items", "sessions", Role.GUARDS),
)


def standard_metrics(planned_variance: dict[str, float]) -> tuple[MetricPlan, ...]:
    """CTR decides, completion rate and session depth guard; variances by metric name."""
    return tuple(MetricPlan(name, y, x, role, planned_variance[name]) for name, y, x, role in STANDARD)
