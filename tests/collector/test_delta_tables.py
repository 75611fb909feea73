"""The offline tables: rows and offsets together, rivals refused, reads through the table's log."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from events.clock import utc
from events.errors import UnknownTopic
from events.log import Record
from events.tables import SCHEMAS, to_row
from events.topics import ENGAGEMENT
from features.tables import DeltaTables, Fenced, TablesUnavailable
from tests.collector.stories import EVENING, started

DAY = 86_400.0


def row(event_id: str, offset: int, *, partition: int = 0, day: int = 0) -> dict[str, Any]:
    event = started(event_id, "vera", "film", day * DAY)
    record = Record(ENGAGEMENT, partition, offset, b"vera", b"")
    return to_row(event, record, ingested_at=utc(EVENING), late=False)


def ids(table: pa.Table) -> list[str]:
    return sorted(table.column("event_id").to_pylist())


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path / "lake")


def test_a_missing_table_reads_as_empty_with_its_columns(tables: DeltaTables) -> None:
    assert tables.read("engagement").schema == SCHEMAS[ENGAGEMENT]
    assert tables.read("engagement", columns=["event_id"], dates=[date(2026, 11, 1)]).column_names == ["event_id"]
    assert tables.read("user_features").num_rows == 0
    assert (tables.version("engagement"), tables.progress(ENGAGEMENT), tables.dates("engagement")) == (None, {}, [])


def test_rows_and_offsets_arrive_together_in_one_version(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row("a", 0), row("b", 4, partition=20)], offsets={0: 1, 20: 5})
    assert tables.progress(ENGAGEMENT, partitions=range(30)) == {0: 1, 20: 5}
    version = tables.version("engagement")
    tables.append(ENGAGEMENT, [row("c", 1)], offsets={0: 2})
    assert tables.version("engagement") == (version or 0) + 1
    assert ids(tables.read("engagement")) == ["a", "b", "c"]
    assert tables.progress(ENGAGEMENT)[0] == 2


def test_offsets_can_move_without_rows(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [], offsets={3: 17})
    assert tables.progress(ENGAGEMENT) == {3: 17}
    assert tables.read("engagement").num_rows == 0


def test_reading_prunes_columns_dates_and_rows(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row(f"d{day}", day, day=day) for day in range(4)], offsets={0: 4})
    assert tables.dates("engagement") == [date(2026, 11, 1 + day) for day in range(4)]
    two = tables.read("engagement", columns=["event_id"], dates=[date(2026, 11, 2), date(2026, 11, 4)])
    assert (two.column_names, ids(two)) == (["event_id"], ["d1", "d3"])
    some = tables.read("engagement", dates=[date(2026, 11, 2)], where=ds.field("kafka_offset") > 1)
    assert ids(some) == []


def test_times_come_back_as_utc_and_days_match_them(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row("a", 0)], offsets={0: 1})
    found = tables.read("engagement").to_pylist()[0]
    assert found["event_at"].timestamp() == EVENING
    assert found["event_date"] == date(2026, 11, 1)
    assert found["kafka_offset"] == 0 and found["item_id"] == "film" and found["watched_s"] is None


def test_a_writer_whose_offsets_a_rival_moved_is_refused_and_writes_nothing(tables: DeltaTables) -> None:
    rival = DeltaTables(tables.path(""))
    for one in (tables, rival):
        assert one.progress(ENGAGEMENT, partitions=[0]) == {}
    tables.append(ENGAGEMENT, [row("a", 0)], offsets={0: 1})
    with pytest.raises(Fenced, match=r"user\.engagement\.events/0 stands at offset 1, but this writer left it at None"):
        rival.append(ENGAGEMENT, [row("a", 0)], offsets={0: 1})
    assert ids(tables.read("engagement")) == ["a"]
    rival.progress(ENGAGEMENT, partitions=[0])
    rival.append(ENGAGEMENT, [row("b", 1)], offsets={0: 2})
    with pytest.raises(Fenced):
        tables.append(ENGAGEMENT, [row("b", 1)], offsets={0: 2})


def test_writers_of_different_partitions_do_not_disturb_each_other(tables: DeltaTables) -> None:
    other = DeltaTables(tables.path(""))
    for offset in range(5):
        tables.append(ENGAGEMENT, [row(f"a{offset}", offset)], offsets={0: offset + 1})
        other.append(ENGAGEMENT, [row(f"b{offset}", offset, partition=1)], offsets={1: offset + 1})
    assert tables.progress(ENGAGEMENT) == {0: 5, 1: 5}
    assert tables.read("engagement").num_rows == 10


def test_a_delete_beside_the_writer_costs_it_nothing(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row("a", 0), row("b", 1)], offsets={0: 2})
    DeltaTable(tables.path("engagement")).delete("event_id = 'a'")
    tables.append(ENGAGEMENT, [row("c", 2)], offsets={0: 3})
    assert ids(tables.read("engagement")) == ["b", "c"]


def test_compaction_joins_files_and_keeps_rows_and_offsets(tables: DeltaTables) -> None:
    for offset in range(6):
        tables.append(ENGAGEMENT, [row(f"a{offset}", offset)], offsets={0: offset + 1})
    assert tables.files("engagement") == 6
    tables.compact("engagement")
    tables.compact("media")
    assert tables.files("engagement") == 1
    assert ids(tables.read("engagement")) == [f"a{n}" for n in range(6)]
    tables.append(ENGAGEMENT, [row("a6", 6)], offsets={0: 7})
    assert DeltaTables(tables.path("")).progress(ENGAGEMENT) == {0: 7}


def test_files_of_a_killed_writer_are_not_read(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row("a", 0)], offsets={0: 1})
    (file,) = tables.path("engagement").rglob("*.parquet")
    (file.parent / "part-orphan.parquet").write_bytes(file.read_bytes())
    assert ids(tables.read("engagement")) == ["a"]


def test_a_damaged_table_and_an_unknown_topic_are_one_sentence(tables: DeltaTables) -> None:
    tables.append(ENGAGEMENT, [row("a", 0)], offsets={0: 1})
    for file in (tables.path("engagement") / "_delta_log").iterdir():
        if file.is_file():
            file.write_text("{broken")
    with pytest.raises(TablesUnavailable, match="the offline table engagement could not be opened"):
        DeltaTables(tables.path("")).read("engagement")
    with pytest.raises(UnknownTopic, match=r"unknown topic 'nope'; allowed are user\.engagement\.events"):
        tables.append("nope", [], offsets={0: 1})
