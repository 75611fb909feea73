"""One person out of an offline table: her rows, her name in others' rows, files of old versions, statistics in the log."""

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from events import schema as s
from events.log import Record
from events.tables import to_row
from events.topics import ENGAGEMENT, IMPRESSIONS, PROFILES
from features.erased import ASKED, ErasedPeople
from features.errors import VersionGone
from features.forget import forget_in_table
from features.offline_tables import open_table
from features.spark import read_table, replace_dates
from features.tables import DeltaTables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HER = "vera-9f3a"
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def liked(number: int, user: str, *, creator: str | None = None) -> s.Event:
    return s.MediaLiked(event_id=f"e{number}", event_at=NOON, user_id=user, item_id="film", creator_id=creator)


def store(tables: DeltaTables, topic: str, *events: s.Event, start: int = 0) -> None:
    rows = [
        to_row(event, Record(topic, 0, start + n, None, b""), ingested_at=NOON, late=False)
        for n, event in enumerate(events)
    ]
    tables.append(topic, rows, offsets={0: start + len(rows)})


def everything(lake: Path) -> Iterator[tuple[str, str]]:
    """Every file of the lake as text: as it lies, and Parquet decoded too."""
    for path in (path for path in lake.rglob("*") if path.is_file()):
        yield path.name, path.read_bytes().decode(errors="replace")
        if path.name.endswith(".parquet"):
            yield path.name, json.dumps(pq.read_table(path).to_pylist(), default=str)


def naming(lake: Path, name: str = HER) -> list[str]:
    return [file for file, text in everything(lake) if name in text]


@pytest.fixture
def tables(lake: Path) -> DeltaTables:
    return DeltaTables(lake)


def test_her_rows_go_as_viewer_and_as_creator_and_the_others_stay(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, HER), liked(1, "otto", creator=HER), liked(2, "otto", creator="anna"))
    done = forget_in_table(lake, "engagement", HER)
    assert (done.rows, done.unread) == (2, 0)
    assert tables.read("engagement")["event_id"].to_pylist() == ["e2"]


def test_no_file_under_the_lake_names_her_neither_data_nor_log(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, HER), liked(1, "otto"))
    store(tables, ENGAGEMENT, liked(2, "otto", creator=HER), start=2)
    assert naming(lake)
    forget_in_table(lake, "engagement", HER)
    assert naming(lake) == []


def test_an_id_that_hers_begins_with_keeps_its_rows(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, "u1"), liked(1, "u17"), liked(2, "o'hara"))
    forget_in_table(lake, "engagement", "u1")
    forget_in_table(lake, "engagement", "o'hara")
    assert tables.read("engagement")["user_id"].to_pylist() == ["u17"]


def test_a_viewer_who_blocked_her_keeps_the_profile_without_her_name(lake: Path, tables: DeltaTables) -> None:
    otto = s.ViewerProfile(event_id="p", event_at=NOON, user_id="otto", blocked_creators=("anna", HER))
    store(tables, PROFILES, otto)
    assert forget_in_table(lake, "profiles", HER).names == 1
    (row,) = tables.read("profiles").to_pylist()
    assert (row["user_id"], row["blocked_creators"]) == ("otto", ["anna"])


def test_files_that_the_erasure_itself_wrote_on_the_way_do_not_name_her_either(lake: Path, tables: DeltaTables) -> None:
    otto = s.ViewerProfile(event_id="p", event_at=NOON, user_id="otto", blocked_creators=("anna", HER))
    store(tables, PROFILES, s.ViewerProfile(event_id="q", event_at=NOON, user_id=HER), otto)
    done = forget_in_table(lake, "profiles", HER)
    assert (done.rows, done.names, done.files) == (1, 1, 2)
    assert naming(lake) == []


def test_feeds_that_had_nothing_for_her_go_with_her_impressions(lake: Path, tables: DeltaTables) -> None:
    empty = [
        s.EmptyFeed(event_id=f"{user}:empty", event_at=NOON, request_id=f"q-{user}", user_id=user)
        for user in (HER, "otto")
    ]
    store(tables, IMPRESSIONS, *empty)
    assert forget_in_table(lake, "impressions", HER).rows == 1
    assert tables.read("impressions")["event_id"].to_pylist() == ["otto:empty"] and naming(lake) == []


def test_features_of_others_lose_her_name_and_nothing_else(lake: Path, tables: DeltaTables) -> None:
    seen: dict[str, Any] = {"user.recent_positive": [HER, "film"], "user.plays": 3.0}
    otto = s.Impression(
        event_id="r:0", event_at=NOON, request_id="r", user_id="otto", item_id="film", content_type=s.ContentType.VIDEO,
        creator_id="anna", position=0, features=seen,
    )  # fmt: skip
    store(tables, IMPRESSIONS, otto)
    forget_in_table(lake, "impressions", HER)
    (row,) = tables.read("impressions").to_pylist()
    assert json.loads(row["features"]) == {"user.recent_positive": ["erased", "film"], "user.plays": 3.0}


def test_old_versions_with_her_are_gone_and_the_error_names_those_that_can_be_read(
    lake: Path, tables: DeltaTables
) -> None:
    store(tables, ENGAGEMENT, liked(0, HER), liked(1, "otto"))
    before = tables.version("engagement")
    forget_in_table(lake, "engagement", HER)
    newest = tables.version("engagement")
    with pytest.raises(VersionGone, match=rf"version {before} of the table engagement .* to {newest} can"):
        tables.read("engagement", version=before)
    with pytest.raises(VersionGone):
        open_table(lake, "engagement", version=before)


def test_a_table_that_never_held_her_keeps_its_old_versions(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, "otto"))
    before = tables.version("engagement")
    store(tables, ENGAGEMENT, liked(1, "otto"), start=1)
    forget_in_table(lake, "engagement", HER)
    assert tables.read("engagement", version=before)["event_id"].to_pylist() == ["e0"]


def test_the_second_run_finds_nothing(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, HER), liked(1, "otto"))
    forget_in_table(lake, "engagement", HER)
    assert forget_in_table(lake, "engagement", HER).removed == 0


def test_statistics_of_text_that_an_older_version_of_the_code_wrote_go_and_row_counts_stay(lake: Path) -> None:
    old = pa.table({"user_id": [HER, "otto"], "event_date": [date(2026, 11, 10)] * 2})
    write_deltalake(lake / "old", old, partition_by=["event_date"])
    DeltaTable(lake / "old").create_checkpoint()
    write_deltalake(lake / "old", old.slice(1), mode="append")
    assert naming(lake / "old" / "_delta_log")
    forget_in_table(lake, "old", HER)
    assert naming(lake) == []
    table = open_table(lake, "old")
    assert table is not None and table.rows == {date(2026, 11, 10): 2}


def test_files_of_killed_writers_go_when_they_name_her_and_stay_when_they_do_not(
    lake: Path, tables: DeltaTables
) -> None:
    store(tables, ENGAGEMENT, liked(0, "otto"))
    (used,) = (lake / "engagement").rglob("*.parquet")
    hers, others, torn = (used.with_name(f"part-{name}.parquet") for name in ("hers", "others", "torn"))
    pq.write_table(pa.table({"user_id": [HER]}), hers)
    pq.write_table(pa.table({"user_id": ["otto"]}), others)
    torn.write_bytes(hers.read_bytes()[:20])
    os.utime(torn, (0, 0))
    assert forget_in_table(lake, "engagement", HER).files == 2
    assert [path.exists() for path in (used, hers, others, torn)] == [True, False, True, False]


def test_a_file_being_written_is_told_of_and_looked_into_by_the_next_run(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, "otto"))
    (used,) = (lake / "engagement").rglob("*.parquet")
    young = used.with_name("part-young.parquet")
    young.write_bytes(b"PAR1 half a file")
    later = used.stat().st_mtime + 3600
    os.utime(young, (later, later))
    assert forget_in_table(lake, "engagement", HER).unread == 1
    pq.write_table(pa.table({"user_id": [HER]}), young)
    done = forget_in_table(lake, "engagement", HER)
    assert (done.files, done.unread, young.exists()) == (1, 0, False)


def test_an_append_that_began_before_cannot_be_committed_after(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, "otto"))
    began = DeltaTable(lake / "engagement")
    row = to_row(liked(1, HER), Record(ENGAGEMENT, 0, 1, None, b""), ingested_at=NOON, late=False)
    data = pa.Table.from_pylist([row], schema=tables.read("engagement").schema)
    forget_in_table(lake, "engagement", HER)
    with pytest.raises(CommitFailedError):
        write_deltalake(began, data, mode="append")


def test_the_collector_s_next_append_survives_and_leaves_her_rows_out(lake: Path, tables: DeltaTables) -> None:
    store(tables, ENGAGEMENT, liked(0, HER))
    ErasedPeople(lake).add(HER, ASKED, at=NOON)
    forget_in_table(lake, "engagement", HER)
    store(tables, ENGAGEMENT, liked(1, HER), liked(2, "otto", creator=HER), liked(3, "otto"), start=1)
    assert tables.read("engagement")["event_id"].to_pylist() == ["e3"]
    assert tables.progress(ENGAGEMENT) == {0: 4}
    assert naming(lake) == []


def test_a_table_that_spark_made_can_be_read_and_written_by_spark_after_it(lake: Path, spark: "SparkSession") -> None:
    day = date(2026, 11, 10)
    rows = spark.createDataFrame(
        [(HER, "film", 1.0, day), ("otto", "film", 2.0, day)], "user_id string, item_key string, n double, as_of date"
    )
    replace_dates(rows, lake, "user_features", column="as_of", dates=[day])
    assert naming(lake / "user_features" / "_delta_log"), "Spark wrote statistics of ids"
    forget_in_table(lake, "user_features", HER)
    assert naming(lake) == []
    assert [row["user_id"] for row in read_table(spark, lake, "user_features").collect()] == ["otto"]
    replace_dates(rows.where("user_id = 'otto'"), lake, "user_features", column="as_of", dates=[day])
    assert read_table(spark, lake, "user_features").count() == 1


def test_a_collector_that_appends_all_the_time_loses_no_row_of_others_and_keeps_none_of_hers(
    lake: Path, tables: DeltaTables
) -> None:
    rounds, stop = [0], threading.Event()

    def collect() -> None:
        while not stop.is_set():
            n = rounds[0]
            store(tables, ENGAGEMENT, liked(2 * n, HER), liked(2 * n + 1, "otto"), start=2 * n)
            rounds[0] += 1

    def after(more: int) -> None:
        until = rounds[0] + more
        while rounds[0] < until:
            time.sleep(0.005)

    writer = threading.Thread(target=collect)
    writer.start()
    try:
        after(15)
        ErasedPeople(lake).add(HER, ASKED, at=NOON)
        after(2)  # what was on its way
        forget_in_table(lake, "engagement", HER)
        after(15)
    finally:
        stop.set()
        writer.join()
    found = DeltaTables(lake)
    assert sorted(found.read("engagement")["event_id"].to_pylist()) == sorted(f"e{2 * n + 1}" for n in range(rounds[0]))
    assert found.progress(ENGAGEMENT) == {0: 2 * rounds[0]}
    assert naming(lake) == []


@pytest.mark.parametrize("step", ["_fence", "takes_out", "_remove_files", "redact"])
def test_a_run_that_died_at_any_step_is_finished_by_the_next(
    lake: Path, tables: DeltaTables, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store(tables, ENGAGEMENT, liked(0, HER), liked(1, "otto"))

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"features.forget.{step}", dies)
        with pytest.raises(KeyboardInterrupt):
            forget_in_table(lake, "engagement", HER)
    forget_in_table(lake, "engagement", HER)
    assert naming(lake) == []
    assert tables.read("engagement")["event_id"].to_pylist() == ["e1"]
