"""Kill everything: whatever dies and when, the stores hold what an undisturbed collector makes of the same log.

`make soak` is the same drill with twenty kills of each kind.
"""

from collections import Counter

import pytest

from benchmarks.compare import Seen, differing, missing_ids, repeated_ids
from benchmarks.faults import KINDS, DrillConfig, Outcome, drill
from benchmarks.tape import readable_ids, unreadable

KILLS = 3
pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Three kills of collector, Redis and broker, an outage with a replay, and a group that loses and gains members."""
    return drill(DrillConfig(kills=KILLS, group_kills=2, events=4_000), say=print)


def test_each_was_killed_three_times_and_no_collector_died_by_itself(outcome: Outcome) -> None:
    assert min(outcome.kills[kind] for kind in KINDS) >= KILLS
    assert outcome.kills["member"] == 2
    assert outcome.deaths == []


def test_the_night_has_something_to_lose(outcome: Outcome) -> None:
    late = Counter(bool(row["late"]) for row in outcome.calm.rows.values())
    assert late[False] > 3_000
    assert late[True] > 20
    assert outcome.sent >= 2 * len(outcome.calm.rows)
    assert {topic for topic, counts in outcome.calm.copies.items() if counts} == {m.topic for m in outcome.tape}
    assert len({entity for entity, _, _ in outcome.calm.values}) == 4
    assert any(outcome.calm.rooms.values())


@pytest.mark.parametrize("run", ["stormy", "group"])
def test_the_offline_rows_are_those_of_an_undisturbed_run(outcome: Outcome, run: str) -> None:
    seen: Seen = getattr(outcome, run)
    assert differing(seen.rows, outcome.calm.rows) == []


@pytest.mark.parametrize("run", ["stormy", "group"])
def test_every_online_value_is_that_of_an_undisturbed_run(outcome: Outcome, run: str) -> None:
    seen: Seen = getattr(outcome, run)
    assert differing(seen.values, outcome.calm.values) == []
    assert seen.rooms == outcome.calm.rooms
    assert seen.watermark == outcome.calm.watermark
    assert seen.progress == outcome.calm.progress


@pytest.mark.parametrize("run", ["stormy", "group"])
def test_each_event_is_stored_once_though_it_was_sent_at_least_twice(outcome: Outcome, run: str) -> None:
    seen: Seen = getattr(outcome, run)
    assert missing_ids(seen, readable_ids(outcome.tape)) == []
    assert repeated_ids(seen) == []


def test_what_cannot_be_read_becomes_a_dead_letter_and_nothing_else_does(outcome: Outcome) -> None:
    assert outcome.dead == unreadable(outcome.tape) != set()
