"""Canaries made by hand: two arms of alike viewers, of whom one half does a little less and the other a little more."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from monitoring.canary_plan import (
    HOUR_S,
    ArmLook,
    Audit,
    CanaryConfig,
    ExperimentPlan,
    HourLook,
    Looks,
    standard_metrics,
)
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome

STARTED = 1_700_000_000.0
VIEWERS = 1_000
AUDIT = Audit("line 7", Outcome.PASS, STARTED)
# Half the viewers click once in ten impressions and half three times: a variation of one half of the mean, so the lift's
# standard error between two arms of 1,000 is 0.5 * sqrt(2 / 1000) = 0.0224, and 2.8 of them are 0.0626.
CONFIG = CanaryConfig(mde=0.10)


def plan(**dials: Any) -> ExperimentPlan:
    """Half and half, the planned variance that the hand-made arms have."""
    return ExperimentPlan(
        id="canary 7", line="line 7", started_at=STARTED, weights={"canary": 0.5, "stable": 0.5},
        metrics=standard_metrics({"ctr": 5e-4, "completion_rate": 5e-4, "session_depth": 5e-4}),
        config=replace(CONFIG, **dials),
    )  # fmt: skip


def halves(mean: float, *, viewers: int = VIEWERS, spread: float = 0.5) -> np.ndarray:
    """Counts of that mean, half below and half above by the spread."""
    return np.tile([mean * (1 - spread), mean * (1 + spread)], viewers // 2)


def arm(
    *,
    ctr: float = 0.2,
    completion: float = 0.4,
    depth: float = 10.0,
    first_day: float | None = None,
    last_day: float | None = None,
    viewers: int = VIEWERS,
    at: float = STARTED,
    segments: dict[str, float] | None = None,
) -> ArmLook:
    """An arm of which every viewer has 10 impressions, 10 starts and 1 session; groups are given by their click rate."""
    ones, clicks = np.ones(viewers), halves(10 * ctr, viewers=viewers)
    first, last = (halves(5 * (ctr if day is None else day), viewers=viewers) for day in (first_day, last_day))
    last = np.concatenate([last[::2], last[1::2]])  # who clicks less on the last day is not who did on the first
    others = {
        "completion_rate": RatioSums.of(halves(10 * completion, viewers=viewers), 10 * ones),
        "session_depth": RatioSums.of(halves(depth, viewers=viewers), ones),
    }
    return ArmLook(
        viewers=viewers, newest_at=at, metrics={"ctr": RatioSums.of(clicks, 10 * ones), **others},
        before={"ctr": Moments.of(clicks, 10 * ones, 0 * ones, 0 * ones, ones)},
        days={"ctr": Moments.of(first, 5 * ones, last, 5 * ones)},
        segments={
            group: {"ctr": RatioSums.of(halves(10 * rate, viewers=viewers), 10 * ones), **others}
            for group, rate in (segments or {}).items()
        },
    )  # fmt: skip


def look(hour: int, canary: ArmLook | None = None, control: ArmLook | None = None, **changes: Any) -> HourLook:
    """A look with fresh data at the end of that hour."""
    at = STARTED + hour * HOUR_S
    arms = {"canary": canary or arm(), "stable": control or arm()}
    arms = {name: msgspec.structs.replace(one, newest_at=at - 60.0) for name, one in arms.items()}
    return msgspec.structs.replace(HourLook(hour=hour, at=at, arms=arms), **changes)


def looks(*hours: HourLook, **dials: Any) -> Looks:
    """A canary seen at these hours."""
    return Looks(plan(**dials), hours)
