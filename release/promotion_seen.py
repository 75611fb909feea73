"""What stored traffic says of a canary: whether its phase may be left, and whether its end has come true."""

from dataclasses import dataclass
from pathlib import Path

from features.errors import FeaturesError
from registry.experiment import Experiment, State
from release.canary_rows import newest_impression, traffic_since
from release.promotion_plan import PromotionConfig, phase_end

DAY_S = 86_400.0


@dataclass(frozen=True)
class Since:
    """Impressions since a canary's end: all, in the canary's arm, and answered by its release."""

    every: int
    in_arm: int
    ours: int

    def __str__(self) -> str:
        return f"of {self.every} impressions since, {self.in_arm} in the canary's arm and {self.ours} answered by its release"


def newest(lake: Path) -> float | None:
    """Event time of the newest stored impression; None where there is none or the tables cannot be read."""
    try:
        return newest_impression(lake)
    except FeaturesError:
        return None


def in_the_way(lake: Path, one: Experiment, config: PromotionConfig) -> str:
    """Why shadow or ramp must not be left though its time is over; "" when it may be.

    The log must be stored up to the phase's end, the labels of its last places with it, or nobody knows what it would say;
    and in the ramp viewers must have met the canary and been answered by it.
    """
    end, stored = phase_end(one, config), newest(lake)
    if end is None:
        return ""
    if stored is None:
        return f"{one.id}: no impression is stored"
    if stored < end:
        return f"{one.id}: the newest stored impression is {(end - stored) / 60:.0f} min too old to judge by"
    return _unanswered(lake, one, config, stored=stored) if one.state is State.RAMP else ""


def _unanswered(lake: Path, one: Experiment, config: PromotionConfig, *, stored: float) -> str:
    """How many of the ramp's viewers the canary did not answer, where that is too many or nobody came."""
    try:
        seen = traffic_since(lake, max(one.phase_at, stored - DAY_S))
    except FeaturesError as error:
        return f"{one.id}: its impressions cannot be read: {error}"
    every = sum(n for (arm, _), n in seen.items() if arm == one.canary)
    ours = sum(n for (arm, name), n in seen.items() if arm == one.canary and one.is_canary(name))
    if every and ours / every >= config.answered_share:
        return ""
    return f"{one.id}: its release answered {ours} of its {every} impressions"


def since_end(lake: Path, one: Experiment, config: PromotionConfig) -> Since | None:
    """The traffic since labels last followed a final state and that has settled; None where none is stored yet."""
    begun = one.phase_at if one.settled_at is None else one.settled_at
    seen = traffic_since(lake, begun + config.settle_s)
    if not seen:
        return None
    return Since(
        sum(seen.values()),
        sum(n for (arm, _), n in seen.items() if arm == one.canary),
        sum(n for (_, name), n in seen.items() if one.is_canary(name)),
    )
