"""What the demo says of a canary: the final decision's line, a hold that is no failure, a log that was tampered with."""

from pathlib import Path

import msgspec
import pytest

from monitoring.canary_gate import Action
from monitoring.canary_log import Crash, Entry, hold, read_log
from monitoring.canary_plan import CanaryConfig, ExperimentPlan, standard_metrics
from registry.experiment import ArmShare, Experiment, State
from stack.demo.canary import HOURS, SHORT, Ended, canary_figures

VARIANCES = {"ctr": 0.01, "completion_rate": 0.01, "session_depth": 0.01}
PLAN = ExperimentPlan(
    id="b-2-20270101", line="b", started_at=0.0, weights={"canary": 0.5, "stable": 0.5},
    metrics=standard_metrics(VARIANCES), config=CanaryConfig(hours=6, day_hours=6, max_hours=6, hold_hours=2.0),
)  # fmt: skip
EXPERIMENT = Experiment(
    id=PLAN.id, salt=PLAN.id, line="b", release="b-2", control_line="a", control_release="a-1", state=State.CANARY,
    arms=(ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5)), created_at=0.0, phase_at=0.0,
)  # fmt: skip


def ended(folder: Path, entries: tuple[Entry, ...] = ()) -> Ended:
    return Ended(EXPERIMENT, entries, folder / "index.html", {}, {}, {"stable": "a-1"})


@pytest.fixture
def held(tmp_path: Path) -> tuple[Entry, ...]:
    """Three looks that could not be made: two hours of that are allowed."""
    log = tmp_path / "decisions.jsonl"
    for hour in (1, 2, 3):
        hold(log, PLAN, Crash(hour, 3_600.0 * hour, "the tables were gone"))
    return tuple(read_log(log))


def test_a_canary_about_which_nothing_was_decided_says_so(tmp_path: Path) -> None:
    none = ended(tmp_path)
    assert none.line == "canary b-2: nothing was decided"
    assert (none.action, none.reasons) == (None, ())


def test_a_hold_is_said_as_undecided_with_its_reason(tmp_path: Path, held: tuple[Entry, ...]) -> None:
    line = ended(tmp_path, held[:1]).line
    assert line.startswith("canary b-2: undecided (crashed): b-2-20270101 hour 1: hold.")
    assert "the tables were gone" in line


def test_the_final_decision_is_what_counts(tmp_path: Path, held: tuple[Entry, ...]) -> None:
    assert ended(tmp_path, held).action is Action.ROLLBACK  # after two hours of holding
    assert ended(tmp_path, held).reasons == ("held_too_long", "crashed")


def test_a_log_whose_input_was_changed_does_not_replay(tmp_path: Path, held: tuple[Entry, ...]) -> None:
    assert ended(tmp_path, held).replayed
    forged = msgspec.structs.replace(held[0], judged=msgspec.structs.replace(held[0].judged, crash=Crash(1, 1.0, "no")))
    assert not ended(tmp_path, (forged, *held[1:])).replayed


def test_the_summary_has_state_action_reasons_and_page(tmp_path: Path, held: tuple[Entry, ...]) -> None:
    said = canary_figures(ended(tmp_path, held[:1]))
    assert said is not None
    assert (said["state"], said["action"], said["outcome"]) == ("canary", "hold", "undecided")
    assert (said["reasons"], said["hour"], said["looks"], said["replayed"]) == (["crashed"], 1, 1, True)


def test_without_a_canary_the_summary_says_none() -> None:
    assert canary_figures(None) is None


def test_the_demos_canary_decides_once_at_its_end() -> None:
    assert [hour for hour in range(1, 20) if SHORT.gate.due(hour)][:1] == [HOURS]
    assert SHORT.gate.max_hours == HOURS
