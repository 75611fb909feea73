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


class Evidence(Struct, frozen=True, kw_only=True):
    """One comparison: candidate minus baseline with its 95 % interval; None where it could not be computed."""

    metric: str
    candidate: float | None
    baseline: float | None
    low: float | None
    high: float | None
    n: int


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
