"""Dead letters: what could not be read as an event, kept with its original bytes, its place in the log and the reason.

A crash between sending one and committing its place sends it again; readers count each place in the log once.
"""

import json
import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from events.errors import MalformedEvent
from events.kafka import KafkaReader
from events.kafka_erase import start_offsets
from events.log import EventWriter, Place, Record
from events.topics import DEAD_LETTERS, TOPICS, decode

MAX_REASON = 500  # characters of a reason that are kept
POLL_S = 0.2


class DeadLetter(Struct, frozen=True):
    """One message that could not be read: where it lay, its bytes untouched, and why."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes

    @property
    def place(self) -> Place:
        """The partition it lay in."""
        return Place(self.topic, self.partition)


def send_dead_letter(writer: EventWriter, record: Record, reason: str) -> None:
    """Append a record to the dead-letter topic: value and key as they were, the rest in headers."""
    headers = (
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("reason", reason[:MAX_REASON].encode(errors="replace")),
    )
    writer.send_raw(DEAD_LETTERS, key=record.key, value=record.value, headers=headers)


def parse_dead_letter(record: Record) -> DeadLetter:
    """A record of the dead-letter topic as a DeadLetter."""
    found = dict(record.headers)
    return DeadLetter(
        topic=found["topic"].decode(),
        partition=int(found["partition"]),
        offset=int(found["offset"]),
        reason=found["reason"].decode(),
        key=record.key,
        value=record.value,
    )


def read_dead_letters(bootstrap: str, limit: int | None = None, *, timeout_s: float = 30.0) -> list[DeadLetter]:
    """The dead letters, each place of the log once, sorted by place and offset; with `limit`, the last so many."""
    reader = KafkaReader(bootstrap, [DEAD_LETTERS], group=None, timeout_s=timeout_s)
    try:
        ends = reader.end_offsets()
        starts = start_offsets(bootstrap, [DEAD_LETTERS], timeout_s=timeout_s)
        waiting = {place for place, end in ends.items() if end > starts[place]}  # retention may have emptied one
        found: dict[tuple[str, int, int], DeadLetter] = {}
        while waiting:
            for record in reader.poll(timeout_s=POLL_S, limit=1000):
                letter = parse_dead_letter(record)
                found[letter.topic, letter.partition, letter.offset] = letter
                if record.offset + 1 >= ends[record.place]:
                    waiting.discard(record.place)
    finally:
        reader.close()
    letters = [found[key] for key in sorted(found)]
    return letters if limit is None else letters[max(len(letters) - limit, 0) :]


def names(user_id: str) -> Callable[[Record], bool]:
    """Whether a record of the dead-letter topic names a person: as its key, or as a word anywhere in what it holds.

    Broken bytes cannot be parsed, so a letter of somebody else that has the id as a word counts as hers too.
    """
    written = {user_id, json.dumps(user_id)[1:-1], json.dumps(user_id, ensure_ascii=False)[1:-1]}
    either = "|".join(re.escape(one) for one in sorted(written))
    word = re.compile(rf"(?<![\w-])(?:{either})(?![\w-])")

    def is_hers(record: Record) -> bool:
        parts = (record.key or b"", record.value, *(value for _, value in record.headers))
        return any(word.search(part.decode(errors="replace")) for part in parts)

    return is_hers


def replay_dead_letters(letters: Sequence[DeadLetter], writer: EventWriter, *, everything: bool = False) -> int:
    """Send original bytes again under their original key, unless they still cannot be read; returns how many.

    With `everything` those too; never those of a topic that is no more. Letters sent before are sent again: their event ids
    make the collector drop what it has.
    """
    sent = 0
    for letter in letters:
        if letter.topic in TOPICS and (everything or _is_readable(letter)):
            writer.send_raw(letter.topic, key=letter.key, value=letter.value)
            sent += 1
    writer.flush()
    return sent


def _is_readable(letter: DeadLetter) -> bool:
    try:
        decode(letter.topic, letter.value)
    except MalformedEvent:
        return False
    return True
