"""What stands against the start of a promotion, and the experiment that it begins with: planned, made, kept on disk."""

import math
from pathlib import Path

import msgspec

from events.clock import utc
from features.errors import FeaturesError
from monitoring.errors import MonitoringError
from monitoring.off_policy_gate import OffPolicyVerdict
from registry.experiment import Experiment, Record, line_of
from registry.manifest import Manifest
from release.canary_view import planned_variances
from release.errors import CannotStart
from release.promotion_plan import PromotionConfig, as_record, plan_of, started_at
from release.traffic import Report

PLAN, DECISIONS, GIVEN = "plan.json", "decisions.jsonl", "off_policy_given.json"


def may_start(record: Record, manifest: Manifest, stable: str, off_policy: OffPolicyVerdict | None) -> None:
    """CannotStart for everything that stands against a start, where `stable` is live."""
    may_run(record)
    if off_policy is not None and off_policy.stops:
        raise CannotStart(f"the log speaks against {manifest.name}: {'; '.join(off_policy.texts)}")
    if stable in ("", manifest.name):
        raise CannotStart(f"{manifest.name} has nothing to be compared with: stable is {stable or 'nothing yet'}")


def may_run(record: Record) -> None:
    """CannotStart where the record lets no experiment begin: switched off, pinned, or another one runs."""
    one = record.experiment
    if record.killed:
        raise CannotStart("experiments are switched off; livefeed promotion resume switches them on")
    if record.pin:
        raise CannotStart(f"everybody is pinned to {record.pin}; livefeed promotion pin --off takes it back")
    if one is not None and one.state.runs:
        raise CannotStart(f"{one.id} is {one.state}; one canary runs at a time")


def planned(lake: Path, config: PromotionConfig, *, now: float, report: Report) -> PromotionConfig:
    """The dials with planned variances; CannotStart when neither dials nor tables have them."""
    if config.planned:
        return config
    try:
        found = planned_variances(
            lake, until=now, hours=config.gate.hours, canary_share=config.share,
            control_share=1.0 - config.share - config.baseline,
        )  # fmt: skip
    except (FeaturesError, MonitoringError) as error:
        raise CannotStart(f"no variance can be planned: {error}") from None
    least = config.gate.reach * math.sqrt(found["ctr"])
    report(f"after {config.gate.hours} h a lift of {least:.1%} is detectable, as viewers are now")
    return msgspec.convert(as_record(config) | {"planned": found}, PromotionConfig)


def made(manifest: Manifest, stable: str, config: PromotionConfig, *, now: float) -> Experiment:
    """The experiment of a candidate against what is stable; CannotStart when it could not be judged as planned."""
    name, state = f"{manifest.name}-{utc(now):%Y%m%dT%H%M%S}", config.first_state()
    one = Experiment(
        id=name, salt=name, line=manifest.line, release=manifest.name, control_line=line_of(stable),
        control_release=stable, state=state, arms=config.arms(), baseline="baseline" if config.baseline else "",
        exposure=config.exposure(state), shadow_share=config.shadow_share, created_at=now, phase_at=now,
        started_at=started_at(state, config, now=now), config=as_record(config),
    )  # fmt: skip
    try:
        plan_of(msgspec.structs.replace(one, started_at=now))
    except (MonitoringError, ValueError, KeyError) as error:  # msgspec's are ValueErrors
        raise CannotStart(f"the canary could not be judged as planned: {error}") from None
    return one


def keep(folder: Path, one: Experiment, off_policy: OffPolicyVerdict | None) -> None:
    """Write the plan into the canary's folder; CannotStart where that folder has decisions of an earlier canary."""
    if (folder / DECISIONS).exists():
        raise CannotStart(
            f"{one.id} has been decided before, in {folder / DECISIONS}; start it at another time (--now)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_bytes(msgspec.json.format(msgspec.json.encode(one)))
    if off_policy is not None:
        (folder / GIVEN).write_bytes(msgspec.json.format(msgspec.json.encode(off_policy)))
