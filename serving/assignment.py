"""Which arm a viewer is in: a pure function of the experiments' record and the viewer's id, and the record as a proxy has it.

A viewer's place in [0, 1) is a salted hash, so it stays while the experiment runs and says nothing about any other. Each arm
but control has an interval of places with a fixed beginning: a ramp lengthens the intervals, and whoever was in stays in.
"""

import os
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from events.clock import Clock
from registry.errors import BadExperiment
from registry.experiment import EXPERIMENTS, Experiment, Experiments, Record, State, read_record, switched_off
from serving.arms import Arm
from serving.errors import AdminRefused

PINNED = "pinned"  # the arm of everybody while a label is pinned: no experiment counts them


def place(salt: str, user_id: str) -> float:
    """A viewer's place in [0, 1): the upper 53 of 64 bits of blake2b, keyed by the salt."""
    key = salt.encode()
    key = key if len(key) <= 64 else blake2b(key).digest()
    digest = blake2b(user_id.encode(), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def assign(record: Record, user_id: str) -> Arm:
    """The viewer's arm."""
    if record.killed:
        return Arm()
    if record.pin:
        return Arm(PINNED, record.pin)
    one = record.experiment
    if one is None or not one.state.assigns:
        return Arm()
    at, begin = place(one.salt, user_id), 0.0
    rest = Arm()
    for arm in one.arms:
        if arm.name == one.control:
            rest = Arm(arm.name, arm.label, one.id)
            continue
        if begin <= at < begin + arm.share * one.exposure:
            return Arm(arm.name, arm.label, one.id)
        begin += arm.share
    return rest


class Assignment:
    """The record as one proxy follows it: `poll` from one background thread, calls from any.

    A record that cannot be read leaves the last good one in force, and `refused` says why.
    """

    def __init__(self, releases: Path, *, clock: Clock, report: Callable[[str], None]) -> None:
        self._releases, self._clock, self._report = releases, clock, report
        self._stamp: tuple[int, int] | None = None
        self.record = Record()
        self.refused = ""

    def __call__(self, user_id: str) -> Arm:
        """The viewer's arm."""
        return assign(self.record, user_id)

    def in_shadow(self) -> Experiment | None:
        """The experiment whose release is in shadow now; None for none."""
        record = self.record
        one = record.experiment
        if one is None or one.state is not State.SHADOW or record.killed or record.pin:
            return None
        return one

    def poll(self) -> None:
        """Read the record again if it was replaced, or could not be read the last time: it may hold a kill switch."""
        stamp = _stamp(self._releases / EXPERIMENTS)
        if stamp == self._stamp and not self.refused:
            return
        try:
            self.record, self.refused = read_record(self._releases), ""
            self._report(f"experiments: {_said(self.record)}")
        except (BadExperiment, OSError) as error:
            if self.refused != str(error):
                self.refused = str(error)
                self._report(f"experiments: {error}; version {self.record.version} stays in force")
        self._stamp = stamp

    def status(self) -> Mapping[str, Any]:
        """The experiment as this proxy has it, by its name; empty without one."""
        one = self.record.experiment
        if one is None:
            return {}
        switches = {"version": self.record.version, "killed": self.record.killed, "pin": self.record.pin}
        arms = {arm.name: {"label": arm.label, "share": one.share_of(arm.name)} for arm in one.arms}
        return {one.id: {"state": str(one.state), "arms": arms, "refused": self.refused, **switches}}

    def pin(self, experiment: str, arm: str) -> None:
        """Everybody gets that arm's release, in every proxy; AdminRefused names the arms there are."""
        labels = {one.name: one.label for one in self._running(experiment).arms}
        if arm not in labels:
            raise AdminRefused(f"arm={arm!r} is not one of {experiment}; allowed are {', '.join(labels)}")
        self._change(lambda record: msgspec.structs.replace(record, pin=labels[arm]), f"pinned to {labels[arm]}")

    def kill(self, experiment: str) -> None:
        """Nobody is in it any more, in any proxy; `livefeed promotion decide` takes its release out of traffic."""
        self._running(experiment)
        self._change(lambda record: switched_off(record, at=self._clock.now()), "stopped, experiments switched off")

    def _running(self, experiment: str) -> Experiment:
        one = self.record.experiment
        if one is None or one.id != experiment or not one.state.runs:
            there = one.id if one is not None and one.state.runs else "none"
            raise AdminRefused(f"experiment {experiment!r} does not run; running is {there}")
        return one

    def _change(self, update: Callable[[Record], Record], what: str) -> None:
        store, who = Experiments(self._releases), f"administration of proxy {os.getpid()}"
        try:
            store.change(update, who=who, at=self._clock.now(), what=what, why="asked for over HTTP")
        except (BadExperiment, OSError) as error:
            raise AdminRefused(f"the experiments could not be changed: {error}") from None
        self.poll()


def _said(record: Record) -> str:
    if record.killed:
        return f"version {record.version}, switched off"
    if record.pin:
        return f"version {record.version}, everybody pinned to {record.pin}"
    one = record.experiment
    if one is None:
        return f"version {record.version}, none"
    shares = ", ".join(f"{arm.name} {one.share_of(arm.name):.4g}" for arm in one.arms)
    return f"version {record.version}, {one.id} is {one.state}: {shares}"


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells two writings of a file apart: every one is a new file renamed into place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
