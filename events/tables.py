"""The offline tables: one a topic, the union of its events' fields plus where the log had them; Arrow schema and rows.

Maps and records (`features`, `scores`, `explored`) are JSON text: their keys grow without a schema change. Partition column:
`event_date`.
"""

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from events.log import Record
from events.schema import Event
from events.topics import TOPICS, Topic, kind_of

TIMESTAMP = pa.timestamp("us", tz="UTC")
# What the collector adds to every row: the event's type, the day it belongs to, and its place in the log.
PLACE_COLUMNS: dict[str, pa.DataType] = {
    "type": pa.string(),
    "event_date": pa.date32(),
    "ingested_at": TIMESTAMP,
    "late": pa.bool_(),
    "kafka_partition": pa.int32(),
    "kafka_offset": pa.int64(),
}
_PLAIN: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: TIMESTAMP,
}


def _arrow_type(annotation: Any) -> pa.DataType:
    """The column type of one field: scalars as they are, tuples of words as lists, maps as JSON text."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _arrow_type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _arrow_type(rest[0])
    if origin is typing.Literal:
        return _PLAIN[type(typing.get_args(annotation)[0])]
    if origin is tuple:
        return pa.list_(_arrow_type(typing.get_args(annotation)[0]))
    if origin is dict:
        return pa.string()
    if isinstance(annotation, type) and issubclass(annotation, Enum | msgspec.Struct):
        return pa.string()
    return _PLAIN[annotation]


def columns_of(topic: Topic) -> dict[str, pa.DataType]:
    """Every column of a topic's table by name, in a stable order."""
    out: dict[str, pa.DataType] = {}
    for kind in topic.types:
        for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
            out.setdefault(name, _arrow_type(annotation))
    return out | PLACE_COLUMNS


SCHEMAS: dict[str, pa.Schema] = {name: pa.schema(list(columns_of(topic).items())) for name, topic in TOPICS.items()}


def to_row(event: Event, record: Record, *, ingested_at: datetime, late: bool) -> dict[str, Any]:
    """One event as a row of its topic's table."""
    row: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        row[name] = msgspec.json.encode(value).decode() if isinstance(value, dict | msgspec.Struct) else value
    at = event.event_at.astimezone(UTC)
    row |= {"type": kind_of(event), "event_at": at, "event_date": at.date(), "ingested_at": ingested_at, "late": late}
    return row | {"kafka_partition": record.partition, "kafka_offset": record.offset}


def to_arrow(topic_name: str, rows: Iterable[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Rows as an Arrow table of the topic's schema; fields an event type lacks are null. A table is passed on as it is."""
    if isinstance(rows, pa.Table):
        return rows
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[topic_name])


class Stored(NamedTuple):
    """An event to be stored, and what the collector knows of it; `ingested_at` is aware."""

    event: Event
    record: Record
    ingested_at: datetime
    late: bool


def table_of(topic_name: str, stored: Sequence[Stored]) -> pa.Table:
    """The rows of many events, column by column: what `to_arrow` makes of their `to_row`s at a fraction of the cost."""
    events = [one.event for one in stored]
    found: dict[str, list[Any]] = {
        "type": [kind_of(event) for event in events],
        "event_date": [event.event_at.astimezone(UTC).date() for event in events],
        "ingested_at": [one.ingested_at for one in stored],
        "late": [one.late for one in stored],
        "kafka_partition": [one.record.partition for one in stored],
        "kafka_offset": [one.record.offset for one in stored],
    }
    schema = SCHEMAS[topic_name]
    for name in schema.names:
        if name not in found:
            values = [getattr(event, name, None) for event in events]
            found[name] = [_as_text(value) for value in values] if name in _MAPS else values
    return pa.table([pa.array(found[name], schema.field(name).type) for name in schema.names], schema=schema)


_MAPS = frozenset(("features", "scores", "explored"))


def _as_text(value: Any) -> str | None:
    return None if value is None else _JSON.encode(value).decode()


_JSON = msgspec.json.Encoder()
