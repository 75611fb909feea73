"""From records to events that count: unreadable ones become dead letters, duplicates are dropped, old ones are marked."""

from collections.abc import Mapping, Sequence

from collector.lane import Lane, Taken
from collector.tombstones import Tombstones
from events.clock import utc
from events.dead_letters import send_dead_letter
from events.errors import MalformedEvent
from events.log import EventWriter, Place, Record
from events.schema import Event
from events.topics import LAST_AT, decode


def read(record: Record, *, latest: float = LAST_AT) -> tuple[Event, float]:
    """A record as an event and its epoch second, or MalformedEvent.

    `latest` is the last epoch second that can be true: one event of a clock that runs ahead would make later ones late.
    """
    event = decode(record.topic, record.value)
    at = event.event_at.timestamp()
    if at > latest:
        raise MalformedEvent(
            f"{record.topic}: event_at {event.event_at.isoformat()} is after {utc(latest).isoformat()}"
        )
    return event, at


def take(
    records: Sequence[Record], lanes: Mapping[Place, Lane], writer: EventWriter, *, ingested_at: float,
    ahead_s: float | None = None, tombstones: Tombstones | None = None,
) -> list[Taken]:  # fmt: skip
    """The events among `records` that count, in their order; rows wait in their lanes, bad ones go to the dead letters."""
    out: list[Taken] = []
    latest = LAST_AT if ahead_s is None else ingested_at + ahead_s
    for record in records:
        lane = lanes[record.place]
        if record.offset < lane.next:
            continue
        fresh = record.offset >= lane.stored
        lane.next = record.offset + 1
        try:
            event, at = read(record, latest=latest)
        except MalformedEvent as error:
            if fresh and not (tombstones is not None and tombstones.is_erased_key(record.key)):
                send_dead_letter(writer, record, error.reason)
                lane.counts["dead_letter"] += 1
            continue
        if tombstones is not None:
            if tombstones.is_erased(event):
                lane.counts["erased"] += fresh
                continue
            event = tombstones.scrub(event)
        duplicate, old = lane.judge(event.event_id, record.offset, at)
        if duplicate:
            lane.counts["duplicate"] += fresh
            continue
        taken = Taken(lane, record, event, at, old, ingested_at)
        out.append(taken)
        if fresh:
            lane.rows.append(taken)
    return out
