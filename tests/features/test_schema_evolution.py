"""Tables that an older version of the code made: new columns come with the next append, old rows are null or the default."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from events import schema as s
from events.log import Record
from events.tables import SCHEMAS, to_row
from events.topics import ENGAGEMENT
from features.history import replayed
from features.offline_events import event_frame
from features.offline_tables import open_table
from features.tables import DeltaTables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NEWER = ("creator_id", "surface", "schema_v")  # what the older code did not have: without a default, and with one
OLD_SCHEMA = pa.schema([field for field in SCHEMAS[ENGAGEMENT] if field.name not in NEWER])


def liked(number: int) -> s.MediaLiked:
    return s.MediaLiked(
        event_id=f"e{number}", event_at=NOON, user_id="otto", item_id="film", creator_id="anna",
        surface=s.Surface.PLAYBACK,
    )  # fmt: skip


@pytest.fixture
def old_table(lake: Path) -> DeltaTables:
    row = to_row(liked(0), Record(ENGAGEMENT, 0, 0, None, b""), ingested_at=NOON, late=False)
    old = pa.Table.from_pylist([row], schema=OLD_SCHEMA)
    write_deltalake(lake / "engagement", old, partition_by=["event_date"])
    return DeltaTables(lake)


@pytest.fixture
def grown_table(old_table: DeltaTables) -> DeltaTables:
    row = to_row(liked(1), Record(ENGAGEMENT, 0, 1, None, b""), ingested_at=NOON, late=False)
    old_table.append(ENGAGEMENT, [row], offsets={0: 2})
    return old_table


def creators(tables: DeltaTables) -> dict[str, str | None]:
    rows = tables.read("engagement", columns=["event_id", "creator_id"]).to_pylist()
    return {row["event_id"]: row["creator_id"] for row in rows}


def test_an_old_table_reads_with_the_new_columns_before_anything_was_appended(old_table: DeltaTables) -> None:
    assert creators(old_table) == {"e0": None}
    assert set(old_table.read("engagement").column_names) == set(SCHEMAS[ENGAGEMENT].names)


def test_an_append_adds_the_columns_and_keeps_the_old_rows(grown_table: DeltaTables) -> None:
    assert creators(grown_table) == {"e0": None, "e1": "anna"}
    assert grown_table.progress(ENGAGEMENT) == {0: 2}


def test_pinned_reads_give_null_for_a_column_that_is_newer_than_the_table(lake: Path, old_table: DeltaTables) -> None:
    table = open_table(lake, "engagement")
    assert table is not None
    found = table.read([date(2026, 11, 10)], ["event_id", "creator_id"])
    assert found.to_pylist() == [{"event_id": "e0", "creator_id": None}]
    assert table.read([], ["creator_id"]).schema == pa.schema([SCHEMAS[ENGAGEMENT].field("creator_id")])


@pytest.mark.parametrize("state", ["old_table", "grown_table"])
def test_history_replays_old_rows_with_the_defaults_of_today(
    lake: Path, state: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(state)
    events = {past.event.event_id: past.event for past in replayed(lake)}
    old = events["e0"]
    assert isinstance(old, s.MediaLiked)
    assert (old.creator_id, old.surface, old.schema_v) == (None, s.Surface.HOME, 1)
    if state == "grown_table":
        new = events["e1"]
        assert isinstance(new, s.MediaLiked)
        assert (new.creator_id, new.surface) == ("anna", s.Surface.PLAYBACK)


def test_spark_reads_old_and_new_rows_of_one_table(lake: Path, grown_table: DeltaTables, spark: "SparkSession") -> None:
    found = event_frame(spark, lake, until=date(2026, 11, 10)).select("event_id", "creator_id").collect()
    assert {row["event_id"]: row["creator_id"] for row in found} == {"e0": None, "e1": "anna"}


def test_a_collector_of_the_older_code_can_still_append(grown_table: DeltaTables) -> None:
    row = to_row(liked(2), Record(ENGAGEMENT, 0, 2, None, b""), ingested_at=NOON, late=False)
    grown_table.append(ENGAGEMENT, pa.Table.from_pylist([row], schema=OLD_SCHEMA), offsets={0: 3})
    assert creators(grown_table) == {"e0": None, "e1": "anna", "e2": None}
