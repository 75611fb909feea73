"""Dead letters keep everything needed to understand them and to send them again."""

import uuid

import pytest

from events.dead_letters import MAX_REASON, parse_dead_letter, read_dead_letters, replay_dead_letters, send_dead_letter
from events.kafka import KafkaWriter
from events.log import MemoryLog, MemoryWriter, Place, Record
from events.topics import DEAD_LETTERS, ENGAGEMENT, encode
from stack.parts import Parts
from tests.collector.stories import started

BAD = Record(ENGAGEMENT, 2, 41, b"vera", b"\xff{", (("trace", b"1"),))


def lying(log: MemoryLog) -> list[Record]:
    return [record for place, lane in log.records.items() if place.topic == DEAD_LETTERS for record in lane]


def test_a_dead_letter_has_the_place_the_reason_and_the_original_bytes() -> None:
    log = MemoryLog()
    send_dead_letter(MemoryWriter(log), BAD, "it is broken")
    (record,) = lying(log)
    letter = parse_dead_letter(record)
    assert (letter.place, letter.offset, letter.reason) == (Place(ENGAGEMENT, 2), 41, "it is broken")
    assert (letter.key, letter.value) == (b"vera", b"\xff{")


def test_a_long_reason_is_cut() -> None:
    log = MemoryLog()
    send_dead_letter(MemoryWriter(log), BAD, "x" * 10_000)
    assert len(parse_dead_letter(lying(log)[0]).reason) == MAX_REASON


def test_replaying_sends_what_can_be_read_now_to_its_topic_under_its_key() -> None:
    log = MemoryLog()
    writer = MemoryWriter(log)
    event = started("e1", "vera", "film", 0)
    send_dead_letter(writer, BAD, "broken")
    send_dead_letter(writer, BAD._replace(value=encode(event), offset=42), "a field was unknown then")
    letters = [parse_dead_letter(record) for record in lying(log)]
    assert replay_dead_letters(letters, writer) == 1
    (sent,) = [record for place, lane in log.records.items() if place.topic == ENGAGEMENT for record in lane]
    assert (sent.key, sent.value) == (b"vera", encode(event))
    assert replay_dead_letters(letters, writer, everything=True) == 2


@pytest.mark.parts
def test_a_letter_sent_twice_after_a_crash_is_read_once(parts: Parts) -> None:
    topic = f"story-{uuid.uuid4()}"
    writer = KafkaWriter(parts.settings.kafka)
    for offset in (5, 3, 5):
        send_dead_letter(writer, BAD._replace(topic=topic, offset=offset), f"broken at {offset}")
    writer.close()
    mine = [letter for letter in read_dead_letters(parts.settings.kafka) if letter.topic == topic]
    assert [(letter.offset, letter.reason) for letter in mine] == [(3, "broken at 3"), (5, "broken at 5")]
    assert len(read_dead_letters(parts.settings.kafka, 1)) == 1
