"""The experiments' record is replaced whole, every change is written down first, and a crash in between loses nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.errors import BadExperiment
from registry.experiment import (
    EXPERIMENTS,
    HISTORY,
    ArmShare,
    Experiment,
    Experiments,
    Record,
    State,
    read_record,
    switched_off,
)

ARMS = (ArmShare("canary", "canary", 0.05), ArmShare("baseline", "stable", 0.05), ArmShare("stable", "stable", 0.9))


def experiment(**changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "id": "new-2", "salt": "pepper", "line": "new", "release": "new-2", "control_line": "old",
        "control_release": "old-1", "state": State.CANARY, "arms": ARMS, "baseline": "baseline", "created_at": 100.0,
        "phase_at": 100.0,
    }  # fmt: skip
    return Experiment(**fields | changes)


@dataclass
class Changing:
    """Changes by one person, a second apart."""

    store: Experiments
    at: float = 0.0

    def __call__(self, what: str, **changes: Any) -> Record:
        self.at += 1.0
        return self.store.change(
            lambda old: msgspec.structs.replace(old, **changes), who="ada", at=self.at, what=what, why="a try"
        )


@pytest.fixture
def change(tmp_path: Path) -> Changing:
    return Changing(Experiments(tmp_path))


def test_without_a_file_nobody_is_in_an_experiment(tmp_path: Path) -> None:
    assert read_record(tmp_path) == Record()
    assert Experiments(tmp_path).history() == []


def test_every_change_is_one_version_up_and_says_who_when_and_why(change: Changing, tmp_path: Path) -> None:
    change("started", experiment=experiment())
    change("pinned", pin="stable")
    assert [(one.record.version, one.who, one.at, one.what, one.why) for one in change.store.history()] == [
        (1, "ada", 1.0, "started", "a try"), (2, "ada", 2.0, "pinned", "a try"),
    ]  # fmt: skip
    assert read_record(tmp_path) == Record(version=2, pin="stable", experiment=experiment())


def test_a_change_that_changes_nothing_is_no_change(change: Changing) -> None:
    change("started", experiment=experiment())
    assert change("started again", experiment=experiment()).version == 1
    assert len(change.store.history()) == 1


def test_a_crash_after_the_history_and_before_the_record_is_made_up_for(
    change: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change("started", experiment=experiment())
    with monkeypatch.context() as patch:
        patch.setattr(Experiments, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            change("pinned", pin="canary")
    assert (read_record(tmp_path).version, change.store.read().pin) == (1, "canary")
    change("pinned again", pin="canary")
    assert (read_record(tmp_path).version, read_record(tmp_path).pin) == (2, "canary")


def test_a_history_line_that_was_cut_short_did_not_happen(change: Changing, tmp_path: Path) -> None:
    change("started", experiment=experiment())
    with (tmp_path / HISTORY).open("ab") as file:
        file.write(b'{"at": 2.0, "who": "ada", "wh')
    change("pinned", pin="stable")
    assert [one.what for one in change.store.history()] == ["started", "pinned"]


def test_a_record_or_a_history_that_is_broken_is_refused_by_name(change: Changing, tmp_path: Path) -> None:
    change("started", experiment=experiment())
    (tmp_path / EXPERIMENTS).write_text('{"version": 1, "experiment": {"id": 3}}')
    with pytest.raises(BadExperiment, match=rf"^the experiments in {tmp_path}/experiments\.json cannot be read: "):
        read_record(tmp_path)
    (tmp_path / HISTORY).write_text("no json\n")
    with pytest.raises(BadExperiment, match=r"^line 1 of .*experiments\.history\.jsonl is no change"):
        change.store.read()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"arms": (ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.6))}, "together 1"),
        ({"arms": (ArmShare("canary", "canary", 0.0), ArmShare("stable", "stable", 1.0))}, "each above 0"),
        ({"arms": (ArmShare("stable", "stable", 1.0),)}, "with canary and control"),
        ({"exposure": 1.5}, "must lie from 0 to 1"),
    ],
)
def test_an_experiment_that_cannot_be_run_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadExperiment, match=said):
        experiment(**{"baseline": ""} | wrong)


def test_what_an_arm_has_now_follows_the_exposure_and_the_state() -> None:
    ramp = experiment(state=State.RAMP, exposure=0.2)
    assert [ramp.share_of(name) for name in ("canary", "stable")] == pytest.approx([0.01, 0.98])
    shadow = experiment(state=State.SHADOW)
    assert [shadow.share_of(name) for name in ("canary", "stable")] == [0.0, 1.0]


def test_the_kill_switch_stops_what_runs_and_leaves_what_has_ended() -> None:
    stopped = switched_off(Record(pin="canary", experiment=experiment()), at=500.0)
    assert stopped == Record(killed=True, experiment=experiment(state=State.STOPPED, phase_at=500.0))
    ended = experiment(state=State.PROMOTED)
    assert switched_off(Record(experiment=ended), at=500.0).experiment == ended
