"""Pooling, stories of groups that pass, hold and block, and months that remember."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields

from monitoring.audit_cells import FamilyCells, Size, judge_change, judge_level, pooled
from monitoring.audit_record import (
    POOLED,
    AuditConfig,
    AuditReason,
    AuditRecord,
    Cell,
    Check,
    Family,
    Trouble,
    concluded,
)  # fmt: skip
from monitoring.errors import BadPlan
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome

CONFIG = AuditConfig()
FAMILY = Family("consumer", "language", "ctr")


def group(n: int, *, clicks: float, cv2: float = 1.0) -> RatioSums:
    """n viewers with ten impressions each and that many clicks a viewer on average, of squared variation cv2 about it."""
    square = clicks**2 * (1 + cv2)
    return RatioSums(n, n * clicks, 10.0 * n, n * square, 100.0 * n, 10.0 * n * clicks)


def judged(config: AuditConfig = CONFIG, before: AuditRecord | None = None, **groups: RatioSums) -> FamilyCells:
    return judge_level(FAMILY, groups, config=config, before=before)


def outcomes(found: FamilyCells) -> dict[str, tuple[Outcome, AuditReason]]:
    return {cell.group: (cell.outcome, cell.reason) for cell in found.cells}


def record(cells: tuple[Cell, ...]) -> AuditRecord:
    return AuditRecord(
        line="l", month="2027-01", at=0.0, source="traffic", outcome=Outcome.UNDECIDED, reasons=(), sentence="",
        config=CONFIG, cells=cells,
    )  # fmt: skip


def test_groups_served_alike_pass() -> None:
    found = judged(en=group(50_000, clicks=1.0), de=group(5_000, clicks=1.0), tr=group(2_000, clicks=0.97))
    assert {one for one, _ in outcomes(found).values()} == {Outcome.PASS}
    assert concluded(found.cells, found.troubles)[:2] == (Outcome.PASS, (AuditReason.PROVED_ABOVE,))


def test_a_group_at_seven_tenths_is_blocked_and_named() -> None:
    found = judged(en=group(50_000, clicks=1.0), de=group(5_000, clicks=1.0), tr=group(5_000, clicks=0.7))
    assert outcomes(found)["tr"] == (Outcome.FAIL, AuditReason.PROVED_BELOW)
    tr = next(cell for cell in found.cells if cell.group == "tr")
    assert tr.estimate == pytest.approx(0.7) and tr.high is not None and tr.high < 0.8
    assert (tr.value, tr.reference) == (pytest.approx(0.07), pytest.approx(0.1))
    outcome, reasons, sentence = concluded(found.cells, found.troubles)
    assert (outcome, reasons) == (Outcome.FAIL, (AuditReason.PROVED_BELOW,))
    assert sentence.startswith("consumer ctr by language, tr: 0.7 (") and sentence.endswith("proved below 0.8")


def test_a_group_that_may_be_either_holds_and_does_not_pass() -> None:
    found = judged(en=group(50_000, clicks=1.0), de=group(5_000, clicks=1.0), tr=group(1_000, clicks=0.82))
    assert outcomes(found)["tr"] == (Outcome.UNDECIDED, AuditReason.INTERVAL_COVERS)
    assert concluded(found.cells, ())[:2] == (Outcome.UNDECIDED, (AuditReason.INTERVAL_COVERS,))


def test_a_group_better_off_than_all_others_does_not_block_them() -> None:
    found = judged(en=group(50_000, clicks=1.0), de=group(50_000, clicks=1.0), tr=group(1_500, clicks=1.6))
    assert {one for one, _ in outcomes(found).values()} == {Outcome.PASS}


def test_a_second_open_month_on_a_cell_blocks_and_so_does_a_third() -> None:
    groups = {"en": group(50_000, clicks=1.0), "tr": group(1_000, clicks=0.82)}
    first = judged(**groups)
    second = judged(before=record(first.cells), **groups)
    third = judged(before=record(second.cells), **groups)
    assert [next(c for c in month.cells if c.group == "tr").months_held for month in (first, second, third)] == [
        1,
        2,
        3,
    ]
    assert outcomes(second)["tr"] == outcomes(third)["tr"] == (Outcome.FAIL, AuditReason.HELD_AGAIN)
    assert "undecided for 2 months in a row" in concluded(second.cells, ())[2]


def test_a_month_that_was_decided_in_between_starts_the_count_anew() -> None:
    good = {"en": group(50_000, clicks=1.0), "tr": group(1_000, clicks=1.0)}
    first = judged(before=record(judged(**good).cells), en=group(50_000, clicks=1.0), tr=group(1_000, clicks=0.82))
    assert outcomes(first)["tr"] == (Outcome.UNDECIDED, AuditReason.INTERVAL_COVERS)


def test_open_months_of_another_metric_do_not_count() -> None:
    groups = {"en": group(50_000, clicks=1.0), "tr": group(1_000, clicks=0.82)}
    depth = judge_level(Family("consumer", "language", "session_depth"), groups, config=CONFIG)
    assert outcomes(judged(before=record(depth.cells), **groups))["tr"][0] is Outcome.UNDECIDED


def test_small_groups_are_judged_as_one_with_their_names() -> None:
    found = judged(en=group(50_000, clicks=1.0), fi=group(600, clicks=0.6), da=group(700, clicks=0.6))
    assert outcomes(found)[POOLED] == (Outcome.FAIL, AuditReason.PROVED_BELOW)
    assert next(cell for cell in found.cells if cell.group == POOLED).members == ("fi", "da")


def test_a_single_small_group_takes_the_next_smallest_with_it() -> None:
    found = judged(en=group(50_000, clicks=1.0), de=group(3_000, clicks=1.0), fi=group(30, clicks=1.0))
    assert {cell.group: cell.members for cell in found.cells} == {"en": ("en",), POOLED: ("fi", "de")}


def test_a_group_that_never_clicks_is_not_pooled_away() -> None:
    """Its own events are none; those that it would have at the platform's rate are many."""
    found = judged(en=group(50_000, clicks=1.0), tr=RatioSums.of(np.zeros(5_000), np.full(5_000, 10.0)))
    assert outcomes(found)["tr"] == (Outcome.FAIL, AuditReason.PROVED_BELOW)


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=3),
        st.tuples(st.integers(0, 5_000), st.floats(0, 400)).map(lambda one: Size(*one)),
        min_size=1,
        max_size=20,
    )
)
def test_pooling_drops_nobody_and_lifts_every_group_over_both_floors(sizes: dict[str, Size]) -> None:
    found = pooled(sizes, CONFIG)
    assert sorted(one for inside in found.values() for one in inside) == sorted(sizes)
    for inside in found.values():
        viewers, events = (sum(getattr(sizes[one], field) for one in inside) for field in ("viewers", "events"))
        assert len(found) == 1 or (viewers >= CONFIG.min_viewers and events >= CONFIG.min_events)


@given(st.lists(st.tuples(st.integers(1, 4_000), st.floats(0.01, 3.0)), min_size=2, max_size=12))
def test_judging_keeps_every_viewer_and_every_click(drawn: list[tuple[int, float]]) -> None:
    groups = {f"g{n}": group(viewers, clicks=clicks) for n, (viewers, clicks) in enumerate(drawn)}
    found = judge_level(FAMILY, groups, config=CONFIG)
    if found.cells:
        assert sum(cell.viewers for cell in found.cells) == sum(one.n for one in groups.values())
        assert sum(cell.events for cell in found.cells) == pytest.approx(sum(one.y for one in groups.values()))
    else:
        assert found.troubles[0].reason in {AuditReason.TOO_FEW_VIEWERS, AuditReason.TOO_FEW_EVENTS}


@pytest.mark.parametrize(
    ("groups", "reason", "holds"),
    [
        ({"en": group(600, clicks=1.0), "de": group(700, clicks=1.0)}, AuditReason.TOO_FEW_VIEWERS, True),
        ({"en": group(9_000, clicks=0.01), "de": group(9_000, clicks=0.001)}, AuditReason.TOO_FEW_EVENTS, True),
        ({"en": group(9_000, clicks=0.0), "de": group(9_000, clicks=0.0)}, AuditReason.TOO_FEW_EVENTS, True),
        ({"unknown": group(9_000, clicks=1.0)}, AuditReason.ATTRIBUTE_UNKNOWN, True),
        ({}, AuditReason.ATTRIBUTE_UNKNOWN, True),
        ({"en": group(9_000, clicks=1.0)}, AuditReason.ONLY_ONE_GROUP, False),
        ({"en": group(9_000, clicks=1.0), "de": RatioSums(9_000, float("nan"), 1.0)}, AuditReason.NOT_A_NUMBER, True),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(groups: dict[str, RatioSums], reason: AuditReason, holds: bool) -> None:
    found = judge_level(FAMILY, groups, config=CONFIG)
    assert found.cells == ()
    assert [(one.reason, one.holds) for one in found.troubles] == [(reason, holds)]
    assert concluded(found.cells, found.troubles)[0] is Outcome.UNDECIDED


def moments(n: int, *, candidate: float, incumbent: float) -> Moments:
    """Half of the viewers met the candidate and half the incumbent, ten impressions each."""
    none, ten = np.zeros(n // 2), np.full(n // 2, 10.0)
    ours, theirs = (np.tile([0.0, 2 * rate], n // 4) for rate in (candidate, incumbent))
    return Moments.of(np.r_[ours, none], np.r_[ten, none], np.r_[none, theirs], np.r_[none, ten])


def changed(**groups: Moments) -> dict[str, AuditReason]:
    members = {name: (name,) for name in groups}
    return {cell.group: cell.reason for cell in judge_change(FAMILY, groups, members=members, config=CONFIG).cells}


def test_a_candidate_that_costs_a_group_a_fifth_is_blocked_though_the_group_is_above_the_line() -> None:
    en = moments(40_000, candidate=1.0, incumbent=1.0)
    found = changed(en=en, tr=moments(40_000, candidate=1.0, incumbent=1.25))
    assert found == {"en": AuditReason.NOT_WORSENED, "tr": AuditReason.WORSENED}


def test_a_gap_that_was_there_before_is_no_change() -> None:
    found = changed(en=moments(40_000, candidate=1.0, incumbent=1.0), tr=moments(40_000, candidate=0.7, incumbent=0.7))
    assert found["tr"] is AuditReason.NOT_WORSENED


def test_a_change_that_few_viewers_show_is_unclear_and_does_not_hold() -> None:
    groups = {"en": moments(40_000, candidate=1.0, incumbent=1.0), "tr": moments(400, candidate=0.9, incumbent=1.0)}
    cells = judge_change(FAMILY, groups, members={name: (name,) for name in groups}, config=CONFIG).cells
    assert {cell.group: cell.reason for cell in cells}["tr"] is AuditReason.WORSENING_UNCLEAR
    level = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=1.0)).cells
    assert concluded((*level, *cells), ())[0] is Outcome.PASS


def test_without_an_incumbent_nothing_has_changed() -> None:
    one = moments(4_000, candidate=1.0, incumbent=1.0)
    alone = Moments(one.n, (*one.sums[:2], 0.0, 0.0), one.products)
    assert changed(en=alone, tr=alone) == {}


def test_a_group_that_never_met_the_incumbent_holds_and_the_others_are_judged_all_the_same() -> None:
    en, tr = moments(40_000, candidate=1.0, incumbent=1.0), moments(40_000, candidate=1.0, incumbent=1.25)
    new = Moments.of(np.tile([0.0, 2.0], 1_000), np.full(2_000, 10.0), np.zeros(2_000), np.zeros(2_000))
    members = {"en": ("en",), "tr": ("tr",), "pooled": ("fi", "da")}
    groups = {"en": en, "tr": tr, "fi": new, "da": new}
    found = judge_change(FAMILY, groups, members=members, config=CONFIG)
    assert {cell.group: cell.reason for cell in found.cells} == changed(en=en, tr=tr)
    text = (
        "consumer ctr by language: pooled (fi, da) has no rate under one of candidate and incumbent, so that its change was "
        "not measured"
    )
    assert found.troubles == (Trouble(AuditReason.NOT_MEASURED, text),)
    level = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=1.0)).cells
    assert concluded((*level, *found.cells), found.troubles)[0] is Outcome.FAIL
    fair = judge_change(FAMILY, groups | {"tr": en}, members=members, config=CONFIG)
    assert concluded((*level, *fair.cells), fair.troubles)[:2] == (Outcome.UNDECIDED, (AuditReason.NOT_MEASURED,))


def test_where_only_one_group_met_both_sides_no_change_can_be_told_and_that_holds() -> None:
    en = moments(40_000, candidate=1.0, incumbent=1.0)
    new = Moments.of([0.0, 2.0], [10.0, 10.0], [0.0, 0.0], [0.0, 0.0])
    found = judge_change(FAMILY, {"en": en, "fi": new}, members={"en": ("en",), "fi": ("fi",)}, config=CONFIG)
    assert (found.cells, [one.reason for one in found.troubles]) == ((), [AuditReason.NOT_MEASURED])


def test_what_is_only_reported_neither_blocks_nor_holds() -> None:
    bad = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=0.5)).cells
    reported = tuple(with_fields(cell, family=Family("creator", "size", "m", gates=False)) for cell in bad)
    good = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=1.0)).cells
    assert concluded((*good, *reported), ())[0] is Outcome.PASS
    assert concluded(reported, ())[:2] == (Outcome.UNDECIDED, (AuditReason.NOT_MEASURED,))


def test_a_proved_failure_is_not_hidden_by_something_missing() -> None:
    bad = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=0.5)).cells
    assert concluded(bad, [Trouble(AuditReason.NO_EXPLORATION, "no exploration")])[0] is Outcome.FAIL


def test_a_passing_level_is_held_by_something_missing() -> None:
    good = judged(en=group(50_000, clicks=1.0), tr=group(5_000, clicks=1.0)).cells
    held = concluded(good, [Trouble(AuditReason.NO_EXPLORATION, "no exploration")])
    assert held == (Outcome.UNDECIDED, (AuditReason.NO_EXPLORATION,), "no exploration")
    assert {cell.check for cell in good} == {Check.LEVEL}


@pytest.mark.parametrize(
    "dials", [{"four_fifths": 1.2}, {"alpha": 0.0}, {"min_viewers": 10}, {"held_months": 1}, {"worsened": -0.1}]
)
def test_dials_that_mean_nothing_are_refused(dials: dict[str, float]) -> None:
    with pytest.raises(BadPlan, match="not allowed"):
        replace(CONFIG, **dials)  # type: ignore[arg-type]
