"""A month's audit: fair passes, unfair is blocked and named, and what is broken or missing holds with its reason."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fairlearn.metrics import MetricFrame
from msgspec.structs import replace as with_fields

from monitoring.audit import AuditPlan, audit, month_before, month_days, sides_of
from monitoring.audit_record import AuditReason, AuditRecord, Cell, Check
from monitoring.audit_rows import AuditRows, table_of
from monitoring.errors import BadPlan
from registry.verdict import Outcome
from tests.monitoring.audit_month import DIALS, PLAN, month, ranked_again


@pytest.fixture(scope="module")
def rows() -> AuditRows:
    """A month without disparity."""
    return month()


@pytest.fixture(scope="module")
def fair(rows: AuditRows) -> AuditRecord:
    return audit(rows, PLAN)


def cell(record: AuditRecord, metric: str, dimension: str, group: str, check: Check = Check.LEVEL) -> Cell:
    return next(
        one
        for one in record.cells
        if (one.family.metric, one.family.dimension, one.group, one.check) == (metric, dimension, group, check)
    )


def failed(record: AuditRecord) -> set[tuple[str, str, str]]:
    return {(one.family.metric, one.family.dimension, one.group) for one in record.cells
            if one.outcome is Outcome.FAIL and one.family.gates and one.check is Check.LEVEL}  # fmt: skip


def test_a_fair_month_passes_and_the_gate_gets_its_audit(fair: AuditRecord) -> None:
    assert (fair.outcome, fair.reasons, fair.source) == (Outcome.PASS, (AuditReason.PROVED_ABOVE,), "traffic"), (
        fair.sentence
    )
    assert (fair.audit.line, fair.audit.outcome, fair.audit.at) == ("new", Outcome.PASS, 31 * 86_400.0)
    assert {one.family.dimension for one in fair.cells if one.family.side == "consumer"} == {
        "language", "age_band", "gender", "language x age_band", "language x gender", "age_band x gender",
    }  # fmt: skip


def test_a_cells_rate_is_fairlearns_rate_of_its_viewers(rows: AuditRows, fair: AuditRecord) -> None:
    table = rows.impressions.filter(pc.equal(rows.impressions["release"], "new-2"))
    by_viewer = (
        table.group_by("user_id").aggregate([("clicked", "sum"), ("clicked", "count")]).join(rows.viewers, "user_id")
    )
    frame = MetricFrame(
        metrics=lambda y, x: y.sum() / x.sum(), y_true=by_viewer["clicked_sum"].to_numpy(),
        y_pred=by_viewer["clicked_count"].to_numpy(), sensitive_features=by_viewer["language"].to_pandas(),
    )  # fmt: skip
    for group, value in frame.by_group.items():
        assert cell(fair, "ctr", "language", str(group)).value == pytest.approx(value)
    listed = {one.group: one.values["ctr"] for one in fair.tables if one.dimension == "language"}
    assert listed["everybody"] == pytest.approx(frame.overall)
    assert listed["smallest / largest"] == pytest.approx(frame.ratio())
    assert listed["largest - smallest"] == pytest.approx(frame.difference())


def test_who_does_not_say_is_a_group_of_its_own(rows: AuditRows, fair: AuditRecord) -> None:
    met = rows.viewers["gender"].slice(0, 2_000)  # the first half
    assert 150 < met.null_count == cell(fair, "ctr", "gender", "unknown").viewers


def test_viewers_without_any_profile_are_audited_too(rows: AuditRows) -> None:
    some = replace(rows, viewers=rows.viewers.slice(1_000))
    found = audit(some, PLAN)
    assert cell(found, "ctr", "language", "unknown").viewers == 1_000
    assert sum(one.viewers for one in found.cells
               if str(one.family) == "consumer ctr by language" and one.check is Check.LEVEL) == 2_000  # fmt: skip


def test_a_gender_served_worse_is_blocked_by_name() -> None:
    found = audit(month(unfair={"female": 0.55}), PLAN)
    assert found.outcome is Outcome.FAIL and AuditReason.PROVED_BELOW in found.reasons
    assert ("ctr", "gender", "female") in failed(found)
    assert not {one for one in failed(found) if one[1] in ("language", "age_band")}


def test_a_candidate_that_serves_a_group_worse_than_the_incumbent_did_is_blocked() -> None:
    found = audit(month(unfair={"tr": 0.7}), PLAN)
    assert cell(found, "ctr", "language", "tr", Check.CHANGE).reason is AuditReason.WORSENED
    assert cell(found, "ctr", "language", "de", Check.CHANGE).reason is not AuditReason.WORSENED
    assert AuditReason.WORSENED in found.reasons


def test_a_group_that_never_met_the_incumbent_is_not_passed_in_silence(rows: AuditRows) -> None:
    people = dict(zip(*(rows.viewers[name].to_pylist() for name in ("user_id", "language")), strict=True))
    shown = zip(*(rows.impressions[name].to_pylist() for name in ("user_id", "release")), strict=True)
    kept = [people[user] != "tr" or release != "old-1" for user, release in shown]
    found = audit(replace(rows, impressions=rows.impressions.filter(pa.array(kept))), PLAN)
    assert (found.outcome, found.reasons) == (Outcome.UNDECIDED, (AuditReason.NOT_MEASURED,))
    said = [one.text for one in found.troubles if one.holds]
    assert said[0] == (
        "consumer ctr by language: tr has no rate under one of candidate and incumbent, so that its change was not measured"
    )
    changes = {(one.family.metric, one.group) for one in found.cells if one.check == "change"}
    assert ("ctr", "en") in changes and ("ctr", "tr") not in changes


def test_creators_who_are_hidden_though_they_please_are_found_by_merit() -> None:
    found = audit(month(hidden=0.3), PLAN)
    assert failed(found) == {("exposure_to_merit", "language", "tr")}
    ratio = cell(found, "exposure_to_merit", "language", "tr")
    # four of five places by weight 1 + 0.63 + 0.5 + 0.43 show tr 0.3 of the time, the drawn one (0.39) always
    assert ratio.estimate == pytest.approx((2.56 * 0.3 + 0.39) / 2.95, abs=0.04)
    assert cell(found, "exposure_to_merit", "language", "tr", Check.CHANGE).reason is AuditReason.WORSENED


def test_taking_back_what_a_group_of_creators_had_too_much_of_blocks_nobody() -> None:
    """The incumbent hides those who speak tr, so the others have 1.14 of their merit; the candidate gives each its due."""
    found = audit(month(hidden=0.3), replace(PLAN, candidate=("old-1",), incumbent=("new-2",)))
    change = cell(found, "exposure_to_merit", "language", "en", Check.CHANGE)
    assert change.reference == pytest.approx(1.14, abs=0.03) and change.value == pytest.approx(1.0, abs=0.03)
    assert (change.outcome, found.outcome) == (Outcome.PASS, Outcome.PASS), found.sentence


def test_without_an_incumbent_only_levels_are_judged(rows: AuditRows) -> None:
    found = audit(rows, replace(PLAN, incumbent=()))
    assert found.outcome is Outcome.PASS and {one.check for one in found.cells} == {Check.LEVEL}


def changed_column(
    name: str, column: str, change: Callable[[pa.ChunkedArray], pa.Array]
) -> Callable[[AuditRows], AuditRows]:
    def spoil(rows: AuditRows) -> AuditRows:
        table = getattr(rows, name)
        place = table.schema.get_field_index(column)
        return replace(rows, **{name: table.set_column(place, column, change(table[column]))})

    return spoil


def first_is(value: object) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda old: pa.array([value, *old.to_pylist()[1:]], old.type)


BROKEN: dict[str, tuple[Callable[[AuditRows], AuditRows], AuditReason]] = {
    "the table impressions lacks the column propensity": (
        lambda rows: replace(rows, impressions=rows.impressions.drop_columns(["propensity"])), AuditReason.MISSING_COLUMN,
    ),
    "the table viewers lacks the column gender": (
        lambda rows: replace(rows, viewers=rows.viewers.drop_columns(["gender"])), AuditReason.MISSING_COLUMN,
    ),
    "the column impressions.predicted has 1 values that are no numbers": (
        changed_column("impressions", "predicted", first_is(float("nan"))), AuditReason.NOT_A_NUMBER,
    ),
    "the column impressions.clicked lacks 1 values": (
        changed_column("impressions", "clicked", first_is(None)), AuditReason.MISSING_VALUE,
    ),
    "the column impressions.propensity has values from 0 to 1; allowed are 1e-12 to 1": (
        changed_column("impressions", "propensity", first_is(0.0)), AuditReason.OUT_OF_RANGE,
    ),
    "the column impressions.clicked has values from 0 to 7; allowed are 0 to 1": (
        changed_column("impressions", "clicked", first_is(7)), AuditReason.OUT_OF_RANGE,
    ),
    "the column creators.size is of type string; it must be double": (
        changed_column("creators", "size", lambda old: old.cast(pa.string())), AuditReason.NOT_A_NUMBER,
    ),
    "the table viewers has 1 rows with the user_id of another": (
        lambda rows: replace(rows, viewers=pa.concat_tables([rows.viewers, rows.viewers.slice(0, 1)])),
        AuditReason.NOT_UNIQUE,
    ),
    "nothing was shown in this month": (
        lambda rows: replace(rows, impressions=rows.impressions.slice(0, 0)), AuditReason.NO_ROWS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", list(BROKEN))
def test_broken_input_holds_with_its_reason(rows: AuditRows, sentence: str) -> None:
    spoil, reason = BROKEN[sentence]
    found = audit(spoil(rows), PLAN)
    assert (found.outcome, found.reasons, found.sentence) == (Outcome.UNDECIDED, (reason,), sentence)


def test_a_line_that_showed_nothing_holds(rows: AuditRows) -> None:
    found = audit(rows, AuditPlan(line="other", month="2027-01", candidate=(), config=DIALS))
    assert (found.outcome, found.reasons) == (Outcome.UNDECIDED, (AuditReason.NO_ROWS,))


def test_without_exploration_merit_is_unknown_and_the_audit_holds() -> None:
    found = audit(month(explored=False), PLAN)
    assert (found.outcome, found.reasons) == (Outcome.UNDECIDED, (AuditReason.NO_EXPLORATION,))


def test_too_few_viewers_hold(rows: AuditRows) -> None:
    found = audit(rows, replace(PLAN, config=replace(DIALS, min_viewers=1_500)))
    assert found.outcome is Outcome.UNDECIDED and AuditReason.TOO_FEW_VIEWERS in found.reasons


def test_attributes_that_nobody_told_hold(rows: AuditRows) -> None:
    nobody = pa.nulls(rows.viewers.num_rows, pa.string())
    place = rows.viewers.schema.get_field_index("age_band")
    found = audit(replace(rows, viewers=rows.viewers.set_column(place, "age_band", nobody)), PLAN)
    assert (found.outcome, found.reasons) == (Outcome.UNDECIDED, (AuditReason.ATTRIBUTE_UNKNOWN,))
    assert found.sentence.startswith("consumer ctr by age_band: nobody's age_band is known")


def test_last_months_open_cells_count_only_where_it_was_last_month_and_the_same_evidence(rows: AuditRows) -> None:
    strict = replace(PLAN, config=replace(DIALS, four_fifths=0.9))
    first = audit(rows, replace(strict, month="2026-12"))
    assert first.outcome is Outcome.UNDECIDED
    assert AuditReason.HELD_AGAIN in audit(rows, strict, before=first).reasons
    for other in ({"month": "2026-11"}, {"source": "reranked"}, {"line": "old"}):
        assert AuditReason.HELD_AGAIN not in audit(rows, strict, before=with_fields(first, **other)).reasons


def test_requests_answered_with_nothing_are_audited_where_they_are_logged(rows: AuditRows, fair: AuditRecord) -> None:
    assert [(one.reason, one.holds) for one in fair.troubles] == [(AuditReason.NOT_MEASURED, False)]
    users, languages = (rows.viewers[name].to_pylist() for name in ("user_id", "language"))
    results = [0.0 if language == "tr" and n % 2 else 10.0 for n, language in enumerate(languages)]
    found = audit(replace(rows, requests=table_of("requests", {"user_id": users, "results": results})), PLAN)
    assert found.troubles == ()
    assert failed(found) >= {("answered_rate", "language", "tr")}


def test_a_candidate_that_met_too_few_is_audited_on_reranked_requests() -> None:
    few = month(candidate=0.05)
    again = audit(ranked_again(few), PLAN)
    assert (again.source, again.outcome) == ("reranked", Outcome.PASS), again.sentence
    changes = [one for one in again.cells if one.check is Check.CHANGE]
    assert changes and all(one.estimate == pytest.approx(0.0, abs=1e-9) for one in changes)
    assert cell(again, "clicks_by_place", "language", "tr").viewers == 800


def test_reranking_that_puts_a_groups_favourites_last_is_blocked() -> None:
    found = audit(ranked_again(month(candidate=0.05), wronged="tr"), PLAN)
    assert (found.source, found.outcome) == ("reranked", Outcome.FAIL)
    assert ("clicks_by_place", "language", "tr") in failed(found)
    assert cell(found, "clicks_by_place", "language", "tr", Check.CHANGE).reason is AuditReason.WORSENED


def test_a_candidate_with_enough_viewers_is_audited_by_its_traffic(rows: AuditRows) -> None:
    assert audit(ranked_again(rows, wronged="tr"), PLAN).source == "traffic"


def test_months_and_the_lines_of_releases() -> None:
    assert (month_before("2027-01"), month_before("2027-12")) == ("2026-12", "2027-11")
    assert [day.isoformat() for day in month_days("2027-12")] == ["2027-12-01", "2028-01-01"]
    releases = ["demo-2", "demo-10", "demo-b-3", "old-1", "none"]
    assert sides_of(releases, "demo") == (("demo-10", "demo-2"), ("demo-b-3", "old-1"))
    assert sides_of(releases, "demo", against="old") == (("demo-10", "demo-2"), ("old-1",))


def test_a_plan_that_means_nothing_is_refused() -> None:
    with pytest.raises(BadPlan, match="'January' is no month; write it like 2027-01"):
        AuditPlan(line="l", month="January", candidate=())
    with pytest.raises(BadPlan, match="release a-1 cannot be both"):
        AuditPlan(line="a", month="2027-01", candidate=("a-1",), incumbent=("a-1", "b-1"))


def test_the_same_month_gives_the_same_record(rows: AuditRows, fair: AuditRecord) -> None:
    shuffled = rows.impressions.take(np.random.default_rng(1).permutation(rows.impressions.num_rows))
    again = audit(replace(rows, impressions=shuffled), PLAN)
    assert [(one.key, one.outcome) for one in again.cells] == [(one.key, one.outcome) for one in fair.cells]
    assert [one.estimate for one in again.cells] == pytest.approx([one.estimate for one in fair.cells], rel=1e-9)
