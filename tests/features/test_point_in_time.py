"""Point-in-time joins: a value is seen when it could be known, by event time and by the time it was written."""

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from events import schema as s
from events.clock import SetClock
from features.definitions import Entity
from features.errors import BadRange
from features.offline import build_feature_tables
from features.point_in_time import as_of_join, join_features
from tests.features.conftest import Store, at
from tests.features.skewed_join import ROWS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LEFT = "impression string, user string, at timestamp"
RIGHT = "user string, about timestamp, written timestamp, plays double, tags map<string,double>"
ROOT = Path(__file__).resolve().parents[2]
Row = tuple[Any, ...]
Joined = dict[str, float | None]


@pytest.fixture
def joined(spark: "SparkSession") -> Callable[..., Joined]:
    """`plays` by impression; hand-made rows, times as minutes after noon."""

    def join(shown: list[tuple[str, str, float]], told: list[tuple[str, float, float, float]], **more: Any) -> Joined:
        left = spark.createDataFrame([(name, user, at(minutes)) for name, user, minutes in shown], LEFT)
        rows = [(user, at(about), at(written), plays, {"x": plays}) for user, about, written, plays in told]
        how: dict[str, Any] = {"key": "user", "at": "at", "event_at": "about", "written_at": "written"} | more
        found = as_of_join(left, spark.createDataFrame(rows, RIGHT), **how).collect()
        assert all((row["tags"] or {"x": None}) == {"x": row["plays"]} for row in found)  # one row's values, together
        return {row["impression"]: row["plays"] for row in found}

    return join


def test_the_newest_value_up_to_the_impression_is_seen_its_own_instant_included(joined: Callable[..., Joined]) -> None:
    told = [("u1", 0.0, 0.0, 1.0), ("u1", 10.0, 10.0, 2.0), ("u2", 0.0, 0.0, 9.0)]
    shown = [("before", "u1", -1.0), ("first", "u1", 9.9), ("instant", "u1", 10.0), ("other", "u3", 20.0)]
    assert joined(shown, told) == {"before": None, "first": 1.0, "instant": 2.0, "other": None}


def test_a_value_that_was_written_later_is_not_seen_before(joined: Callable[..., Joined]) -> None:
    told = [("u1", 0.0, 1.0, 1.0), ("u1", 10.0, 60.0, 2.0)]  # the second was computed an hour late
    shown = [("meanwhile", "u1", 30.0), ("then", "u1", 60.0)]
    assert joined(shown, told) == {"meanwhile": 1.0, "then": 2.0}


def test_a_late_row_about_an_older_time_does_not_hide_a_newer_one(joined: Callable[..., Joined]) -> None:
    told = [("u1", 10.0, 11.0, 2.0), ("u1", 5.0, 40.0, 1.0)]
    assert joined([("i", "u1", 50.0)], told) == {"i": 2.0}


def test_of_two_rows_about_one_time_the_one_written_last_counts_from_when_it_was_written(
    joined: Callable[..., Joined],
) -> None:
    told = [("u1", 0.0, 1.0, 1.0), ("u1", 0.0, 30.0, 1.5)]  # a correction
    assert joined([("early", "u1", 29.0), ("late", "u1", 30.0)], told) == {"early": 1.0, "late": 1.5}


def test_a_row_about_the_future_is_not_seen_though_it_was_written(joined: Callable[..., Joined]) -> None:
    assert joined([("i", "u1", 5.0)], [("u1", 10.0, 0.0, 1.0)]) == {"i": None}


def test_values_that_are_too_old_do_not_count(joined: Callable[..., Joined]) -> None:
    told = [("u1", 0.0, 0.0, 1.0)]
    shown = [("fresh", "u1", 10.0), ("stale", "u1", 10.1)]
    assert joined(shown, told, max_age_s=600.0) == {"fresh": 1.0, "stale": None}


def test_rows_without_a_key_meet_nothing_and_stay(joined: Callable[..., Joined]) -> None:
    told = [(None, 0.0, 0.0, 1.0), ("u1", 0.0, 0.0, 2.0)]
    assert joined([("nobody", None, 5.0), ("twice", "u1", 5.0)], told) == {"nobody": None, "twice": 2.0}  # type: ignore[list-item]


def test_every_impression_comes_back_once_though_two_are_alike(spark: "SparkSession") -> None:
    left = spark.createDataFrame([("i", "u1", at(5))] * 3, LEFT)
    right = spark.createDataFrame([("u1", at(0), at(0), 1.0, {})], RIGHT)
    found = as_of_join(left, right, key="user", at="at", event_at="about", written_at="written")
    assert [row["plays"] for row in found.collect()] == [1.0, 1.0, 1.0]


def test_a_column_that_is_missing_or_on_both_sides_is_named(spark: "SparkSession") -> None:
    left, right = spark.createDataFrame([], LEFT), spark.createDataFrame([], RIGHT)
    with pytest.raises(BadRange, match="the right side of the join has no column 'wrote'"):
        as_of_join(left, right, key="user", at="at", event_at="about", written_at="wrote")
    with pytest.raises(BadRange, match="'user_id' is on both sides of the join; give a prefix"):
        twice = left.withColumnRenamed("impression", "user_id"), right.withColumnRenamed("plays", "user_id")
        as_of_join(*twice, key="user", at="at", event_at="about", written_at="written")


def plain(shown: list[tuple[str, str, float]], told: list[tuple[str, float, float, float]]) -> Joined:
    """The join in the plainest way: look at every row."""
    out: Joined = {}
    for name, user, now in shown:
        known = [row for row in told if row[0] == user and row[1] <= now and row[2] <= now]
        out[name] = max(known, key=lambda row: row[1:3])[3] if known else None
    return out


def made_up(draw: random.Random) -> tuple[list[tuple[str, str, float]], list[tuple[str, float, float, float]]]:
    """300 impressions and 400 rows of five users, many at the same minute, some written long after."""
    told = {
        (f"u{draw.randrange(5)}", float(draw.randrange(200)), float(draw.choice((0, 1, 50)))): float(n)
        for n in range(400)
    }
    shown = [(f"i{n}", f"u{draw.randrange(6)}", float(draw.randrange(250))) for n in range(300)]
    return shown, [(user, about, about + after, value) for (user, about, after), value in told.items()]


def test_the_join_is_the_plain_search_through_all_rows(joined: Callable[..., Joined]) -> None:
    shown, told = made_up(random.Random(5))
    want = plain(shown, told)
    assert joined(shown, told) == want and sum(value is not None for value in want.values()) > 200


def test_shuffling_and_altering_the_future_changes_no_joined_value(joined: Callable[..., Joined]) -> None:
    draw = random.Random(6)
    shown, told = made_up(draw)
    now = 120.0
    shown = [one for one in shown if one[2] <= now]
    before = joined(shown, told)
    past = [row for row in told if row[1] <= now and row[2] <= now]
    future = [row for row in told if row not in past]
    values = draw.sample([row[3] for row in future], len(future))  # every later value at another row, and made larger
    altered = [
        (user, about, written, 1e6 + value) for (user, about, written, _), value in zip(future, values, strict=True)
    ]
    altered += [(f"u{n % 5}", 10.0, now + 1 + n, -1.0) for n in range(50)]  # the past corrected afterwards
    shuffled = draw.sample([*past, *altered], len(past) + len(altered))
    assert len(future) > 100 and joined(shown, shuffled) == before


# --- daily tables -------------------------------------------------------------------------------------------------------

DAY_ONE = date(2026, 11, 10)


def started(event_id: str, minutes: float, *, day: int = 0) -> s.MediaStarted:
    return s.MediaStarted(event_id=event_id, event_at=at(minutes, day=day), user_id="u1", item_id="i1")


def impressions(spark: "SparkSession", *times: datetime) -> "DataFrame":
    return spark.createDataFrame(
        [(f"i{n}", "u1", when) for n, when in enumerate(times)], "name string, user_id string, event_at timestamp"
    )


def plays(frame: "DataFrame") -> list[float | None]:
    return [row["user_plays"] for row in sorted(frame.collect(), key=lambda row: str(row["name"]))]


def build(spark: "SparkSession", lake: Path, when: datetime, *dates: date) -> None:
    build_feature_tables(spark, lake, dates=dates, entities=[Entity.USER], clock=SetClock(when.timestamp()))


def test_a_day_is_seen_from_when_its_job_wrote_it_and_after_a_correction_from_then(
    lake: Path, store_events: Store, spark: "SparkSession"
) -> None:
    midnight = at(12 * 60)
    times = [at(30), *(midnight + timedelta(hours=hours) for hours in (0.5, 2, 26))]

    def seen(**how: bool) -> list[float | None]:
        return plays(join_features(spark, lake, impressions(spark, *times), entity=Entity.USER, **how))

    store_events([started("a", 0), started("b", 10)])
    build(spark, lake, midnight + timedelta(hours=1), DAY_ONE)
    assert seen() == [None, None, 2.0, 2.0]
    assert seen(backfilled=True) == [None, 2.0, 2.0, 2.0]
    store_events([started("c", 11 * 60 + 59)])  # came after the job
    build(spark, lake, midnight + timedelta(hours=25), DAY_ONE)
    assert seen() == [None, None, None, 3.0]


def test_pairs_have_no_daily_table(lake: Path, spark: "SparkSession") -> None:
    with pytest.raises(BadRange, match="no daily table of the entity 'pair'; allowed are user, item, creator"):
        join_features(spark, lake, impressions(spark, at(0)), entity=Entity.PAIR)


def test_a_key_with_more_rows_than_the_heap_costs_disk_and_not_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.features.skewed_join"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert f"rows={ROWS} right={ROWS}" in done.stdout, done.stderr[-2000:]
