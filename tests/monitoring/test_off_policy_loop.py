"""From feeds to a verdict: a proxy with a release in shadow, viewers who click, offline tables, and what these then say."""

import random
from pathlib import Path
from typing import Any

import pytest

from events import schema as s
from events.clock import utc
from monitoring.off_policy_gate import OffPolicyReason
from monitoring.off_policy_lake import OffPolicyRecord, ShadowPhase, evaluate
from registry.verdict import Outcome
from serving.arrange import ArrangeConfig
from serving.attempt import FeedConfig
from serving.shadow import ShadowConfig
from tests.release.evenings import Evening
from tests.serving.small_world import NOW, ask
from tests.serving.test_shadow import ALIKE, BACKWARDS, logged, shadowed, warm

VIEWERS, PAGES = 520, 2
# Eight places, the last four of them explored, five rows in the pool of each.
FEED = FeedConfig(
    arrange=ArrangeConfig(explored_share=0.5, epsilon=0.4, pool=20), shadow=ShadowConfig(queue=10_000, patience_s=600.0)
)


def judged(folder: Path, formula: dict[str, Any]) -> tuple[OffPolicyRecord, list[s.Impression]]:
    """Viewers click and complete with the probabilities that the answering release's scores say: it is right about them."""
    world, dice = shadowed(folder, formula), random.Random(5)
    warm(world, VIEWERS)
    proxy = world.proxy(config=FEED)
    for n in range(VIEWERS * PAGES):
        ask(proxy, user_id=f"u{n % VIEWERS}", request_id=f"q{n}", limit=8, diversity=0.0)
    proxy.shadow.step()
    shown = logged(world, proxy)
    clicks = [
        s.FeedClicked(
            event_id=f"c-{one.event_id}", event_at=utc(NOW + 5), user_id=one.user_id, item_id=one.item_id,
            request_id=one.request_id, position=one.position,
        )
        for one in shown
        if one.scores is not None and dice.random() < one.scores["click"]
    ]  # fmt: skip
    completions = [
        s.MediaCompleted(
            event_id=f"d-{one.event_id}", event_at=utc(NOW + 9), user_id=one.user_id, item_id=one.item_id,
            request_id=one.request_id,
        )
        for one in shown
        if one.scores is not None and dice.random() < one.scores["completion"]
    ]  # fmt: skip
    evening = Evening(folder / "lake")
    evening.store([*shown, *clicks, *completions])
    phase = ShadowPhase(id="try", release="demo-2", since=NOW - 1, until=NOW + 3_600)
    return evaluate(evening.lake, phase), shown


def test_a_release_that_puts_the_worst_first_is_told_from_its_choices_alone(tmp_path: Path) -> None:
    record, shown = judged(tmp_path, BACKWARDS)
    assert len(shown) == 8 * VIEWERS * PAGES
    assert (record.read.explored, record.read.scored) == (4 * VIEWERS * PAGES, 4 * VIEWERS * PAGES)
    assert (record.verdict.outcome, record.verdict.reasons) == (Outcome.FAIL, (OffPolicyReason.CLEARLY_WORSE,))
    assert all(one.p > 0.001 for one in record.verdict.propensities)
    click = next(one for one in record.verdict.judged if (one.reward, one.method) == ("click", "doubly_robust"))
    true = [
        (told.expected_target["click"], told.expected_incumbent["click"])
        for one in shown if one.explored is not None and (told := one.explored.shadow) is not None
    ]  # fmt: skip
    difference = sum(target - incumbent for target, incumbent in true) / len(true)  # exact: the scores are the truth
    assert click.low is not None and click.high is not None and click.low < difference < click.high < 0
    assert click.incumbent == pytest.approx(sum(incumbent for _, incumbent in true) / len(true), abs=0.02)


def test_a_release_that_orders_everything_alike_has_nothing_to_be_compared_by(tmp_path: Path) -> None:
    record, _ = judged(tmp_path, ALIKE)
    assert record.verdict.reasons == (OffPolicyReason.SAME_CHOICES,)
    assert record.verdict.overlap is not None and record.verdict.overlap.differing == 0.0
