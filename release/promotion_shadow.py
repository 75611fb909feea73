"""What the log says of a release in shadow, before a viewer meets it: judged when the phase ends, and kept beside the plan.

    record = as_of(lake, experiment, config, now=now)    # of the phase so far
    record = closing(folder, lake, experiment, config, now=now)    # made once, then read: whoever asks again gets the same

A fail ends the canary. Undecided and pass both go on, since the check can only stop; `sentence` says which it was.
"""

import os
from pathlib import Path

import msgspec

from monitoring.canary_plan import HOUR_S
from monitoring.errors import BadRecord
from monitoring.off_policy_lake import WINDOW_S, OffPolicyRecord, ShadowPhase, evaluate
from registry.experiment import Experiment
from registry.verdict import Outcome, Reason, Verdict
from release.canary_rows import newest_impression
from release.promotion_plan import PromotionConfig

OFF_POLICY = "off_policy.json"


def shadow_phase(
    one: Experiment, config: PromotionConfig, *, now: float, newest: float | None
) -> ShadowPhase:  # fmt: skip
    """The part of the log to judge by: from the phase's beginning to where answers can still come, at most to its end.

    `newest` is the newest stored impression's event time; of what is younger than it by less than the labels' windows, or by
    what partitions may be behind, nothing is judged. The experiment is in shadow.
    """
    stored = now if newest is None else min(now, newest - config.settle_s)
    until = min(one.phase_at + config.shadow_hours * HOUR_S, stored - WINDOW_S)
    line = one.line if one.line != one.control_line else ""
    return ShadowPhase(
        id=one.id, release=one.release, line=line, arm=one.control, since=one.phase_at, until=max(until, one.phase_at)
    )


def as_of(lake: Path, one: Experiment, config: PromotionConfig, *, now: float) -> OffPolicyRecord:
    """The verdict on an experiment in shadow from what is stored by now; FeaturesError or MonitoringError without one."""
    phase = shadow_phase(one, config, now=now, newest=newest_impression(lake))
    return evaluate(lake, phase, config=config.off_policy)


def closing(folder: Path, lake: Path, one: Experiment, config: PromotionConfig, *, now: float) -> OffPolicyRecord:
    """The verdict that the phase ends with: the one in the canary's folder, else made now and written there."""
    record = read_record(folder)
    if record is None:
        record = as_of(lake, one, config, now=now)
        _write(folder, record)
    return record


def read_record(folder: Path) -> OffPolicyRecord | None:
    """The verdict in a canary's folder; None where there is none yet, BadRecord when it cannot be read."""
    path = folder / OFF_POLICY
    try:
        return msgspec.json.decode(path.read_bytes(), type=OffPolicyRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadRecord(f"the off-policy verdict {path} cannot be read: {error}") from None


def sentence(record: OffPolicyRecord) -> str:
    """The verdict in one sentence."""
    said = "; ".join(record.verdict.texts)
    match record.verdict.outcome:
        case Outcome.FAIL:
            return f"off-policy: the log speaks against {record.phase.release}: {said}"
        case Outcome.PASS:
            return f"off-policy: {said}"
        case _:
            return f"off-policy: undecided, nothing was checked before viewers meet {record.phase.release}: {said}"


def final_verdict(record: OffPolicyRecord) -> Verdict:
    """The canary's verdict when the log has ended it."""
    return Verdict(outcome=record.verdict.outcome, reasons=(Reason.OFF_POLICY_FAILED,))


def _write(folder: Path, record: OffPolicyRecord) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{OFF_POLICY}.{os.getpid()}"
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record)))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / OFF_POLICY)
