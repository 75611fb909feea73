"""The log of a canary's decisions: JSON lines, appended and never changed, each with all that was judged and its hash.

An hour is decided once. Only a held hour may be judged again, with other data; after a final decision nothing is judged.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from monitoring.canary_gate import Action, Decision, State, crashed, judge
from monitoring.canary_plan import ArmLook, Audit, ExperimentPlan, HourLook, Looks
from monitoring.errors import BadRecord
from monitoring.stats import Moments, RatioSums


class Crash(Struct, frozen=True):
    """A look that could not be made."""

    hour: int
    at: float  # event time, epoch seconds
    error: str
    canary_share: float = 1.0


class Judged(Struct, frozen=True, kw_only=True):
    """Everything that a decision depends on; look or crash is None."""

    plan: ExperimentPlan
    before: State
    audit: Audit | None
    look: HourLook | None = None
    crash: Crash | None = None

    @property
    def hour(self) -> int:
        """The hour that was judged."""
        return self.look.hour if self.look is not None else self.crash.hour if self.crash is not None else 0


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the log."""

    hash: str  # sha256 of the judged input
    judged: Judged
    decision: Decision


def decide(path: Path, looks: Looks, *, audit: Audit | None = None) -> list[Entry]:
    """Judge every look that is due and not yet decided, append each decision, and return what was appended."""
    with _locked(path) as log:
        entries, added = _entries(log, path), []
        for look in looks.hours:
            judged = Judged(plan=looks.experiment, before=_before(entries, look.hour), audit=audit, look=clean(look))
            entry = _decide(entries, judged)
            if entry is not None:
                _append(log, entry)
                entries.append(entry)
                added.append(entry)
        return added


def decide_or_hold(
    path: Path, plan: ExperimentPlan, read: Callable[[], Looks], *, hour: int, at: float, share: float = 1.0,
    audit: Audit | None = None,
) -> list[Entry]:  # fmt: skip
    """Judge what `read` gives; when reading or judging fails, that is a hold of this hour with the error in its text.

    `at` is the event time of the look in epoch seconds, `share` the canary's traffic now.
    """
    try:
        return decide(path, read(), audit=audit)
    except BadRecord:
        raise  # a log that cannot be read cannot take the hold either
    except Exception as error:  # noqa: BLE001  whatever it was, the canary is held and the log says why
        return hold(path, plan, Crash(hour, at, f"{type(error).__name__}: {error}", share), audit=audit)


def hold(path: Path, plan: ExperimentPlan, crash: Crash, *, audit: Audit | None = None) -> list[Entry]:
    """Append the hold of an hour that could not be looked at, unless that hour is decided."""
    with _locked(path) as log:
        entries = _entries(log, path)
        judged = Judged(plan=plan, before=_before(entries, crash.hour), audit=audit, crash=crash)
        entry = _decide(entries, judged)
        if entry is None:
            return []
        _append(log, entry)
        return [entry]


def read_log(path: Path) -> list[Entry]:
    """Every decision in order, none when there is no log; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    with path.open("rb") as log:
        return _entries(log, path)


def closing(entries: Sequence[Entry]) -> Entry | None:
    """The final decision, or None while the canary runs."""
    return next((entry for entry in entries if entry.decision.action.final), None)


def replay(entry: Entry) -> Decision:
    """Judge an entry's input again; BadRecord when the input is not what was hashed."""
    if fingerprint(entry.judged) != entry.hash:
        raise BadRecord(f"the input of hour {entry.judged.hour} is not the one that was judged: its hash differs")
    return _judge(entry.judged)


def fingerprint(judged: Judged) -> str:
    """sha256 of the input, over its JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(judged, order="deterministic")).hexdigest()


def clean(look: HourLook) -> HourLook:
    """The look with None in place of sums that are not numbers, which JSON cannot carry; the gate holds on both alike."""
    return msgspec.structs.replace(look, arms={name: _clean(arm) for name, arm in look.arms.items()})


def _clean(arm: ArmLook) -> ArmLook:
    newest = arm.newest_at
    return msgspec.structs.replace(
        arm,
        newest_at=newest if newest is not None and abs(newest) < float("inf") else None,
        metrics={name: _number(sums) for name, sums in arm.metrics.items()},
        before={name: _moments(one) for name, one in arm.before.items()},
        days={name: _moments(one) for name, one in arm.days.items()},
        segments={group: {name: _number(s) for name, s in of.items()} for group, of in arm.segments.items()},
    )


def _number(sums: RatioSums | None) -> RatioSums | None:
    if sums is None:
        return None
    return sums if all(abs(v) < float("inf") for v in (sums.n, sums.y, sums.x, sums.yy, sums.xx, sums.xy)) else None


def _moments(one: Moments | None) -> Moments | None:
    return one if one is not None and all(abs(v) < float("inf") for v in (one.n, *one.sums, *one.products)) else None


def _judge(judged: Judged) -> Decision:
    if judged.look is not None:
        return judge(judged.plan, judged.look, state=judged.before, audit=judged.audit)
    crash = judged.crash
    if crash is None:
        raise BadRecord("a record has neither a look nor a crash; it must have one")
    return crashed(
        judged.plan, crash.error, hour=crash.hour, at=crash.at, canary_share=crash.canary_share, state=judged.before
    )


def _decide(entries: Sequence[Entry], judged: Judged) -> Entry | None:
    """The new entry, or None when this hour is settled, was judged with the same data, or comes after the end."""
    if closing(entries):
        return None
    same = [entry for entry in entries if entry.judged.hour == judged.hour]
    if any(entry.decision.action is not Action.HOLD for entry in same):
        return None
    if any((e.judged.look, e.judged.crash, e.judged.audit) == (judged.look, judged.crash, judged.audit) for e in same):
        return None
    return Entry(hash=fingerprint(judged), judged=judged, decision=_judge(judged))


def _before(entries: Sequence[Entry], hour: int) -> State:
    """What the last decision on an earlier hour left."""
    earlier = [entry for entry in entries if entry.judged.hour < hour]
    if not earlier:
        return State()
    last = max(entry.judged.hour for entry in earlier)
    return [entry for entry in earlier if entry.judged.hour == last][-1].decision.after


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The log open for reading and appending, by one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        yield log


def _entries(log: IO[bytes], path: Path) -> list[Entry]:
    lines = log.read().split(b"\n")[:-1]  # what follows the last line end was cut short
    out = []
    for number, line in enumerate(lines, 1):
        try:
            out.append(msgspec.json.decode(line, type=Entry))
        except msgspec.MsgspecError as error:
            raise BadRecord(f"line {number} of {path} is no decision: {error}") from None
    return out


def _append(log: IO[bytes], entry: Entry) -> None:
    """One whole line on disk; a line cut short before it is dropped."""
    log.seek(0)
    whole = log.read().rfind(b"\n") + 1
    log.truncate(whole)
    log.write(msgspec.json.encode(entry) + b"\n")
    log.flush()
    os.fsync(log.fileno())
