"""How a canary is rolled out and judged: dials, arms, phases, and the plan that the gate is given. No tables, no traffic."""

import math
from dataclasses import dataclass, field
from typing import Any

import msgspec

from monitoring.canary_plan import HOUR_S, STANDARD, CanaryConfig, ExperimentPlan, standard_metrics
from monitoring.off_policy_gate import OffPolicyConfig
from monitoring.off_policy_lake import WINDOW_S
from registry.experiment import ArmShare, Experiment, State
from release.errors import CannotStart
from release.traffic import CANARY
from serving.feed import STABLE

BASELINE = "baseline"
SEGMENTS = ("language", "age_band", "gender")


@dataclass(frozen=True, kw_only=True)
class PromotionConfig:
    """The dials of a promotion, saved whole in its record; hours are of event time."""

    share: float = 0.05  # of all viewers, in the canary
    baseline: float = 0.05  # of all viewers, in an arm that serves what stable serves: a running A/A; 0 for none
    shadow_hours: float = (
        0.0  # with the canary loaded everywhere and answering nobody; it chooses for the explored places
    )
    shadow_share: float = 1.0  # of all requests, that it chooses for
    shadow_patience_hours: float = 24.0  # past the phase's end, that a log which cannot be read is waited for
    ramp_share: float = 0.01  # of all viewers, at first
    ramp_hours: float = 1.0
    settle_s: float = 60.0  # from a change of shares to the first event that counts, and from an hour's end to its look
    patience_s: float = 2 * HOUR_S  # that an hour's data may be late before the hour is looked at without them
    before_days: int = 14  # of what viewers did before, for CUPED
    answered_share: float = 0.5  # of the canary's feeds in the ramp that it must have answered itself
    segments: tuple[str, ...] = SEGMENTS
    planned: dict[str, float] = field(default_factory=dict)  # variances by metric; empty: from the tables at the start
    gate: CanaryConfig = field(default_factory=CanaryConfig)
    off_policy: OffPolicyConfig = field(default_factory=OffPolicyConfig)

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 <= self.baseline < 1 - self.share and 0 < self.ramp_share <= self.share):
            raise CannotStart(
                f"shares canary {self.share}, baseline {self.baseline} and ramp {self.ramp_share} are not allowed: canary "
                "and baseline leave something to stable, and the ramp begins with no more than the canary's share"
            )
        if not 0 < self.shadow_share <= 1:
            raise CannotStart(f"shadow_share {self.shadow_share} of a promotion is not allowed: above 0, at most 1")
        times = (
            self.shadow_hours, self.ramp_hours, self.settle_s, self.patience_s, float(self.before_days),
            self.shadow_patience_hours,
        )  # fmt: skip
        if not all(math.isfinite(one) and one >= 0 for one in times):
            raise CannotStart(f"durations {times} of a promotion are not allowed: each 0 or more")
        if not 0 <= self.answered_share <= 1:
            raise CannotStart(f"answered_share {self.answered_share} of a promotion is not allowed: 0 to 1")
        if not set(self.segments) <= set(SEGMENTS):
            raise CannotStart(f"segments {self.segments} of a promotion are not allowed: any of {', '.join(SEGMENTS)}")
        metrics = [name for name, *_ in STANDARD]
        if self.planned and (set(self.planned) != set(metrics) or not all(map(_varies, self.planned.values()))):
            raise CannotStart(
                f"planned variances {self.planned} are not allowed: a number above 0 for each of {', '.join(metrics)}"
            )

    def arms(self) -> tuple[ArmShare, ...]:
        """The arms at full exposure; control is the rest."""
        fresh = (ArmShare(BASELINE, STABLE, self.baseline),) if self.baseline else ()
        rest = round(1.0 - self.share - self.baseline, 12)  # not 0.8999999999999999
        return (ArmShare(CANARY, CANARY, self.share), *fresh, ArmShare(STABLE, STABLE, rest))

    def first_state(self) -> State:
        """The state a promotion begins in."""
        return State.SHADOW if self.shadow_hours else self.after(State.SHADOW)

    def after(self, state: State) -> State:
        """The state that follows in time."""
        return State.RAMP if state is State.SHADOW and self.ramp_hours else State.CANARY

    def exposure(self, state: State) -> float:
        """The part of its share that the canary has in a state."""
        return self.ramp_share / self.share if state is State.RAMP else 1.0


def _varies(variance: float) -> bool:
    return math.isfinite(variance) and variance > 0


def started_at(state: State, config: PromotionConfig, *, now: float) -> float | None:
    """When hour 1 begins if the experiment comes into `state` now; None before the canary has its whole share."""
    return now + config.settle_s if state is State.CANARY else None


def phase_end(experiment: Experiment, config: PromotionConfig) -> float | None:
    """The event time up to which the log must be stored before the phase is left; None for a state the clock does not end.

    Of the shadow that is when its last places have their labels.
    """
    match experiment.state:
        case State.SHADOW:
            return experiment.phase_at + config.shadow_hours * HOUR_S + WINDOW_S
        case State.RAMP:
            return experiment.phase_at + config.ramp_hours * HOUR_S
        case _:
            return None


def due_phase(experiment: Experiment, config: PromotionConfig, *, now: float) -> State | None:
    """The state to go on to, None while this one lasts or what ends it cannot be stored yet."""
    end = phase_end(experiment, config)
    return config.after(experiment.state) if end is not None and now >= end + config.settle_s else None


def overdue_hours(experiment: Experiment, config: PromotionConfig, *, now: float) -> float:
    """Hours since the phase could have been left, 0 before that and for a state that the clock does not end."""
    end = phase_end(experiment, config)
    return 0.0 if end is None else max(0.0, (now - end - config.settle_s) / HOUR_S)


def patience_hours(experiment: Experiment, config: PromotionConfig) -> float:
    """How many hours a phase may be overdue before the canary ends in it."""
    return config.shadow_patience_hours if experiment.state is State.SHADOW else float(config.gate.max_hours)


def complete_hours(experiment: Experiment, config: PromotionConfig, *, now: float, newest: float | None) -> int:
    """Hours that may be looked at: over, and with data from beyond their end, or later than patience allows.

    One more than the longest canary at most: that look ends it.
    """
    if experiment.started_at is None:
        return 0
    stored = -math.inf if newest is None else newest - config.settle_s  # other partitions may be behind the newest
    known = max(now - config.patience_s, min(now, stored))
    hours = math.floor((known - experiment.started_at) / HOUR_S)
    return max(0, min(hours, config.gate.max_hours + 1))


def plan_of(experiment: Experiment) -> ExperimentPlan:
    """What the gate is given; the experiment must have come to its whole share."""
    config = config_of(experiment)
    assert experiment.started_at is not None  # callers look at complete hours, of which there are none before
    return ExperimentPlan(
        id=experiment.id, line=experiment.line, release=experiment.release, control_line=experiment.control_line,
        started_at=experiment.started_at,
        weights={arm.name: arm.share for arm in experiment.arms}, metrics=standard_metrics(config.planned),
        canary=experiment.canary, control=experiment.control, baseline=experiment.baseline, segments=config.segments,
        config=config.gate,
    )  # fmt: skip


def config_of(experiment: Experiment) -> PromotionConfig:
    """The dials that the record carries."""
    return msgspec.convert(experiment.config, PromotionConfig)


def as_record(config: PromotionConfig) -> dict[str, Any]:
    """The dials as the record carries them: as they come back from JSON."""
    return dict(msgspec.json.decode(msgspec.json.encode(config)))
