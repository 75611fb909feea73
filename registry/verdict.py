"""A gate's answer: pass, fail or undecided, with reasons from a fixed list and every number. Undecided never promotes."""

from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from registry.errors import BadVerdict

VERDICT = "verdict.json"  # in the candidate's folder, written by the gate, read by the deployment


class Outcome(StrEnum):
    """What a gate can say."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


class Reason(StrEnum):
    """Why; a verdict carries at least one."""

    BEATS_BASELINE = "beats_baseline"
    WORSE_THAN_BASELINE = "worse_than_baseline"
    INTERVAL_COVERS_ZERO = "interval_covers_zero"
    NO_DATA = "no_data"
    NOT_A_NUMBER = "not_a_number"
    TOO_FEW_VIEWERS = "too_few_viewers"
    MODELS_PASSED = "models_passed"  # of a variant: the models did with another formula; enough for a canary alone
    # what a canary cannot be judged by: traffic stays, somebody is told
    LATE_DATA = "late_data"
    MISSING_HOURS = "missing_hours"
    MISSING_METRIC = "missing_metric"
    NOT_ANSWERED = "not_answered"  # by the canary's line, though its viewers were assigned to it
    IMPOSSIBLE_SUMS = "impossible_sums"
    SEEN_IN_BOTH_ARMS = "seen_in_both_arms"
    SAMPLE_RATIO = "sample_ratio"
    BASELINE_DIFFERS = "baseline_differs"
    ESTIMATES_DISAGREE = "estimates_disagree"
    CRASHED = "crashed"
    HELD_TOO_LONG = "held_too_long"
    # what a canary is rolled back for
    HARMED = "harmed"
    # what it waits for
    COLLECTING = "collecting"
    UNDERPOWERED = "underpowered"
    FADING = "fading"
    NOT_SHOWN_NON_INFERIOR = "not_shown_non_inferior"
    AUDIT_MISSING = "audit_missing"
    AUDIT_OVERDUE = "audit_overdue"
    AUDIT_UNDECIDED = "audit_undecided"
    # what ends it without promotion
    NOT_BETTER = "not_better"
    TOO_SMALL_A_GAIN = "too_small_a_gain"
    OUT_OF_TIME = "out_of_time"
    SEGMENT_HARMED = "segment_harmed"
    AUDIT_FAILED = "audit_failed"
    OFF_POLICY_FAILED = "off_policy_failed"  # in shadow, before a viewer met it


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One comparison of candidate and baseline; None where it could not be computed.

    Offline, low and high are the 95 % interval of the difference. Of a canary, `check` names the step; estimate, se, low,
    high and threshold are relative lifts (0.05 is five per cent more) unless the step says otherwise; n counts viewers.
    """

    metric: str
    candidate: float | None
    baseline: float | None
    low: float | None
    high: float | None
    n: int
    check: str = ""
    estimate: float | None = None
    se: float | None = None
    threshold: float | None = None
    p: float | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """The gate's whole answer about one release."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    evidence: tuple[Evidence, ...] = ()
    decided_at: str = ""

    @property
    def passed(self) -> bool:
        """True for a pass and nothing else."""
        return self.outcome is Outcome.PASS


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write verdict.json into a candidate's folder."""
    (folder / VERDICT).write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))


def read_verdict(folder: Path) -> Verdict:
    """Read a candidate's verdict; BadVerdict names the file."""
    path = folder / VERDICT
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadVerdict(f"verdict {path} cannot be read: {error}") from None
