"""A canary from start to end on folders, the model server's table and offline tables; and what stops one."""

import fcntl
from pathlib import Path
from typing import Any

import pytest

from features.table_log import tables_in
from monitoring.canary_gate import Action
from monitoring.canary_log import read_log
from monitoring.off_policy_gate import OffPolicyReason, OffPolicyVerdict
from registry.errors import NotPassed
from registry.experiment import State
from registry.verdict import Outcome, Reason, Verdict, read_verdict
from release.errors import Busy, CannotStart, NoExperiment, NotUsed, StillInTraffic
from tests.release.canaries import CONFIG, HOUR, START, VIEWERS, Canary, edited
from tests.release.evenings import shown
from tests.release.place import PASS


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    return Canary(tmp_path)


def reasons(done: Any) -> tuple[Reason, ...]:
    return tuple(done.decided[-1].decision.verdict.reasons)


def test_a_start_brings_the_candidate_into_traffic_as_canary_and_assigns_viewers(canary: Canary) -> None:
    one = canary.start()
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    assert canary.served() == [[1, 1], [2, 2]]
    assert canary.registry.challenger == {"demo": 2}
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"canary", "stable"}
    assert (one.id, one.state, one.started_at, one.control_release) == (
        "demo-2-20261101T180000", State.CANARY, START, "demo-1",
    )  # fmt: skip
    (change,) = canary.promotion.acts.experiments.history()
    assert (change.who, change.at, change.why) == ("ada", START, "a try")


def test_starting_again_changes_nothing(canary: Canary) -> None:
    assert canary.start() == canary.start()
    assert len(canary.promotion.acts.experiments.history()) == 1


def test_a_better_canary_is_promoted_and_the_promotion_is_read_back_from_traffic(canary: Canary) -> None:
    canary.audited()
    one = canary.start()
    canary.hour(1, canary=6, stable=3)
    assert canary.tick(1).action is Action.CONTINUE
    canary.hour(2, canary=6, stable=3)
    done = canary.tick(2)
    assert (done.action, reasons(done)) == (Action.PROMOTE, (Reason.BEATS_BASELINE,))
    assert canary.state() == ("promoted", True)
    assert (canary.traffic(), canary.served()) == ({"stable": "demo-2"}, [[2, 2], ["none", "none"]])
    assert (canary.registry.promoted[-1], canary.registry.challenger) == (("demo", 2), {})
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"stable"}
    assert read_verdict(canary.promotion.folder / one.id).passed
    assert "promote" in canary.promotion.page(one).read_text(encoding="utf-8")
    canary.evening.store([shown("ann", "after", "i", 2 * HOUR + 40, release="demo-2")])
    said = canary.tick(2.1, newest=False).said
    assert said == ("of 1 impressions since, 0 in the canary's arm and 1 answered by its release",)


def test_a_worse_canary_is_rolled_back_at_the_first_look_that_proves_it(canary: Canary) -> None:
    canary.audited()
    canary.start()
    canary.hour(1, canary=2, stable=6)
    done = canary.tick(1)
    assert (done.action, reasons(done)) == (Action.ROLLBACK, (Reason.HARMED,))
    assert canary.state() == ("rolled_back", True)
    assert (canary.traffic(), canary.served()) == ({"stable": "demo-1"}, [[1, 1], ["none", "none"]])
    assert canary.registry.promoted == [] and canary.registry.challenger == {}
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"stable"}


def test_an_identical_canary_ends_and_nothing_but_its_label_moves(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=4, stable=4)
    done = canary.tick(2)
    assert [entry.decision.action for entry in done.decided] == [Action.CONTINUE, Action.END]
    assert done.decided[-1].decision.verdict.outcome is Outcome.UNDECIDED
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})


def test_without_an_audit_a_better_canary_waits_and_with_a_failed_one_it_ends(canary: Canary) -> None:
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    waiting = canary.tick(2)
    assert (waiting.action, reasons(waiting)) == (Action.EXTEND, (Reason.AUDIT_MISSING,))
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    canary.audited(Outcome.FAIL)
    canary.hour(3, canary=6, stable=3)
    blocked = canary.tick(3)
    assert (blocked.action, reasons(blocked)) == (Action.END, (Reason.AUDIT_FAILED,))
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})


def test_an_hour_is_decided_once_however_often_it_is_looked_at(canary: Canary) -> None:
    one = canary.start()
    canary.hour(1, canary=4, stable=4)
    assert canary.tick(1).action is Action.CONTINUE
    canary.hour(1, canary=9, stable=1)  # more of the same hour, too late
    assert canary.tick(1.5).decided == ()
    assert len(read_log(canary.promotion.log(one))) == 1


def test_tables_that_cannot_be_read_are_a_hold_and_the_hour_is_judged_when_they_can(canary: Canary) -> None:
    canary.start()
    held = canary.tick(3, newest=False)  # nothing is stored at all; patience is over for the first hour
    assert (held.action, reasons(held)) == (Action.HOLD, (Reason.CRASHED,))
    assert "NoTable: there is no table 'impressions'" in held.decided[0].decision.text
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    canary.hour(1, canary=4, stable=4)
    assert canary.tick(3, newest=False).action is Action.CONTINUE


def test_no_traffic_is_a_hold_and_never_a_promotion(canary: Canary) -> None:
    canary.audited()
    canary.start()
    canary.evening.store([shown("ann", "q", "i", 10, arm="canary")])
    assert tables_in(canary.evening.lake) == ["impressions"]
    assert {canary.tick(hour, newest=False).action for hour in (3, 4, 5)} == {Action.HOLD}


def test_a_rehearsal_says_what_would_be_decided_and_changes_nothing(canary: Canary) -> None:
    canary.audited()
    one = canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    canary.clock.set(START + 2 * HOUR + HOUR * 2)
    assert canary.promotion.rehearse().action is Action.PROMOTE
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    assert read_log(canary.promotion.log(one)) == []
    assert len(canary.promotion.acts.experiments.history()) == 1


def test_a_ramp_lasts_its_hour_shows_few_the_canary_and_is_not_analysed(canary: Canary) -> None:
    one = canary.start(edited(CONFIG, ramp_share=0.1, ramp_hours=1.0, settle_s=60.0))
    assert (one.state, one.started_at, one.share_of("canary")) == (State.RAMP, None, 0.1)
    canary.hour(1, canary=1, stable=9)
    assert canary.tick(0.9).decided == ()
    assert canary.tick(1.0).said == ()  # what there was of the hour is not all stored yet
    assert canary.tick(1.1).said == ("demo-2-20261101T180000 goes on as canary",)
    after = canary.record().experiment
    assert after is not None
    assert (after.state, after.share_of("canary"), after.started_at) == (
        State.CANARY,
        0.5,
        START + 1.1 * HOUR + 30 + 60,
    )


def test_a_ramp_whose_viewers_the_canary_does_not_answer_is_not_left(canary: Canary) -> None:
    canary.start(edited(CONFIG, ramp_share=0.1, ramp_hours=1.0))
    canary.evening.store([
        shown("a", "q1", "i", 5, arm="canary", release="demo-1"), shown("b", "q2", "i", 5, arm="canary", release="demo-1"),
        shown("c", "q3", "i", 5, arm="canary", release="demo-2"), shown("d", "q4", "i", 5, release="demo-1"),
    ])  # fmt: skip
    held = canary.tick(1.0)
    assert held.said == ("demo-2-20261101T180000: its release answered 1 of its 3 impressions; held in ramp",)
    assert (held.action, canary.state()[0]) == (Action.HOLD, "ramp")


def test_a_ramp_in_which_nobody_is_known_to_have_met_the_canary_is_not_left(canary: Canary) -> None:
    one = canary.start(edited(CONFIG, ramp_share=0.1, ramp_hours=1.0))
    assert canary.tick(1.0, newest=False).said == (f"{one.id}: no impression is stored; held in ramp",)
    canary.evening.store([shown("a", "q1", "i", 50 * 60, arm="canary", release="demo-2")])
    silent = canary.tick(1.5, newest=False)  # the collector is down
    assert silent.said == (f"{one.id}: the newest stored impression is 10 min too old to judge by; held in ramp",)
    assert (silent.action, canary.state()[0]) == (Action.HOLD, "ramp")
    assert canary.tick(1.6).said == (f"{one.id} goes on as canary",)


def test_a_ramp_whose_data_never_come_ends_when_the_longest_canary_would(canary: Canary) -> None:
    one = canary.start(edited(CONFIG, ramp_share=0.1, ramp_hours=1.0))
    assert canary.tick(4.9, newest=False).held
    assert canary.tick(5.0, newest=False).said == (f"{one.id}: no impression is stored; ended",)
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})


def test_in_the_shadow_the_release_is_loaded_and_answers_nobody(canary: Canary) -> None:
    canary.start(edited(CONFIG, shadow_hours=2.0))
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"stable"}
    canary.tick(1.9)
    assert canary.state()[0] == "shadow"
    canary.tick(2.1)  # the labels of its last places are still to come
    assert canary.state()[0] == "shadow"
    canary.tick(2.3)
    assert canary.state()[0] == "canary"


def test_the_kill_switch_takes_the_canary_away_and_nothing_starts_until_it_is_taken_back(canary: Canary) -> None:
    canary.start()
    canary.promotion.acts.stop(why="it looks wrong")
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"stable"}
    with pytest.raises(CannotStart, match="switched off; livefeed promotion resume"):
        canary.start()
    canary.promotion.acts.resume(why="it was nothing")
    assert canary.start().state is State.CANARY


def test_a_kill_by_a_proxy_is_followed_by_the_labels_at_the_next_evaluation(canary: Canary) -> None:
    from registry.experiment import switched_off

    canary.start()
    canary.promotion.acts.experiments.change(
        lambda old: switched_off(old, at=START), who="a proxy", at=START, what="killed", why="over HTTP"
    )
    assert canary.traffic() == {"stable": "demo-1", "canary": "demo-2"}
    canary.tick(1)
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})


def test_a_pin_gives_everybody_one_release_and_only_one_in_traffic(canary: Canary) -> None:
    canary.start()
    canary.promotion.acts.pin("canary", why="to see it")
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"pinned"}
    with pytest.raises(NoExperiment, match=r"^label 'beta' is not in traffic; allowed are stable, canary$"):
        canary.promotion.acts.pin("beta", why="to see it")
    canary.promotion.acts.pin("", why="seen")
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"canary", "stable"}


def test_a_promotion_can_be_taken_back_by_the_same_path(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    canary.tick(2)
    canary.promotion.acts.revert(why="complaints")
    assert (canary.traffic(), canary.served()[0], canary.registry.promoted[-1]) == (
        {"stable": "demo-1"},
        [1, 1],
        ("demo", 1),
    )
    assert canary.state() == ("rolled_back", True)
    with pytest.raises(NoExperiment, match="nothing was promoted last"):
        canary.promotion.acts.revert(why="again")


def test_traffic_that_goes_on_after_the_end_is_an_error_and_not_a_success(canary: Canary) -> None:
    canary.start()
    canary.hour(1, canary=2, stable=6)
    assert canary.tick(1).action is Action.ROLLBACK
    canary.evening.store([shown("ann", "q", "i", HOUR + 50, arm="canary", release="demo-2")])
    with pytest.raises(StillInTraffic, match="1 in the canary's arm and 1 answered by its release"):
        canary.tick(1.1)
    assert "there is no traffic since" in canary.tick(1.1, newest=False).said[0]  # read anew since it was tried again
    assert canary.tick(1.2).said == ("of 1 impressions since, 0 in the canary's arm and 0 answered by its release",)


def test_a_promotion_that_another_release_took_the_place_of_is_no_success(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    assert canary.tick(2).action is Action.PROMOTE
    canary.place.rollback("demo-1")
    canary.evening.store([shown("ann", "after", "i", 2 * HOUR + 40, release="demo-1")])
    with pytest.raises(NotUsed, match="is promoted and demo-2 answers nobody, while demo-1 is stable"):
        canary.tick(2.1, newest=False)
    assert canary.record().experiment.read_back == ""  # type: ignore[union-attr]


def test_a_promoted_release_that_answers_nobody_is_an_error_and_not_a_success(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    assert canary.tick(2).action is Action.PROMOTE
    canary.evening.store([shown("ann", "after", "i", 2 * HOUR + 40, release="demo-1")])
    with pytest.raises(NotUsed, match="is promoted and demo-2 answers nobody, while demo-2 is stable: of 1 impr"):
        canary.tick(2.1, newest=False)


def test_a_log_that_speaks_against_the_candidate_stops_it_before_it_begins(canary: Canary) -> None:
    against = OffPolicyVerdict(
        outcome=Outcome.FAIL, reasons=(OffPolicyReason.CLEARLY_WORSE,), texts=("click is -0.1 a place",)
    )
    with pytest.raises(CannotStart, match=r"^the log speaks against demo-2: click is -0\.1 a place$"):
        canary.start(off_policy=against)
    assert canary.traffic() == {"stable": "demo-1"}


def test_only_one_canary_runs_and_only_one_that_passed_offline(canary: Canary) -> None:
    with pytest.raises(NotPassed):
        failed = Verdict(outcome=Outcome.FAIL, reasons=(Reason.NO_DATA,))
        canary.promotion.start(canary.candidate, failed, why="a try", config=CONFIG)
    assert canary.record().experiment is None
    canary.start()
    with pytest.raises(CannotStart, match="demo-2-20261101T180000 is canary; one canary runs at a time"):
        canary.promotion.start(canary.place.candidate(3), PASS, why="another", config=CONFIG)


def test_without_a_past_to_plan_with_a_start_says_what_is_missing(canary: Canary) -> None:
    with pytest.raises(CannotStart, match=r"^no variance can be planned: there is no table 'impressions'"):
        canary.start(edited(CONFIG, planned={}))


def test_one_step_is_taken_at_a_time(canary: Canary) -> None:
    canary.start()
    with (canary.promotion.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another promotion step holds"):
            canary.promotion.evaluate()
