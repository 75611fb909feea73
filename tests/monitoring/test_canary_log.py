"""The log of decisions: replayed, latched, idempotent, and a hold where there is nothing to read."""

import math
from pathlib import Path

import msgspec
import pytest

from monitoring.canary_gate import Action, judge
from monitoring.canary_log import Crash, closing, decide, decide_or_hold, hold, read_log, replay
from monitoring.canary_plan import HOUR_S, HourLook, Looks
from monitoring.errors import BadPlan, BadRecord
from monitoring.stats import RatioSums
from registry.verdict import Reason
from tests.monitoring.canary_stories import AUDIT, STARTED, arm, look, looks, plan


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "canaries" / "7.jsonl"


def actions(log: Path) -> list[tuple[int, Action]]:
    return [(entry.decision.hour, entry.decision.action) for entry in read_log(log)]


def nan_look(hour: int) -> HourLook:
    one = look(hour)
    canary = one.arms["canary"]
    metrics = {**canary.metrics, "ctr": RatioSums(1_000, math.nan, 10_000, 1.0, 1.0, math.inf)}
    return msgspec.structs.replace(one, arms={**one.arms, "canary": msgspec.structs.replace(canary, metrics=metrics)})


def test_every_decision_replays_from_the_log_alone(log: Path) -> None:
    seen = [look(1), nan_look(2), look(3, missing_hours=(3,)), look(4), look(48, arm(ctr=0.24))]
    made = decide(log, looks(*seen), audit=AUDIT)
    hold(log, plan(), Crash(49, STARTED, "OSError: gone"))
    kept = read_log(log)
    assert kept == made
    assert [replay(entry) for entry in kept] == [entry.decision for entry in made]


def test_a_crash_replays_too(log: Path) -> None:
    made = hold(log, plan(), Crash(5, STARTED, "OSError: gone"))
    assert [replay(entry) for entry in read_log(log)] == [entry.decision for entry in made]


def test_what_the_gate_says_of_sums_that_are_no_numbers_is_what_the_log_says(log: Path) -> None:
    direct = judge(plan(), nan_look(2))
    assert decide(log, looks(nan_look(2)))[0].decision == direct
    assert direct.verdict.reasons == (Reason.NOT_A_NUMBER,)


def test_an_input_that_was_changed_afterwards_is_noticed(log: Path) -> None:
    entry = decide(log, looks(look(48, arm(ctr=0.24))), audit=AUDIT)[0]
    forged = msgspec.structs.replace(entry.judged, audit=None)
    with pytest.raises(BadRecord, match="hour 48 is not the one that was judged"):
        replay(msgspec.structs.replace(entry, judged=forged))


def test_deciding_the_same_looks_twice_appends_once(log: Path) -> None:
    seen = looks(look(1), look(2, missing_hours=(2,)), look(3))
    assert len(decide(log, seen)) == 3
    before = log.read_bytes()
    assert decide(log, seen) == []
    assert log.read_bytes() == before


def test_looks_come_one_at_a_time_or_all_at_once_to_the_same_log(tmp_path: Path) -> None:
    seen = [look(h, missing_hours=(3,) if h < 6 else ()) for h in range(1, 9)] + [look(48, arm(ctr=0.24))]
    decide(tmp_path / "once", looks(*seen), audit=AUDIT)
    for number in range(1, len(seen) + 1):
        decide(tmp_path / "hourly", looks(*seen[:number]), audit=AUDIT)
    assert read_log(tmp_path / "once") == read_log(tmp_path / "hourly")


def test_a_rollback_stays_whatever_comes_later(log: Path) -> None:
    decide(log, looks(look(2, arm(ctr=0.16))), audit=AUDIT)
    assert decide(log, looks(look(2, arm(ctr=0.24)), look(48, arm(ctr=0.24))), audit=AUDIT) == []
    assert hold(log, plan(), Crash(3, STARTED, "OSError: gone")) == []
    closed = closing(read_log(log))
    assert closed is not None and closed.decision.action is Action.ROLLBACK


def test_a_decided_hour_is_not_judged_again_with_other_data(log: Path) -> None:
    decide(log, looks(look(10)))
    assert decide(log, looks(look(10, arm(ctr=0.16)))) == []


def test_a_held_decision_is_taken_when_its_data_have_come(log: Path) -> None:
    better = arm(ctr=0.24)
    decide(log, looks(look(48, better, missing_hours=(47,))), audit=AUDIT)
    decide(log, looks(look(48, better)), audit=AUDIT)
    assert actions(log) == [(48, Action.HOLD), (48, Action.PROMOTE)]


def test_a_hold_carries_its_age_from_one_call_to_the_next(log: Path) -> None:
    for hour in range(3, 11):
        decide(log, looks(look(hour, missing_hours=(3,))))
    assert actions(log) == [*((hour, Action.HOLD) for hour in range(3, 9)), (9, Action.ROLLBACK)]


def unreadable() -> Looks:
    raise OSError("the table cannot be read")


def test_what_cannot_be_read_is_a_hold_and_then_a_rollback(log: Path) -> None:
    for hour in range(5, 13):
        decide_or_hold(log, plan(), unreadable, hour=hour, at=STARTED + hour * HOUR_S, audit=AUDIT)
    assert actions(log) == [*((hour, Action.HOLD) for hour in range(5, 11)), (11, Action.ROLLBACK)]
    assert "OSError: the table cannot be read" in read_log(log)[0].decision.text


def test_a_crash_with_the_canary_off_stays_a_hold(log: Path) -> None:
    for hour in range(5, 20):
        decide_or_hold(log, plan(), unreadable, hour=hour, at=STARTED + hour * HOUR_S, share=0.0)
    assert {action for _, action in actions(log)} == {Action.HOLD}


def test_a_look_that_comes_is_judged_and_not_held(log: Path) -> None:
    made = decide_or_hold(log, plan(), lambda: looks(look(5)), hour=5, at=STARTED + 5 * HOUR_S)
    assert [entry.decision.action for entry in made] == [Action.CONTINUE]


def test_a_line_cut_short_is_left_out_and_written_anew(log: Path) -> None:
    decide(log, looks(look(1), look(2)))
    whole = log.read_bytes()
    log.write_bytes(whole[:-40])
    assert actions(log) == [(1, Action.CONTINUE)]
    decide(log, looks(look(1), look(2)))
    assert log.read_bytes() == whole


def test_a_line_that_is_no_decision_is_named_and_nothing_is_decided_on_it(log: Path) -> None:
    decide(log, looks(look(1)))
    log.write_bytes(log.read_bytes() + b'{"hash": 3}\n')
    with pytest.raises(BadRecord, match=r"line 2 of .* is no decision"):
        read_log(log)
    with pytest.raises(BadRecord, match=r"line 2 of .* is no decision"):
        decide_or_hold(log, plan(), lambda: looks(look(2)), hour=2, at=STARTED)


def test_no_log_has_no_decisions(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.jsonl") == []


def test_a_look_without_a_time_cannot_be_made() -> None:
    with pytest.raises(BadPlan, match="hours count from 1, times are finite"):
        HourLook(hour=1, at=math.nan, arms={})
