"""A dial that would switch a check off is refused, with its name, its value and what is allowed."""

import math
from dataclasses import fields
from typing import Any

import msgspec
import pytest

from monitoring.audit_record import AuditConfig
from monitoring.canary_plan import CanaryConfig
from monitoring.errors import BadPlan, MonitoringError
from monitoring.gate import GateConfig
from monitoring.off_policy_gate import OffPolicyConfig
from monitoring.skew import SkewConfig

CONFIGS = (CanaryConfig, AuditConfig, OffPolicyConfig, GateConfig, SkewConfig)


def numbers(config: type) -> list[str]:
    """Names of the dials that are one number."""
    made = config()
    return [f.name for f in fields(made) if type(getattr(made, f.name)) in (int, float)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2.0])
@pytest.mark.parametrize(("config", "name"), [(config, name) for config in CONFIGS for name in numbers(config)])
def test_no_dial_may_be_infinite_no_number_or_far_below_zero(config: type, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} (nan|inf|-inf|-2\.0) of .* is not allowed: [^.]*(\.\d[^.]*)*$"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("config", "dials", "said"),
    [
        (CanaryConfig, {"margin": 1.5}, "margin 1.5 of a canary's gate is not allowed: above 0 and at most 0.5"),
        (CanaryConfig, {"mde": 0.0}, "mde 0.0 of a canary's gate is not allowed: above 0 and at most 1"),
        (CanaryConfig, {"alpha": 0.5}, "alpha 0.5 of a canary's gate is not allowed: above 0 and below 0.5"),
        (CanaryConfig, {"segment_floor": -0.9}, "segment_floor -0.9 of a canary's gate"),
        (CanaryConfig, {"fading_share": 1.0}, "fading_share 1.0 of a canary's gate"),
        (CanaryConfig, {"hours": 0}, "hours 0 of a canary's gate is not allowed: a number, at least 1"),
        (CanaryConfig, {"early_hours": (12, 0)}, "early_hours 0 of a canary's gate"),
        (CanaryConfig, {"both_arms_share": 1.0}, "both_arms_share 1.0 of a canary's gate"),
        (CanaryConfig, {"answered_share": 0.0}, "answered_share 0.0 of a canary's gate"),
        (AuditConfig, {"calibration": (1.1, 1.2)}, "calibration 1.1 to 1.2 of an audit is not allowed: below and above 1"),
        (AuditConfig, {"traffic_viewers": 0}, "traffic_viewers 0 of an audit is not allowed: a number, at least 1"),
        (OffPolicyConfig, {"level": 0.2}, "level 0.2 of an off-policy check"),
        (OffPolicyConfig, {"min_covered": 0.0}, "min_covered 0.0 of an off-policy check"),
        (GateConfig, {"auc_margin": 0.7}, "auc_margin 0.7 of the offline gate is not allowed"),
    ],
)  # fmt: skip
def test_a_dial_out_of_range_says_which_what_and_what_is_allowed(
    config: type, dials: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadPlan) as refused:
        config(**dials)
    assert str(refused.value).startswith(said)
    assert isinstance(refused.value, MonitoringError)


def test_dials_that_are_read_from_a_file_are_refused_by_the_reader() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"margin 1\.5 of a canary's gate is not allowed"):
        msgspec.convert({"margin": 1.5}, CanaryConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_defaults_are_allowed(config: type) -> None:
    assert config() == config()
