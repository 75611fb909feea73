"""Daily partitions by event date, the schedule's range, and days that are none."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from dagster_project.errors import UnknownDays
from dagster_project.jobs import RANGE_END, RANGE_START, every_15_minutes, learn, window_tags
from dagster_project.partitions import days_between, event_days
from dagster_project.run import refuse_unknown_days

TODAY = datetime.now(UTC).date()


def keys(start: date, end: date | None) -> list[str]:
    return list(event_days(start, end, today=TODAY).get_partition_keys())


def test_without_an_end_the_days_go_up_to_and_with_today() -> None:
    start = TODAY - timedelta(days=2)
    assert keys(start, None) == [(start + timedelta(days=n)).isoformat() for n in range(3)]


def test_an_end_in_the_past_holds() -> None:
    assert keys(date(1997, 9, 20), date(1997, 9, 23)) == ["1997-09-20", "1997-09-21", "1997-09-22"]


def test_days_of_a_time_lapse_world_may_lie_ahead() -> None:
    start = TODAY + timedelta(days=400)
    assert keys(start, start + timedelta(days=2)) == [start.isoformat(), (start + timedelta(days=1)).isoformat()]
    before = TODAY - timedelta(days=1)
    assert keys(before, TODAY + timedelta(days=2))[-1] == (TODAY + timedelta(days=1)).isoformat()


def test_movielens_fits_into_its_months() -> None:
    assert len(keys(date(1997, 9, 20), date(1998, 4, 23))) == 215


def test_days_between_includes_both_ends() -> None:
    assert days_between(date(2026, 2, 27), date(2026, 3, 1)) == (
        date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1),
    )  # fmt: skip


def test_unknown_days_are_one_sentence() -> None:
    with pytest.raises(UnknownDays, match=r"^the last day 2026-11-01 comes before the first, 2026-11-02$"):
        refuse_unknown_days(date(2026, 11, 2), date(2026, 11, 1))
    with pytest.raises(UnknownDays, match=r"1901-01-01 is not a daily partition; allowed are 2026-11-01 to"):
        refuse_unknown_days(date(1901, 1, 1), date(2026, 11, 2))


def test_the_schedule_learns_from_yesterday_and_today_and_is_off_until_someone_starts_it() -> None:
    assert every_15_minutes.default_status is dg.DefaultScheduleStatus.STOPPED
    assert every_15_minutes.job_name == learn.name
    at = datetime(2026, 11, 10, 0, 15, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
        request = every_15_minutes(context)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == "2026-11-09"
    assert request.tags[RANGE_END] == "2026-11-10"
    assert window_tags(at) == {RANGE_START: "2026-11-09", RANGE_END: "2026-11-10"}
