"""From records to events that count: unreadable ones become dead letters, duplicates are dropped, old ones are marked."""

import typing
from collections.abc import Mapping, Sequence

from collector.lane import Lane, Taken
from events.dead_letters import send_dead_letter
from events.errors import MalformedEvent
from events.log import EventWriter, Place, Record
from events.schema import Event
from events.topics import TOPICS, decode

# An event time outside these years is a broken clock; one such event would make every later one of its partition late.
FIRST_AT, LAST_AT = 0.0, 4_102_444_800.0  # 1970-01-01, 2100-01-01
_MAX_INT = 2**63 - 1  # the widest integer a column holds


def _whole_numbers(kind: type[Event]) -> tuple[str, ...]:
    """The fields of an event type that may hold integers."""
    hints = typing.get_type_hints(kind)
    return tuple(n for n, hint in hints.items() if n != "schema_v" and (hint is int or int in typing.get_args(hint)))


_WHOLE = {kind: _whole_numbers(kind) for topic in TOPICS.values() for kind in topic.types}


def read(record: Record) -> tuple[Event, float]:
    """A record as an event and its epoch second; MalformedEvent also for values that no table can hold."""
    event = decode(record.topic, record.value)
    at = event.event_at.timestamp()
    if not FIRST_AT <= at < LAST_AT:
        raise MalformedEvent(f"{record.topic}: event_at {event.event_at.isoformat()} is outside the years 1970 to 2099")
    for name in _WHOLE[type(event)]:
        if abs(getattr(event, name) or 0) > _MAX_INT:
            raise MalformedEvent(f"{record.topic}: {name} is outside 64 bits")
    return event, at


def take(
    records: Sequence[Record], lanes: Mapping[Place, Lane], writer: EventWriter, *, ingested_at: float
) -> list[Taken]:
    """The events among `records` that count, in their order; rows wait in their lanes, bad ones go to the dead letters."""
    out: list[Taken] = []
    for record in records:
        lane = lanes[record.place]
        if record.offset < lane.next:
            continue
        fresh = record.offset >= lane.stored
        lane.next = record.offset + 1
        try:
            event, at = read(record)
        except MalformedEvent as error:
            if fresh:
                send_dead_letter(writer, record, error.reason)
                lane.counts["dead_letter"] += 1
            continue
        duplicate, old = lane.judge(event.event_id, record.offset, at)
        if duplicate:
            lane.counts["duplicate"] += fresh
            continue
        taken = Taken(lane, record, event, at, old, ingested_at)
        out.append(taken)
        if fresh:
            lane.rows.append(taken)
    return out
