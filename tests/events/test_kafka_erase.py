"""Dead letters of one person leave Kafka; the others keep their bytes, keys, headers and order."""

import uuid

import pytest

from events.dead_letters import names, read_dead_letters, send_dead_letter
from events.kafka import KafkaReader, KafkaWriter
from events.kafka_erase import LettersErased, erase_dead_letters, retention_days, start_offsets
from events.log import Place, Record
from events.topics import DEAD_LETTERS, ENGAGEMENT
from stack.parts import Parts

HER = Record(DEAD_LETTERS, 0, 0, b"vera", b"{}", (("reason", b"broken"),))


@pytest.mark.parametrize(
    ("change", "hers"),
    [
        ({}, True),
        ({"key": b"otto"}, False),
        ({"key": None, "value": b'{"user_id":"vera","n":'}, True),
        ({"key": None, "value": b"\xff vera \xfe"}, True),
        ({"key": None, "value": b'{"user_id":"vera2"}'}, False),
        ({"key": None, "value": b'{"user_id":"de-vera"}'}, False),
        ({"key": None, "headers": (("reason", b"vera is no number"),)}, True),
    ],
)
def test_a_letter_is_hers_when_her_id_is_a_word_anywhere_in_it(change: dict[str, object], hers: bool) -> None:
    assert names("vera")(HER._replace(**change)) is hers


def test_an_id_is_found_as_json_writes_it_too() -> None:
    assert names("zoë")(HER._replace(key=None, value=b'{"user_id":"zo\\u00eb"'))
    assert names("zoë")(HER._replace(key=None, value='{"user_id":"zoë"'.encode()))


def lying(bootstrap: str) -> list[Record]:
    """Every record of the dead-letter topic that can still be read."""
    reader = KafkaReader(bootstrap, [DEAD_LETTERS], group=None)
    ends, starts = reader.end_offsets(), start_offsets(bootstrap, [DEAD_LETTERS])
    out: list[Record] = []
    while len(out) < sum(end - starts[place] for place, end in ends.items()):
        out.extend(reader.poll(timeout_s=0.2, limit=1000))
    reader.close()
    return out


@pytest.mark.parts
def test_her_letters_go_and_the_others_stay_as_they_were_in_their_order(parts: Parts) -> None:
    kafka, tag = parts.settings.kafka, uuid.uuid4().hex
    hers, topic = f"vera-{tag}", f"story-{tag}"
    writer = KafkaWriter(kafka)
    for offset, user in enumerate((hers, "otto", "anna", hers, "otto")):
        send_dead_letter(writer, Record(topic, 1, offset, user.encode(), b"\xff%d" % offset), "broken")
    writer.send_raw(DEAD_LETTERS, key=b"otto", value=b"last", headers=(("topic", topic.encode()), ("partition", b"1"),
                    ("offset", b"9"), ("reason", b"x"), ("trace", b"\x00\x01")))  # fmt: skip
    writer.flush()
    own = ("topic", topic.encode())  # other stories of this run left letters of their own
    before = [record for record in lying(kafka) if own in record.headers and record.key != hers.encode()]
    assert len(before) == 4
    assert erase_dead_letters(kafka, names(hers)).removed == 2
    after = [record for record in lying(kafka) if own in record.headers]
    assert not [r for r in after if names(hers)(r)]
    for number in range(parts.settings.topic_partitions):
        lane = [[(r.key, r.value, r.headers) for r in some if r.partition == number] for some in (before, after)]
        assert lane[0] == lane[1]
    mine = [letter for letter in read_dead_letters(kafka) if letter.topic == topic]
    assert [letter.offset for letter in mine] == [1, 2, 4, 9]
    ends = start_offsets(kafka, [DEAD_LETTERS])
    assert erase_dead_letters(kafka, names(hers)).removed == 0
    assert start_offsets(kafka, [DEAD_LETTERS]) == ends, "with nothing to remove nothing was touched"
    writer.close()


@pytest.mark.parts
def test_copies_that_a_crash_left_are_done_away_with_by_the_next_run(parts: Parts) -> None:
    kafka, tag = parts.settings.kafka, uuid.uuid4().hex
    writer = KafkaWriter(kafka)
    for user, offset in ((f"vera-{tag}", 0), ("otto", 1), ("otto", 1)):
        send_dead_letter(writer, Record(f"story-{tag}", 0, offset, user.encode(), b"{"), "broken")
    writer.close()
    erase_dead_letters(kafka, names(f"vera-{tag}"))
    assert len([r for r in lying(kafka) if dict(r.headers).get("topic") == f"story-{tag}".encode()]) == 1


@pytest.mark.parts
def test_reading_letters_ends_when_a_partition_has_lost_all_of_its_own(parts: Parts) -> None:
    kafka, tag = parts.settings.kafka, uuid.uuid4().hex
    everyone = erase_dead_letters(kafka, lambda _: True)
    writer = KafkaWriter(kafka)
    send_dead_letter(writer, Record(ENGAGEMENT, 0, 0, tag.encode(), b"{"), "broken")
    writer.close()
    assert erase_dead_letters(kafka, names(tag)) == LettersErased(1, 0)
    assert everyone.kept == 0 and read_dead_letters(kafka, timeout_s=10.0) == []


@pytest.mark.parts
def test_the_broker_says_how_long_it_keeps_a_topic(parts: Parts) -> None:
    assert retention_days(parts.settings.kafka, [ENGAGEMENT]) == {ENGAGEMENT: 7.0}
    assert set(start_offsets(parts.settings.kafka, [ENGAGEMENT])) == {
        Place(ENGAGEMENT, n) for n in range(parts.settings.topic_partitions)
    }
