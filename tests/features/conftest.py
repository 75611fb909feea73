"""A small story in events, a way to store events as the collector does, and the one Spark of the run."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from events.log import Record
from events.schema import Event
from events.tables import to_row
from events.topics import topic_of
from features import spark as spark_room
from features.tables import DeltaTables
from settings import load
from stack.jars import delta_jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
Store = Callable[..., None]


def at(minutes: float, *, day: int = 0) -> datetime:
    """Minutes after noon of a day of the story; its first day is 2026-11-10."""
    return NOON + timedelta(days=day, minutes=minutes)


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    jars = delta_jars(load().jars)
    yield spark_room.session(jars=jars, memory="1g", cores=2)
    spark_room.stop()


@pytest.fixture
def store_events(lake: Path) -> Store:
    """Append events to the lake's tables, `late` or not, at rising log offsets."""
    tables, placed = DeltaTables(lake), {"offset": 0}

    def append(events: Iterable[Event], *, late: bool = False) -> None:
        rows: dict[str, list[dict[str, object]]] = {}
        for event in events:
            placed["offset"] += 1
            name = topic_of(event).name
            record = Record(name, 0, placed["offset"], None, b"")
            rows.setdefault(name, []).append(to_row(event, record, ingested_at=event.event_at, late=late))
        for name, found in rows.items():
            tables.progress(name, partitions=[0])
            tables.append(name, found, offsets={0: placed["offset"] + 1})

    return append
