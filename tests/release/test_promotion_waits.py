"""A promotion that is decided and not done, and what may come between: a lost audit, a switch, a page not drawn."""

from pathlib import Path
from typing import Any

import pytest

from monitoring.canary_gate import Action
from monitoring.canary_log import read_log
from registry.experiment import State, switched_off
from registry.verdict import Outcome, Reason, read_verdict
from release import promotion_acts
from release.errors import CannotStart, NotAudited, NotServed
from tests.release.canaries import CONFIG, HOUR, START, Canary, edited
from tests.release.evenings import shown


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    return Canary(tmp_path)


def decided(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion in the log that the model server did not follow."""
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    with monkeypatch.context() as patch:
        patch.setattr(promotion_acts, "deploy", fails)
        with pytest.raises(NotServed):
            canary.tick(2)
    assert canary.state() == ("canary", False)


def fails(*_: Any, **__: Any) -> None:
    raise NotServed("the model server is down")


def lose_the_audit(canary: Canary) -> None:
    for record in canary.audits.glob("*.json"):
        record.unlink()


def test_a_promotion_whose_audit_went_is_refused_until_another_passes(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(canary, monkeypatch)
    lose_the_audit(canary)
    with pytest.raises(
        NotAudited, match=r"is not promoted: line demo has no bias audit; a new audit lets it, and stop"
    ):
        canary.tick(2.5)
    canary.audited(Outcome.FAIL)
    with pytest.raises(NotAudited, match="line demo failed its bias audit"):
        canary.tick(2.6)
    assert (canary.state(), canary.traffic()) == (("canary", False), {"stable": "demo-1", "canary": "demo-2"})
    canary.audited(at=START)
    assert canary.tick(2.7).experiment.state is State.PROMOTED  # type: ignore[union-attr]


def test_an_audit_that_has_become_too_old_does_not_carry_a_promotion(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(canary, monkeypatch)
    with pytest.raises(NotAudited, match="the bias audit is 34 days old; 33 are allowed"):
        canary.tick(34 * 24.0, newest=False)
    assert canary.traffic()["stable"] == "demo-1"


def test_what_is_decided_and_not_done_is_asked_for_every_hour(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(canary, monkeypatch)
    lose_the_audit(canary)
    keys = []
    for hour in (2.1, 2.9, 3.1, 200.0):
        canary.clock.set(START + hour * HOUR)
        keys.append(canary.promotion.due().rpartition(":")[2])
    assert keys == ["promote-0", "promote-0", "promote-1", "promote-198"]


def test_an_end_that_is_not_settled_or_not_read_back_is_asked_for_every_hour(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary.start()
    canary.promotion.acts.experiments.change(
        lambda old: switched_off(old, at=START), who="a proxy", at=START, what="killed", why="over HTTP"
    )
    keys = []
    for hour in (0.5, 1.5):
        canary.clock.set(START + hour * HOUR)
        keys.append(canary.promotion.due().rpartition(":")[2])
    canary.promotion.evaluate()
    keys.append(canary.promotion.due().rpartition(":")[2])
    canary.tick(2.0)
    assert keys == ["settle-0", "settle-1", "read-back-1"]
    assert canary.promotion.due() == ""


def test_harm_is_rolled_back_though_no_page_can_be_drawn_and_it_is_drawn_later(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = canary.start()
    canary.hour(1, canary=2, stable=6)
    with monkeypatch.context() as patch:
        patch.setattr("monitoring.canary_page.write_page", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        patch.setattr("release.promotion.write_verdict", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        done = canary.tick(1)
    assert (canary.state(), canary.traffic()) == (("rolled_back", True), {"stable": "demo-1"})
    assert done.said[-1] == f"the page or verdict of {one.id} could not be written: OSError: disk full"
    assert done.said[-1] in canary.place.said
    canary.tick(1.1)
    assert canary.promotion.page(one).exists()
    assert read_verdict(canary.promotion.folder / one.id).reasons == (Reason.HARMED,)


def test_a_live_json_that_cannot_be_read_is_a_hold_in_the_log(canary: Canary) -> None:
    one = canary.start()
    canary.hour(1, canary=4, stable=4)
    live = canary.place.releases / "live.json"
    whole = live.read_bytes()
    live.write_bytes(b"{")
    held = canary.tick(1)
    assert held.action is Action.HOLD
    assert (
        "BadManifest: " in held.decided[0].decision.text and "live.json cannot be read" in held.decided[0].decision.text
    )
    live.write_bytes(whole)
    assert canary.tick(1.1).action is Action.CONTINUE
    assert [entry.decision.action for entry in read_log(canary.promotion.log(one))] == [Action.HOLD, Action.CONTINUE]


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [
        (lambda acts: acts.stop(why="now"), "experiments are switched off"),
        (lambda acts: acts.pin("stable", why="now"), "everybody is pinned to stable"),
    ],
)
def test_a_switch_thrown_while_the_canary_is_loaded_wins(
    canary: Canary, monkeypatch: pytest.MonkeyPatch, meanwhile: Any, said: str
) -> None:
    deploy = promotion_acts.deploy

    def slow(*given: Any, **more: Any) -> str:
        meanwhile(canary.promotion.acts)
        return deploy(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(promotion_acts, "deploy", slow)
        with pytest.raises(CannotStart, match=said):
            canary.start()
    assert (canary.record().experiment, canary.traffic(), canary.registry.challenger) == (
        None,
        {"stable": "demo-1"},
        {},
    )
    canary.promotion.acts.resume(why="over")
    assert canary.record().experiment is None


def test_a_canary_that_was_decided_before_does_not_start_again_under_its_id(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    canary.tick(2)
    canary.promotion.acts.revert(why="complaints")
    canary.clock.set(START)
    with pytest.raises(
        CannotStart, match=r"^demo-2-20261101T180000 has been decided before, in .*decisions\.jsonl; start"
    ):
        canary.start()
    assert (canary.state()[0], canary.traffic()) == ("rolled_back", {"stable": "demo-1"})


def test_after_a_revert_only_traffic_since_it_is_read_back(canary: Canary) -> None:
    canary.audited()
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    canary.tick(2)
    canary.evening.store([shown("ann", "q", "i", 2 * HOUR + 40, release="demo-2")])
    canary.clock.set(START + 2 * HOUR + 60)
    canary.promotion.acts.revert(why="complaints")
    canary.evening.store([shown("ann", "r", "i", 2 * HOUR + 90, release="demo-1")])
    done = canary.tick(2.1, newest=False)
    assert done.said == ("of 1 impressions since, 0 in the canary's arm and 0 answered by its release",)


def test_a_shadow_whose_log_stops_is_held_and_ends_without_anybody_having_met_it(canary: Canary) -> None:
    one = canary.start(edited(CONFIG, shadow_hours=2.0))
    canary.evening.store([shown("ann", "q", "i", 2 * HOUR)])
    held = canary.tick(3.0, newest=False)
    assert held.said == (f"{one.id}: the newest stored impression is 15 min too old to judge by; held in shadow",)
    assert (held.action, canary.state()[0]) == (Action.HOLD, "shadow")
    assert not (canary.promotion.folder / one.id / "off_policy.json").exists()
    canary.tick(26.3, newest=False)
    assert (canary.state(), canary.traffic()) == (("stopped", True), {"stable": "demo-1"})
