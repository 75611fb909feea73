"""The daily partitions of the pipeline and the monthly ones of the audit, by event date (UTC)."""

from datetime import date, timedelta

import dagster as dg

from events.clock import WallClock, utc
from settings import load


def event_days(start: date, end: date | None, *, today: date) -> dg.DailyPartitionsDefinition:
    """The days from `start` to before `end`, also those still to come; without an end, up to and with today."""
    if end is None:
        return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    # Dagster lists past days only; a time-lapse world lives in days to come, which the offset admits (the end still holds).
    ahead = max((end - today).days, 0)
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(), end_date=end.isoformat(), timezone="UTC", end_offset=ahead
    )


def days_between(first: date, last: date) -> tuple[date, ...]:
    """Every date from `first` to and with `last`."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def event_months(start: date, end: date | None, *, today: date) -> dg.MonthlyPartitionsDefinition:
    """The months from that of `start` on: those that are over, and in a time lapse also those up to `end`."""
    last = today if end is None else max(end, today)
    ahead = (last.year - today.year) * 12 + last.month - today.month
    return dg.MonthlyPartitionsDefinition(start_date=start.replace(day=1).isoformat(), timezone="UTC", end_offset=ahead)


_settings = load()
_today = utc(WallClock().now()).date()
EVENT_DAYS = event_days(_settings.partitions_start, _settings.partitions_end, today=_today)
EVENT_MONTHS = event_months(_settings.partitions_start, _settings.partitions_end, today=_today)
