"""Whether the bias audit that a promotion needs stands at a moment."""

from monitoring.canary_findings import audited
from monitoring.canary_plan import Audit, HourLook
from registry.experiment import Experiment
from release.promotion_plan import plan_of


def against(one: Experiment, audit: Audit | None, *, now: float) -> str:
    """Why a promotion that is decided must not be carried out now, by the rule that it was decided with; "" when it may."""
    found, _ = audited(plan_of(one), HourLook(hour=1, at=now, arms={}), audit)
    return "; ".join(finding.text for finding in found)
