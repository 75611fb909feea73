"""From impressions and engagement in real tables to columns and a verdict on a release in shadow."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from events import schema as s
from events.clock import utc
from events.log import Record
from events.tables import SCHEMAS, to_row
from events.topics import IMPRESSIONS
from features.errors import NoTable
from features.offline_tables import open_table
from monitoring.errors import BadPlaces
from monitoring.off_policy_gate import OffPolicyReason, OffPolicyVerdict, judge
from monitoring.off_policy_lake import (
    WINDOW_S,
    OffPolicyRecord,
    PlacesRead,
    ShadowPhase,
    evaluate,
    logged_places,
)
from monitoring.off_policy_log import LoggedPlaces
from registry.verdict import Outcome
from tests.monitoring.shadow_stories import FAR, HOUR, NEAR, click, completion, explored, place, told
from tests.release.evenings import START, Evening, clicked, shown

PHASE = ShadowPhase(id="try", release="demo-2", since=START, until=START + 10 * HOUR)


@pytest.fixture
def evening(tmp_path: Path) -> Evening:
    return Evening(tmp_path / "lake")


def read(evening: Evening, phase: ShadowPhase = PHASE) -> tuple[dict[str, LoggedPlaces], PlacesRead]:
    seen, done = (open_table(evening.lake, name) for name in ("impressions", "engagement"))
    assert seen is not None and done is not None
    return logged_places(seen, done, phase)


def test_a_place_shown_by_merit_and_a_draw_have_the_odds_that_both_releases_would_have_given_them(
    evening: Evening,
) -> None:
    evening.store([
        place("ann", "q1", 1, explored(chose=True)), place("bob", "q2", 2, explored(chose=False)),
        place("cat", "q3", 3, explored(2, chose=True)), place("dan", "q4", 4, explored(0, chose=False)),
        click("ann", "q1", 5),
    ])  # fmt: skip
    places = read(evening)[0]["click"]
    assert places.viewer.tolist() == ["ann", "bob", "cat", "dan"]
    assert places.propensity == pytest.approx([0.6, 0.6, 0.1, 0.1])
    assert places.incumbent == pytest.approx([0.6, 0.6, 0.1, 0.1])
    assert places.target == pytest.approx([0.6, 0.0, 0.7, 0.1])
    assert places.support is not None and places.support.rank is not None
    assert places.support.choices.tolist() == [5, 5, 5, 5]
    assert places.support.drawn.tolist() == [False, False, True, True]
    assert places.support.rank[2:].tolist() == [2.5 / 4, 0.5 / 4]


def test_rewards_are_what_came_within_each_labels_observation_window(evening: Evening) -> None:
    """A click counts for 90 s, a completion for 15 minutes; of a room, what was watched for 30 s."""
    evening.store([
        *(place("ann", f"q{n}", 0, explored()) for n in range(1, 6)),
        click("ann", "q1", 90), click("ann", "q2", 91), completion("ann", "q1", 900), completion("ann", "q2", 901),
        s.RoomLeft(event_id="l3", event_at=utc(START + 40), user_id="ann", room_id="item-of-q3", streamer_id="h",
                   request_id="q3", watched_s=30.0),
        s.RoomLeft(event_id="l4", event_at=utc(START + 40), user_id="ann", room_id="item-of-q4", streamer_id="h",
                   request_id="q4", watched_s=29.0),
        clicked("ann", "q5", "another-item", 10),
    ])  # fmt: skip
    logs = read(evening)[0]
    order = [str(one) for one in logs["click"].request]
    assert {name: [order[n] for n in np.flatnonzero(one.reward)] for name, one in logs.items()} == {
        "click": ["q1"], "completion": ["q1", "q3"],
    }  # fmt: skip
    assert WINDOW_S == 900


def test_expectations_are_the_logged_ones_and_none_where_a_place_lacks_them(evening: Evening) -> None:
    lacking: dict[str, Any] = {"expected_target": {"click": 0.5}, "expected_incumbent": {"click": 0.6}}
    evening.store([
        place("ann", "q1", 1, explored()), place("bob", "q2", 2, explored(**lacking), scores={"click": 0.7}),
        click("x", "none", 3),
    ])  # fmt: skip
    logs = read(evening)[0]
    guess = logs["click"].predicted
    assert guess is not None and logs["completion"].predicted is None
    assert [one.tolist() for one in (guess.shown, guess.target, guess.incumbent)] == [
        [0.4, 0.7],
        [0.3, 0.5],
        [0.2, 0.6],
    ]


def test_only_the_phase_the_arm_and_the_release_in_shadow_count_and_each_impression_once(evening: Evening) -> None:
    one = place("ann", "q1", 1, explored())
    evening.store([
        one, one, msgspec.structs.replace(one, event_id="again:9", event_at=one.event_at + timedelta(seconds=5)),
        place("bob", "q2", -1, explored()), place("cat", "q3", 10 * HOUR, explored()),
        place("dan", "q4", 2, explored(), arm="canary"), place("eve", "q5", 3, explored(release="other-7")),
        place("fay", "q6", 4, explored(chose=None)), place("gil", "q7", 5, explored(release="demo-3")),
        shown("hal", "q8", "i", 6, propensity=1.0, release="demo-1"), click("x", "none", 3),
    ])  # fmt: skip
    logs, found = read(evening)
    assert logs["click"].viewer.tolist() == ["ann"]
    assert found == PlacesRead(explored=4, scored=1)
    own = msgspec.structs.replace(PHASE, line="demo")
    assert read(evening, own)[0]["click"].viewer.tolist() == ["ann", "gil"]


def test_places_laid_out_anew_count_as_missing_in_proportion_to_what_was_scored(evening: Evening) -> None:
    evening.store([
        place("ann", "q1", 1, explored()), place("bob", "q2", 2, explored(chose=None)),
        *(place("cat", f"g{n}", 3 + n, None) for n in range(4)), click("x", "none", 3),
    ])  # fmt: skip
    logs, found = read(evening)
    assert found == PlacesRead(explored=2, scored=1, laid_anew=4)
    assert np.isnan(logs["click"].propensity).tolist() == [False, True, True]  # half of four


def reasons(record: OffPolicyRecord) -> tuple[OffPolicyReason, ...]:
    return record.verdict.reasons


def test_without_impressions_places_choices_or_dice_it_is_undecided_and_says_which(evening: Evening) -> None:
    assert reasons(evaluate(evening.lake, PHASE)) == (OffPolicyReason.NO_DATA,)
    evening.store([click("x", "none", 3), shown("ann", "q0", "i", 1, propensity=1.0, release="demo-1")])
    assert evaluate(evening.lake, PHASE).verdict.texts == ("no explored place was logged in the shadow phase",)
    evening.store([place("ann", "q1", 1, None, propensity=0.6)])
    assert reasons(evaluate(evening.lake, PHASE)) == (OffPolicyReason.SUPPORT_UNKNOWN,)
    evening.store([place("bob", "q2", 2, explored(chose=None))])
    record = evaluate(evening.lake, PHASE)
    assert reasons(record) == (OffPolicyReason.NO_DATA,)
    assert "demo-2 chose at none of 1 explored places" in record.verdict.texts[0]


def test_a_table_that_was_made_before_dice_were_logged_is_read_and_its_support_unknown(evening: Evening) -> None:
    one = place("ann", "q1", 1, None, propensity=0.6)
    row = to_row(one, Record(IMPRESSIONS, 0, 0, None, b""), ingested_at=one.event_at, late=False)
    older = pa.schema([field for field in SCHEMAS[IMPRESSIONS] if field.name != "explored"])
    write_deltalake(
        evening.lake / "impressions", pa.Table.from_pylist([row], schema=older), partition_by=["event_date"]
    )
    assert reasons(evaluate(evening.lake, PHASE)) == (OffPolicyReason.SUPPORT_UNKNOWN,)


def test_impressions_without_a_table_of_engagement_are_an_error_and_no_verdict(evening: Evening) -> None:
    evening.store([place("ann", "q1", 1, explored())])
    with pytest.raises(NoTable, match="engagement"):
        evaluate(evening.lake, PHASE)


def test_dice_that_cannot_be_read_are_an_error(evening: Evening) -> None:
    evening.store([place("ann", "q1", 1, explored()), click("x", "none", 3)])
    table = open_table(evening.lake, "impressions")
    assert table is not None
    text = '{"epsilon":2.0,"pool":4}'
    table.delta.update(new_values={"explored": text})
    with pytest.raises(BadPlaces, match=r"the dice \{\"epsilon\":2.0"):
        evaluate(evening.lake, PHASE)


def numbers(verdict: OffPolicyVerdict) -> list[float | None]:
    every = [
        *((one.target, one.incumbent, one.difference, one.se, one.low, one.high) for one in verdict.judged),
        *((one.mean, one.z, one.p) for one in verdict.propensities),
    ]  # fmt: skip
    return [number for row in every for number in row]


@pytest.mark.parametrize(
    ("worth", "candidate", "outcome", "reason"),
    [
        (FAR, 1, Outcome.FAIL, OffPolicyReason.CLEARLY_WORSE),
        (NEAR, 1, Outcome.PASS, OffPolicyReason.NOT_CLEARLY_WORSE),
        (FAR, 0, Outcome.UNDECIDED, OffPolicyReason.SAME_CHOICES),
    ],
)
def test_a_world_written_to_the_lake_is_judged_as_its_columns_are(
    evening: Evening, worth: dict[str, list[float]], candidate: int, outcome: Outcome, reason: OffPolicyReason
) -> None:
    world = told(worth, candidate=candidate)
    evening.store([click("nobody", "none", 0), *world.events])
    record, direct = evaluate(evening.lake, PHASE), judge(world.logs)
    assert (record.verdict.outcome, record.verdict.reasons) == (outcome, (reason,)) == (direct.outcome, direct.reasons)
    assert numbers(record.verdict) == pytest.approx(numbers(direct), rel=1e-9, abs=1e-12)
    assert record.verdict.overlap is not None and direct.overlap is not None
    assert record.verdict.overlap.ess_difference == pytest.approx(direct.overlap.ess_difference)
    assert record.read == PlacesRead(explored=3_200, scored=3_200)


def test_a_record_survives_json_and_replays_from_the_versions_it_names(evening: Evening) -> None:
    evening.store([click("nobody", "none", 0), *told(FAR, candidate=1, viewers=200).events])
    record = evaluate(evening.lake, PHASE)
    evening.store([place("late", "late", 5, explored(chose=True)), click("late", "late", 6)])
    read_again = msgspec.json.decode(msgspec.json.encode(record), type=OffPolicyRecord)
    assert evaluate(evening.lake, PHASE) != record
    assert evaluate(evening.lake, read_again.phase, config=read_again.config, versions=read_again.versions) == record
