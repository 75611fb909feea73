"""JSON lines to events: the input of `livefeed events produce`."""

from collections.abc import Iterable

import msgspec

from events.errors import EventsError, MalformedEvent
from events.log import EventWriter
from events.topics import decode, topic

EVERY = 1000  # lines between two flushes


class BadLine(EventsError):
    """A line of the input is not an event of the topic; the message names its number."""


def produce(lines: Iterable[bytes], writer: EventWriter, topic_name: str, *, raw: bool = False) -> int:
    """Send each line as an event of the topic and return how many; they are durable when this returns.

    A line that is no event is a BadLine, after the ones before it were sent; with `raw` every line goes as it is, under the
    key that it names if it is JSON at all. Empty lines are skipped.
    """
    known = topic(topic_name)
    sent = 0
    try:
        for number, line in enumerate(lines, start=1):
            value = line.strip(b"\r\n")
            if not value.strip():
                continue
            try:
                key: bytes | None = str(getattr(decode(known.name, value), known.key)).encode()
            except MalformedEvent as error:
                key = _named_key(value, known.key)
                if not raw:
                    raise BadLine(
                        f"line {number} is not an event: {error.reason} ({sent} lines before it were sent)"
                    ) from None
            writer.send_raw(known.name, key=key, value=value)
            sent += 1
            if sent % EVERY == 0:
                writer.flush()
    finally:
        writer.flush()
    return sent


def _named_key(value: bytes, field: str) -> bytes | None:
    """The key of a line that is no event yet: sent again after an upgrade it must lie among its entity's events."""
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    named = found.get(field) if isinstance(found, dict) else None
    return named.encode() if isinstance(named, str) else None
