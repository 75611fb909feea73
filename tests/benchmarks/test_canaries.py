"""The canaries' drill by hand: dials that the power formula allows, the truth of a stretch, wrapped rankers."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.canaries import CanariesConfig, Hope, drills, version_of
from benchmarks.canary_ground import AuditDials, Stretch
from benchmarks.canary_judged import Audits, Shadowed, again
from benchmarks.canary_variants import LEFT, wrapped
from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
from features.packing import packing_of
from monitoring.audit import audit
from monitoring.audit_lake import audit_plan
from monitoring.audit_record import AuditConfig
from monitoring.canary_gate import Action
from monitoring.off_policy_gate import OffPolicyConfig, OffPolicyReason, undecided
from monitoring.off_policy_lake import OffPolicyRecord, PlacesRead, ShadowPhase
from registry.verdict import Reason
from tests.monitoring.audit_month import month
from tests.serving.small_world import SmallWorld


def test_the_dials_let_500_viewers_an_arm_show_the_planned_lift_and_250_not_the_small_one() -> None:
    config = CanariesConfig()
    by_name = {drill.name: drill.config.gate for drill in drills(config)}
    spread = 0.6  # squared coefficient of variation of a viewer's CTR, the larger of what worlds of this kind had
    whole, short = (2.8 * (spread * 2 / viewers) ** 0.5 for viewers in (500, 250))
    assert whole * 1.75 < by_name["better"].mde  # the error of a lift grows with the lift
    assert short > by_name["underpowered"].mde


def test_the_true_lift_is_of_expected_clicks_an_item() -> None:
    stretch = Stretch(
        0.0, 1.0, shown=Counter({"canary": 100, "stable": 200}), expected={"canary": 15.0, "stable": 20.0}
    )
    assert stretch.lift == pytest.approx(0.5)  # 0.15 over 0.10


def test_without_pages_of_both_arms_there_is_no_lift() -> None:
    assert Stretch(0.0, 1.0, shown=Counter({"stable": 200}), expected={"stable": 20.0}).lift is None


def test_an_arms_share_is_of_pages() -> None:
    answered = Counter({("canary", "b-2"): 30, ("stable", "a-1"): 60, ("canary", "a-1"): 10})
    assert Stretch(0.0, 1.0, answered=answered).share("canary") == pytest.approx(0.4)


def test_the_audit_must_be_the_only_thing_against_an_unfair_canary() -> None:
    unfair = Hope(Action.END, Reason.AUDIT_FAILED, alone=True)
    assert unfair.met_by(Action.END, ("audit_failed",))
    assert not unfair.met_by(Action.END, ("not_better", "audit_failed"))


def test_an_identical_canary_may_lack_an_audit_too() -> None:
    same = Hope(Action.END, Reason.NOT_BETTER)
    assert same.met_by(Action.END, ("not_better", "audit_missing"))
    assert not same.met_by(Action.PROMOTE, ("beats_baseline",))
    assert not same.met_by(None, ())


def test_only_the_better_canary_begins_in_shadow_and_for_as_long_as_the_dials_say() -> None:
    hours = {drill.name: drill.config.shadow_hours for drill in drills(CanariesConfig(shadow_hours=5))}
    assert hours == {"worse": 0.0, "identical": 0.0, "underpowered": 0.0, "unfair": 0.0, "better": 5.0}


def test_rows_that_a_small_worlds_lines_pass_are_blocked_by_the_default_lines_and_held_by_every_default() -> None:
    rows = month(
        viewers=1_200, hidden=0.75
    )  # 600 met the candidate; it shows a language's creators three quarters as often
    found = again(rows, "new", AuditDials(min_viewers=50, min_events=30), against="old")
    codes = Audits(None, found).figures()
    assert (codes["audit_default_lines_outcome"], codes["audit_default_outcome"]) == (2.0, 1.0)
    wide = AuditConfig(four_fifths=0.5, worsened=0.3, min_viewers=50, min_events=30)
    recorded = audit(rows, audit_plan(rows, month="2026-11", line="new", against="old", config=wide))
    assert Audits(recorded).figures()["audit_outcome"] == 0.0


def test_an_audit_that_was_not_made_has_no_figures() -> None:
    assert set(Audits().figures().values()) == {None}


def test_a_shadow_phase_without_a_verdict_on_places_is_undecided_and_counts_what_was_there() -> None:
    phase = ShadowPhase(id="twin-1-x", release="twin-1", since=0.0, until=3_600.0)
    verdict = undecided(OffPolicyReason.NO_DATA, "twin-1 chose at none of 7 explored places")
    record = OffPolicyRecord(
        phase=phase, versions={}, read=PlacesRead(explored=7), config=OffPolicyConfig(), verdict=verdict
    )
    stretch = Stretch(0.0, 1.0, answered=Counter({("stable", "blind-2"): 9}))
    assert Shadowed(stretch, record).figures() == {
        "shadow_outcome": 1.0, "shadow_explored": 7.0, "shadow_places": 0.0, "shadow_viewers": None, "shadow_rows": None,
        "shadow_canary_share": 0.0,
    }  # fmt: skip


def test_a_version_is_what_a_releases_name_ends_with() -> None:
    assert version_of("two-part-line-17") == 17


def test_a_wrapped_ranker_changes_what_it_must_and_nothing_else(tmp_path: Path) -> None:
    import tensorflow as tf

    from tests.serving.small_models import write_models

    world = SmallWorld(tmp_path).fill()
    encoder = world.encoder()
    release = world.release(1, live=False)
    write_models(release, encoder)
    packing_of(encoder.config).save(release / "packing.json")
    code = encoder.vocabulary["language"]["en"]

    def change(flow: object, tensors: dict[str, object], scores: object) -> object:
        return scores * tf.where(tf.equal(tensors["language"], code), LEFT, 1.0)[:, None]

    made = wrapped(release, change, line="narrow", version=2, into=tmp_path)  # type: ignore[arg-type]
    rows = [{"item.language": "en", "item.item_key": "m3"}, {"item.language": "xx", "item.item_key": "m3"}]
    given = encoder.encode(rows, (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS))
    before, after = (
        tf.saved_model.load(str(folder / "models" / "ranker"))
        .signatures["rank"](**{name: tf.constant(value) for name, value in given.items()})["scores"]
        .numpy()
        for folder in (release, made)
    )
    np.testing.assert_allclose(after[0], LEFT * before[0], rtol=1e-6)
    np.testing.assert_allclose(after[1], before[1], rtol=1e-6)
    assert made.name == "narrow-2"
