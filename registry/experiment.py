"""Who is shown what while a canary runs: one record, its history, and who may change it.

`<releases>/experiments.json` is what proxies follow. Beside it `experiments.history.jsonl` has a line for every change: who,
when, why, and the whole record after it. The line is written first and the record follows it, so a crash between the two
loses nothing: the next change begins with what the history says. `promoted`, `rolled_back` and `stopped` are final.
"""

import fcntl
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from registry.errors import BadExperiment

EXPERIMENTS = "experiments.json"
HISTORY = "experiments.history.jsonl"


class State(StrEnum):
    """Where an experiment stands."""

    SHADOW = "shadow"  # the canary is loaded everywhere and answers nobody
    RAMP = "ramp"  # a part of its share, to see that it works; not analysed
    CANARY = "canary"  # its whole share; hour 1 of the analysis begins with `started_at`
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"

    @property
    def runs(self) -> bool:
        """False when nothing that comes later changes it."""
        return self in (State.SHADOW, State.RAMP, State.CANARY)

    @property
    def assigns(self) -> bool:
        """True when viewers are shown the canary."""
        return self in (State.RAMP, State.CANARY)


class ArmShare(Struct, frozen=True):
    """One arm: the label of the release that answers, and its share of all viewers."""

    name: str
    label: str
    share: float


class Experiment(Struct, frozen=True, kw_only=True):
    """One canary; times are epoch seconds of event time. BadExperiment when it cannot be run."""

    id: str
    salt: str  # of the hash that places viewers; another experiment places them anew
    line: str  # of the canary: verdict and audit attach to it
    release: str  # that the canary began with, its newest from its end on: its line may increment meanwhile
    control_line: str
    control_release: str  # in traffic as stable at the start, and when a promotion begins: the way back
    state: State
    arms: tuple[ArmShare, ...]
    control: str = "stable"  # the arm of everybody who is in no other
    canary: str = "canary"
    baseline: str = ""  # an arm that serves what control serves; "" for none
    exposure: float = 1.0  # part of every share that is in now: below 1 in the ramp
    shadow_share: float = 1.0  # part of the requests that its release looks at while it is in shadow
    created_at: float
    phase_at: float  # when this state began
    started_at: float | None = None
    settled: bool = False  # of a final state: labels and aliases have followed
    settled_at: float | None = None  # when they last did; what traffic says of the end is read from there on
    read_back: str = ""  # what newest traffic said after that; "" until there was some
    config: dict[str, Any] = {}  # dials and planned variances, whole

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names) or not {self.control, self.canary, self.baseline} - {""} <= set(names):
            raise BadExperiment(f"arms {names} of {self.id} are not allowed: each once, with canary and control")
        if not all(arm.share > 0 for arm in self.arms) or not math.isclose(sum(arm.share for arm in self.arms), 1.0):
            shares = {arm.name: arm.share for arm in self.arms}
            raise BadExperiment(f"shares {shares} of {self.id} are not allowed: each above 0, together 1")
        if not 0 <= self.exposure <= 1 or not self.salt:
            raise BadExperiment(
                f"exposure {self.exposure} of {self.id} must lie from 0 to 1, and its salt not be empty"
            )

    def is_canary(self, release: str) -> bool:
        """Whether a release is the canary's, or an increment of it where it has a line of its own."""
        return release == self.release or (line_of(release) == self.line != self.control_line)

    def share_of(self, name: str) -> float:
        """The share of viewers an arm has now; 0 for an arm that there is not."""
        if not self.state.assigns:
            return 1.0 if name == self.control else 0.0
        now = {arm.name: arm.share * self.exposure for arm in self.arms if arm.name != self.control}
        return 1.0 - sum(now.values()) if name == self.control else now.get(name, 0.0)


def line_of(release: str) -> str:
    """The line of a release, by its name."""
    return release.rpartition("-")[0]


class Record(Struct, frozen=True, kw_only=True):
    """What proxies follow; the empty record shows everybody the stable release."""

    version: int = 0
    killed: bool = False  # nobody is in any experiment, whatever it says, and none can be started
    pin: str = ""  # a label: everybody is answered by its release; "" for nobody
    experiment: Experiment | None = None  # the one that runs, or the last


class Change(Struct, frozen=True, kw_only=True):
    """One line of the history."""

    at: float  # epoch seconds, by the clock of whoever changed it
    who: str
    what: str
    why: str
    record: Record


class Experiments:
    """The record and its history in one folder; changes are made one at a time, over all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Record:
        """The record as the history has it; an empty one where there is none, BadExperiment when it cannot be read."""
        last = self.history()[-1:]
        return last[0].record if last else read_record(self._folder)

    def history(self) -> list[Change]:
        """Every change, oldest first; a last line that a crash cut short is left out."""
        path = self._folder / HISTORY
        if not path.exists():
            return []
        with path.open("rb") as file:
            return _changes(file, path)

    def every(self) -> list[Experiment]:
        """Every experiment as it last was, oldest first."""
        found = {one.record.experiment.id: one.record.experiment for one in self.history() if one.record.experiment}
        last = self.read().experiment
        return list((found | ({last.id: last} if last is not None else {})).values())

    def note(self, *, who: str, at: float, what: str, why: str) -> None:
        """Write into the history what was done beside the record, which stays as it is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / HISTORY) as file:
            before = _changes(file, self._folder / HISTORY)
            record = before[-1].record if before else read_record(self._folder)
            _append(file, Change(at=at, who=who, what=what, why=why, record=record))

    def change(self, update: Callable[[Record], Record], *, who: str, at: float, what: str, why: str) -> Record:
        """Replace the record by what `update` makes of it, one version up; what it raises leaves everything as it was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / HISTORY) as file:
            before = _changes(file, self._folder / HISTORY)
            old = before[-1].record if before else read_record(self._folder)
            made = update(old)
            new = msgspec.structs.replace(made, version=old.version + 1) if made != old else old
            if new != old:
                _append(file, Change(at=at, who=who, what=what, why=why, record=new))
            self._write(new)
            return new

    def _write(self, record: Record) -> None:
        path, body = self._folder / EXPERIMENTS, msgspec.json.format(msgspec.json.encode(record), indent=1)
        if path.exists() and path.read_bytes() == body:
            return
        draft = self._folder / f".{EXPERIMENTS}.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def switched_off(record: Record, *, at: float) -> Record:
    """The record with the kill switch on and the experiment stopped."""
    one = record.experiment
    if one is not None and one.state.runs:
        one = msgspec.structs.replace(one, state=State.STOPPED, phase_at=at)
    return msgspec.structs.replace(record, killed=True, pin="", experiment=one)


def read_record(folder: Path) -> Record:
    """The record that proxies follow, empty where there is none; BadExperiment when it cannot be read."""
    path = folder / EXPERIMENTS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except (OSError, msgspec.MsgspecError, BadExperiment) as error:
        raise BadExperiment(f"the experiments in {path} cannot be read: {error}") from None


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _changes(file: IO[bytes], path: Path) -> list[Change]:
    out = []
    for number, line in enumerate(file.read().split(b"\n")[:-1], 1):  # what follows the last line end was cut short
        try:
            out.append(msgspec.json.decode(line, type=Change))
        except (msgspec.MsgspecError, BadExperiment) as error:
            raise BadExperiment(f"line {number} of {path} is no change of the experiments: {error}") from None
    return out


def _append(file: IO[bytes], change: Change) -> None:
    """One whole line on disk; a line cut short before it is dropped."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.write(msgspec.json.encode(change) + b"\n")
    file.flush()
    os.fsync(file.fileno())
