"""A shadow phase in a promotion: its end is judged from the log, once, and a fail ends the canary before a viewer met it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.canary_gate import Action
from monitoring.off_policy_gate import OffPolicyReason, OffPolicyVerdict
from monitoring.off_policy_lake import WINDOW_S, OffPolicyRecord, evaluate
from registry.experiment import State
from registry.verdict import Outcome, Reason, read_verdict
from release.errors import CannotStart
from release.promotion_acts import Acts
from release.promotion_shadow import OFF_POLICY, read_record, shadow_phase
from release.promotion_start import GIVEN
from tests.monitoring.shadow_stories import FAR, NEAR, click, told
from tests.release.canaries import CONFIG, HOUR, START, VIEWERS, Canary, edited
from tests.serving.test_shadow import experiment

SHADOW = edited(CONFIG, shadow_hours=2.0)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    return Canary(tmp_path)


def begun(canary: Canary, worth: dict[str, list[float]], *, candidate: int = 1, **dials: Any) -> Path:
    """demo-2 in shadow for two hours of a world in which it would put item `candidate`; gives the canary's folder."""
    one = canary.start(edited(SHADOW, **dials))
    canary.evening.store([click("nobody", "none", 0), *told(worth, candidate=candidate).events])
    return canary.promotion.folder / one.id


def last_change(canary: Canary, what: str) -> str:
    """Why the newest change of that name was made."""
    changes = canary.promotion.acts.experiments.history()
    return next(one.why for one in reversed(changes) if one.what.endswith(what))


def test_a_release_that_the_log_speaks_against_is_rolled_back_before_a_viewer_met_it(canary: Canary) -> None:
    folder = begun(canary, FAR)
    canary.tick(1.9)
    assert canary.state() == ("shadow", False) and not (folder / OFF_POLICY).exists()
    done = canary.tick(2.3)
    assert canary.state() == ("rolled_back", True)
    assert (canary.traffic(), canary.served()) == ({"stable": "demo-1"}, [[1, 1], ["none", "none"]])
    assert canary.registry.challenger == {}
    record = read_record(folder)
    assert record is not None and done.off_policy == record
    assert (record.verdict.outcome, record.verdict.reasons) == (Outcome.FAIL, (OffPolicyReason.CLEARLY_WORSE,))
    assert done.said[0].startswith("off-policy: the log speaks against demo-2: click is -0.2")
    assert last_change(canary, "rolled_back") == done.said[0]
    assert [one.record.experiment.state for one in canary.promotion.acts.experiments.history() if one.record.experiment] == [
        State.SHADOW, State.ROLLED_BACK, State.ROLLED_BACK,
    ]  # fmt: skip
    verdict = read_verdict(folder)
    assert (verdict.outcome, verdict.reasons) == (Outcome.FAIL, (Reason.OFF_POLICY_FAILED,))
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<b>fail</b>, because: clearly_worse" in page and "it ended before a viewer met it" in page


def test_a_release_that_nothing_speaks_against_goes_on_and_the_history_says_so(canary: Canary) -> None:
    folder = begun(canary, NEAR, ramp_hours=1.0, ramp_share=0.1)
    done = canary.tick(2.3)
    assert canary.state()[0] == "ramp"
    assert done.said[1] == f"{folder.name} goes on as ramp"
    assert last_change(canary, ": ramp").startswith(
        "the phase before it is over; off-policy: nothing speaks against a canary: click +0.2"
    )
    assert "<b>pass</b>, because: not_clearly_worse" in (folder / "index.html").read_text(encoding="utf-8")


def test_what_the_log_cannot_tell_goes_on_and_says_that_nothing_was_checked(canary: Canary) -> None:
    canary.start(SHADOW)
    done = canary.tick(2.3)
    assert canary.state()[0] == "canary"
    assert last_change(canary, ": canary") == (
        "the phase before it is over; off-policy: undecided, nothing was checked before viewers meet demo-2: no explored "
        "place was logged in the shadow phase"
    )
    assert done.off_policy is not None and done.off_policy.verdict.reasons == (OffPolicyReason.NO_DATA,)


def test_a_release_that_chooses_alike_goes_on_unchecked(canary: Canary) -> None:
    begun(canary, FAR, candidate=0)
    done = canary.tick(2.3)
    assert canary.state()[0] == "canary"
    assert done.off_policy is not None and done.off_policy.verdict.reasons == (OffPolicyReason.SAME_CHOICES,)


def test_the_verdict_is_made_once_and_stands_when_the_process_dies_and_more_is_stored(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(canary, FAR)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Acts, "give_up", dies)
        with pytest.raises(KeyboardInterrupt):
            canary.tick(2.3)
    before = (folder / OFF_POLICY).read_bytes()
    assert canary.state() == ("shadow", False)
    canary.evening.store(told(NEAR, candidate=1, viewers=300).events)
    assert canary.tick(2.5).off_policy == read_record(folder)
    assert (folder / OFF_POLICY).read_bytes() == before
    assert canary.state() == ("rolled_back", True)
    assert canary.tick(3.0).said[0].startswith("of ")  # read back, nothing judged again
    record = msgspec.json.decode(before, type=OffPolicyRecord)
    again = evaluate(canary.evening.lake, record.phase, config=record.config, versions=record.versions)
    assert again == record


def test_a_log_that_cannot_be_read_holds_in_shadow_and_is_judged_when_it_can(canary: Canary) -> None:
    canary.start(SHADOW)
    world = told(FAR, candidate=1)
    canary.evening.store([one for one in world.events if type(one).__name__ == "Impression"])
    held = canary.tick(2.3)
    assert (held.action, held.held, canary.state()[0]) == (Action.HOLD, True, "shadow")
    assert "NoTable: there is no table 'engagement'" in held.said[0] and held.said[0].endswith("; held in shadow")
    assert {canary.arm_of(viewer) for viewer in VIEWERS} == {"stable"}
    canary.evening.store([one for one in world.events if type(one).__name__ != "Impression"])
    canary.tick(4.0)
    assert canary.state() == ("rolled_back", True)


def test_a_log_that_stays_unreadable_ends_the_canary_after_a_day_and_never_shows_it(canary: Canary) -> None:
    canary.start(SHADOW)
    canary.evening.store([one for one in told(FAR, candidate=1).events if type(one).__name__ == "Impression"])
    assert canary.tick(26.2).held
    done = canary.tick(26.3)
    assert canary.state() == ("stopped", True) and not done.held
    assert canary.traffic() == {"stable": "demo-1"}
    assert "could not be judged: NoTable" in last_change(canary, "stopped")


def test_a_held_shadow_is_asked_for_again_every_hour(canary: Canary) -> None:
    one = canary.start(SHADOW)
    keys = []
    for hour in (2.2, 2.3, 3.2, 3.3):  # a quarter of an hour after its end its last labels are known
        canary.clock.set(START + hour * HOUR)
        keys.append(canary.promotion.due())
    assert keys == ["", f"{one.id}:canary", f"{one.id}:canary", f"{one.id}:canary-1"]


def test_a_rehearsal_in_shadow_says_what_the_log_says_so_far_and_writes_nothing(canary: Canary) -> None:
    folder = begun(canary, FAR)
    canary.clock.set(START + 1.5 * HOUR)
    done = canary.promotion.rehearse()
    assert "the log speaks against demo-2" in done.said[0]
    assert canary.state() == ("shadow", False)
    assert sorted(path.name for path in folder.iterdir()) == ["plan.json"]


def test_the_page_of_a_canary_that_went_on_ends_with_what_its_shadow_phase_said(canary: Canary) -> None:
    folder = begun(canary, NEAR)
    canary.tick(2.3)
    one = canary.record().experiment
    assert one is not None and one.started_at is not None
    canary.clock.set(one.started_at + 4 * HOUR)
    assert canary.promotion.evaluate().action is Action.HOLD
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.index("<h2>Decisions</h2>") < page.index("<h2>In shadow: off-policy evaluation</h2>")


def test_the_share_of_requests_is_a_dial_of_the_record(canary: Canary) -> None:
    assert canary.start(edited(SHADOW, shadow_share=0.25)).shadow_share == 0.25
    with pytest.raises(CannotStart, match=r"^shadow_share 0\.0 of a promotion is not allowed"):
        edited(SHADOW, shadow_share=0.0)


@pytest.mark.parametrize(
    ("now_h", "newest_h", "until_h"),
    [
        (
            1.0,
            1.0,
            0.75 - 1 / 60,
        ),  # of the last 15 minutes, and of the minute partitions may be behind, nothing is known
        (1.0, 0.5, 0.25 - 1 / 60),  # the collector is behind
        (1.0, None, 0.75),
        (9.0, 9.0, 2.0),  # long over
        (0.1, 0.1, 0.0),  # nothing is old enough yet
    ],
)
def test_only_places_whose_labels_can_be_known_are_judged(now_h: float, newest_h: float | None, until_h: float) -> None:
    config = edited(SHADOW, settle_s=60.0)
    one = experiment(phase_at=START, created_at=START)
    newest = None if newest_h is None else START + newest_h * HOUR
    phase = shadow_phase(one, config, now=START + now_h * HOUR, newest=newest)
    assert phase.since == START
    assert phase.until == pytest.approx(START + until_h * HOUR)
    assert (phase.line, phase.arm, phase.release) == ("", "stable", "demo-2")
    assert WINDOW_S == 900.0


def test_an_increment_of_a_line_of_its_own_is_judged_as_the_canary(canary: Canary) -> None:
    phase = shadow_phase(experiment(line="new", release="new-2"), SHADOW, now=START, newest=None)
    assert [phase.judges(name) for name in ("new-2", "new-3", "demo-2", "newer-2")] == [True, True, False, False]


def test_a_verdict_given_at_the_start_is_kept_apart_from_that_of_the_shadow_phase(canary: Canary) -> None:
    given = OffPolicyVerdict(outcome=Outcome.PASS, reasons=(OffPolicyReason.NOT_CLEARLY_WORSE,), texts=("elsewhere",))
    folder = canary.promotion.folder / canary.start(SHADOW, off_policy=given).id
    canary.tick(2.3)
    assert msgspec.json.decode((folder / GIVEN).read_bytes(), type=OffPolicyVerdict) == given
    record = read_record(folder)
    assert record is not None and record.verdict.outcome is Outcome.UNDECIDED
