"""The canary's assets over real tables and labels: what the job decides and does, and what blocks a promotion."""

import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project import resources
from dagster_project.assets import models
from dagster_project.definitions import defs
from dagster_project.jobs import canary_due
from dagster_project.partitions import event_months
from dagster_project.resources import Platform
from dagster_project.run import Learned, learned
from events.schema import Impression
from registry.experiment import Experiments, Record, State
from registry.manifest import point_live
from release.guard import Guard
from tests.monitoring.shadow_stories import FAR, click, told
from tests.registry.test_experiment import experiment
from tests.release.canaries import CONFIG, HOUR, START, Canary, edited
from tests.release.evenings import shown


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    made = Canary(tmp_path / "platform")
    monkeypatch.setattr(resources.Platform, "promotion", lambda *_: made.promotion)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[], Learned]]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        job = defs.resolve_job_def("canary")
        yield lambda: learned("", job.execute_in_process(instance=instance, raise_on_error=False).all_events)


def at(canary: Canary, hours: float) -> None:
    canary.clock.set(START + hours * HOUR + 2 * HOUR)  # patience is over


def test_a_run_without_anything_due_says_so_and_changes_nothing(canary: Canary, run: Callable[[], Learned]) -> None:
    done = run()
    assert done.failure == ""
    assert done.assets["canary_looks"]["note"] == "nothing is due"
    assert done.assets["promotion"]["state"] == "none"
    assert canary.traffic() == {"stable": "demo-1"}


def test_a_better_canary_is_promoted_by_the_job(canary: Canary, run: Callable[[], Learned]) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    at(canary, 2)
    done = run()
    assert done.failure == ""
    assert (done.assets["canary_decision"]["action"], done.assets["canary_decision"]["state"]) == ("promote", "canary")
    assert done.assets["promotion"]["state"] == "promoted"
    assert canary.traffic() == {"stable": "demo-2"}
    assert done.assets["canary_looks"]["viewers.canary"] + done.assets["canary_looks"]["viewers.stable"] == 120


def test_harm_is_rolled_back_by_the_decision_itself(canary: Canary, run: Callable[[], Learned]) -> None:
    canary.start()
    canary.hour(1, canary=2, stable=6)
    at(canary, 1)
    assert run().assets["canary_decision"]["state"] == "rolled_back"
    assert canary.traffic() == {"stable": "demo-1"}


def test_a_hold_fails_the_run_and_says_why(canary: Canary, run: Callable[[], Learned]) -> None:
    canary.start()
    at(canary, 1)
    failure = run().failure
    assert failure.startswith("asset check canary_is_not_held of canary_decision failed: ")
    assert "there is no table 'impressions'" in failure
    assert canary.state()[0] == "canary"


def test_an_audit_that_is_gone_when_the_promotion_is_due_blocks_it(
    canary: Canary, run: Callable[[], Learned], monkeypatch: pytest.MonkeyPatch
) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    at(canary, 2)
    decide = type(canary.promotion).decide

    def decide_and_lose_the_audit(*given: Any, **more: Any) -> Any:
        done = decide(*given, **more)
        for record in canary.audits.glob("*.json"):
            record.unlink()
        return done

    monkeypatch.setattr(type(canary.promotion), "decide", decide_and_lose_the_audit)
    wanted = "asset check audit_stands of canary_decision failed: line demo has no bias audit"
    assert run().failure == wanted
    assert run().failure == wanted  # the decision was made in the first run, and is still not done
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    canary.audited(at=START - 40 * 24 * HOUR)
    monkeypatch.undo()
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    monkeypatch.setattr(resources.Platform, "promotion", lambda *_: canary.promotion)
    assert "the bias audit is 40 days old; 33 are allowed" in run().failure
    canary.audited()
    assert run().failure == ""
    assert canary.traffic() == {"stable": "demo-2"}


def test_a_log_that_does_not_replay_blocks_the_promotion(
    canary: Canary, run: Callable[[], Learned], monkeypatch: pytest.MonkeyPatch
) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    at(canary, 2)
    monkeypatch.setattr("dagster_project.checks.replay", lambda _: None)
    assert "check decision_replays of canary_decision failed: hours [1, 2] come out otherwise" in run().failure
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}


def test_a_release_that_the_log_speaks_against_ends_in_shadow_and_the_run_says_why(
    canary: Canary, run: Callable[[], Learned]
) -> None:
    canary.start(edited(CONFIG, shadow_hours=1.0))
    canary.evening.store(
        [click("nobody", "none", 0), *told(FAR, candidate=1).events, shown("late", "late", "i", 4_600)]
    )
    at(canary, 0)
    done = run()
    assert done.failure == ""
    told_of = done.assets["canary_decision"]
    assert (told_of["state"], told_of["off_policy"], told_of["off_policy.reasons"]) == (
        "rolled_back",
        "fail",
        "clearly_worse",
    )
    assert canary.traffic() == {"stable": "demo-1"}


def test_a_shadow_phase_that_cannot_be_judged_fails_the_run_and_says_why(
    canary: Canary, run: Callable[[], Learned]
) -> None:
    canary.start(edited(CONFIG, shadow_hours=1.0))
    shown_alone = [one for one in told(FAR, candidate=1).events if isinstance(one, Impression)]
    canary.evening.store([*shown_alone, shown("late", "late", "i", 4_600)])
    at(canary, 0)
    failure = run().failure
    assert "check canary_is_not_held of canary_decision failed: off-policy: the log of demo-2" in failure
    assert canary.state() == ("shadow", False)


def test_the_sensor_asks_for_one_run_an_hour(canary: Canary) -> None:
    def asked() -> str | None:
        found = canary_due(dg.build_sensor_context(resources={"platform": Platform()}))
        return found.run_key if isinstance(found, dg.RunRequest) else None

    assert asked() is None
    one = canary.start()
    assert asked() is None
    at(canary, 1)
    assert asked() == f"{one.id}:hour-1"
    canary.hour(1, canary=4, stable=4)
    canary.promotion.evaluate()
    assert asked() is None


def test_a_line_that_needs_a_promotion_is_not_deployed_by_learning(
    learn: Callable[[], Learned], rooms: Any, tmp_path: Path
) -> None:
    one = experiment(line="demo", control_line="old", state=State.ROLLED_BACK)
    Experiments(tmp_path / "var" / "releases").change(
        lambda _: Record(experiment=one), who="ada", at=1.0, what="rolled back", why="harm"
    )
    assert learn().failure == (
        "asset check line_may_deploy of verdict failed: line demo is rolled_back in new-2: it comes to stable by a "
        "promotion alone"
    )
    assert rooms.deployed == []


def test_a_promotion_of_another_line_is_not_undone_by_learning(
    learn: Callable[[], Learned], rooms: Any, tmp_path: Path
) -> None:
    releases = tmp_path / "var" / "releases"
    releases.mkdir(parents=True)
    point_live(releases, {"stable": "demo-likes-7"})
    one = experiment(line="demo-likes", release="demo-likes-7", control_line="demo", state=State.PROMOTED)
    Experiments(releases).change(lambda _: Record(experiment=one), who="ada", at=1.0, what="promoted", why="better")
    assert learn().failure == (
        "asset check line_may_deploy of verdict failed: line demo is not the line of demo-likes-7, which is stable: it comes "
        "to stable by a promotion alone"
    )
    assert rooms.deployed == []


def test_a_promotion_that_comes_while_learning_runs_is_not_undone_either(
    learn: Callable[[], Learned], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def deploy(*_: object, may: Any, **__: object) -> str:
        asked.append(may)
        return "demo-1"

    monkeypatch.setattr("dagster_project.assets.releases.deploy", deploy)
    assert learn().failure == ""
    assert [(type(one), one.label, one.why) for one in asked] == [(Guard, "stable", "")]


def test_increments_of_a_promoted_formula_are_trained_under_it(
    learn: Callable[[], Learned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "formula_of", lambda _, line: {"like": 3.0} if line == "demo" else None)
    trained: list[Any] = []
    whole = sys.modules["training.pipeline"].train_candidate

    def train(*given: Any, **more: Any) -> Any:
        trained.append(more["formula"])
        return whole(*given, **more)

    monkeypatch.setattr(sys.modules["training.pipeline"], "train_candidate", train)
    learn()
    assert trained == [{"like": 3.0}]


def test_months_of_the_audit_are_those_that_are_over_and_in_a_time_lapse_those_to_come() -> None:
    today = date(2026, 11, 21)
    calendar = event_months(date(2026, 9, 15), None, today=today)
    lapse = event_months(date(2026, 11, 3), date(2027, 2, 1), today=today)
    assert calendar.get_partition_keys(None)[:2] == ["2026-09-01", "2026-10-01"]
    assert {"2026-11-01", "2026-12-01", "2027-01-01"} <= set(lapse.get_partition_keys(None))
