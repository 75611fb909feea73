"""The event log's contract: the memory log and Kafka give the same answers."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from kafka.structs import MemberState

from events import schema as s
from events.errors import LogUnavailable
from events.fast_kafka import FastKafkaWriter
from events.kafka import KafkaReader, KafkaWriter
from events.log import EventReader, EventWriter, MemoryLog, MemoryReader, MemoryWriter, Place, Record
from events.topics import PROFILES, decode


@dataclass
class Log:
    """One kind of log: its writer, how to make a reader, and where its topic ended when the test began."""

    writer: EventWriter
    read: Callable[[], EventReader]


WRITERS: dict[str, Callable[[str], EventWriter]] = {"kafka": KafkaWriter, "fast_kafka": FastKafkaWriter}


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.parts) for name in WRITERS)])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    if request.param == "memory":
        memory = MemoryLog()
        yield Log(MemoryWriter(memory), lambda: MemoryReader(memory, [PROFILES]))
        return
    bootstrap = request.getfixturevalue("parts").settings.kafka
    writer = WRITERS[request.param](bootstrap)
    readers: list[KafkaReader] = []

    def read() -> EventReader:
        reader = KafkaReader(bootstrap, [PROFILES], group=f"contract-{uuid.uuid4()}")
        readers.append(reader)
        return reader

    yield Log(writer, read)
    for reader in readers:
        reader.close()
    writer.close()


def viewer(user: str) -> s.ViewerProfile:
    return s.ViewerProfile(event_id=uuid.uuid4().hex, event_at=datetime(2026, 11, 1, tzinfo=UTC), user_id=user)


def held(reader: EventReader) -> frozenset[Place]:
    """The reader's partitions once it has them."""
    until = time.monotonic() + 30
    while not reader.assignment():
        assert time.monotonic() < until, "no partitions within 30 s"
        reader.poll(timeout_s=0.2, limit=1)
    return reader.assignment()


def records(reader: EventReader, starts: dict[Place, int], wanted: int, *, limit: int = 100) -> list[Record]:
    """The first `wanted` records from those offsets on."""
    for place, offset in starts.items():
        reader.seek(place, offset)
    out: list[Record] = []
    until = time.monotonic() + 30
    while len(out) < wanted and time.monotonic() < until:
        batch = reader.poll(timeout_s=0.2, limit=limit)
        assert len(batch) <= limit
        out.extend(batch)
    return out


def users(found: Sequence[Record]) -> list[str]:
    return [str(getattr(decode(PROFILES, record.value), "user_id")) for record in found]  # noqa: B009


def test_what_was_sent_is_read_back_with_its_key_in_order_within_its_partition(log: Log) -> None:
    reader = log.read()
    held(reader)
    ends = reader.end_offsets()
    mark = uuid.uuid4().hex
    sent = [viewer(f"{mark}-{n % 3}") for n in range(30)]
    for event in sent:
        log.writer.send(event)
    log.writer.flush()
    found = records(reader, ends, 30)
    assert sorted(users(found)) == sorted(event.user_id for event in sent)
    assert all(record.key == user.encode() for record, user in zip(found, users(found), strict=True))
    for user in {event.user_id for event in sent}:
        ids = [decode(PROFILES, r.value).event_id for r, who in zip(found, users(found), strict=True) if who == user]
        assert ids == [event.event_id for event in sent if event.user_id == user]
        assert len({r.place for r, who in zip(found, users(found), strict=True) if who == user}) == 1


def test_raw_bytes_and_headers_come_back_untouched(log: Log) -> None:
    reader = log.read()
    held(reader)
    ends = reader.end_offsets()
    log.writer.send_raw(PROFILES, key=b"k", value=b"\xff{not json", headers=[("why", b"because")])
    log.writer.flush()
    (found,) = records(reader, ends, 1)
    assert (found.key, found.value, list(found.headers)) == (b"k", b"\xff{not json", [("why", b"because")])


def test_seek_reads_again_from_there_and_end_offsets_count_what_was_sent(log: Log) -> None:
    reader = log.read()
    held(reader)
    before = reader.end_offsets()
    for n in range(10):
        log.writer.send(viewer(f"same-{n % 1}"))
    log.writer.flush()
    after = reader.end_offsets()
    (place,) = [p for p in after if after[p] > before.get(p, 0)]
    assert after[place] == before.get(place, 0) + 10
    first = records(reader, before, 10)
    again = records(reader, {place: before.get(place, 0) + 4}, 6, limit=2)
    assert [r.offset for r in first] == list(range(after[place] - 10, after[place]))
    assert again == first[4:]


def test_a_poll_with_nothing_new_is_empty(log: Log) -> None:
    reader = log.read()
    held(reader)
    for place, end in reader.end_offsets().items():
        reader.seek(place, end)
    assert reader.poll(timeout_s=0.1, limit=10) == []


def test_a_reader_that_only_stays_keeps_its_partitions_and_skips_nothing(log: Log) -> None:
    reader = log.read()
    places = held(reader)
    starts = reader.end_offsets()
    names = [uuid.uuid4().hex for _ in range(30)]
    for name in names:
        log.writer.send(viewer(name))
    log.writer.flush()
    first = records(reader, starts, 5, limit=5)
    for _ in range(20):
        reader.stay()
    assert reader.assignment() == places
    rest: list[Record] = []
    until = time.monotonic() + 30
    while len(first) + len(rest) < len(names) and time.monotonic() < until:
        rest += reader.poll(timeout_s=0.2, limit=7)
    assert sorted(users([*first, *rest])) == sorted(names)


@pytest.mark.parts
def test_two_readers_of_a_group_share_the_partitions_and_each_sees_the_change(request: pytest.FixtureRequest) -> None:
    bootstrap = request.getfixturevalue("parts").settings.kafka
    group = f"contract-{uuid.uuid4()}"
    one = KafkaReader(bootstrap, [PROFILES], group=group)
    whole = held(one)
    two = KafkaReader(bootstrap, [PROFILES], group=group)
    stop, seen_none = threading.Event(), threading.Event()

    def keep_polling() -> None:
        while not stop.is_set():
            one.poll(timeout_s=0.1, limit=1)
            if not one.assignment():
                seen_none.set()

    thread = threading.Thread(target=keep_polling)
    thread.start()
    try:
        theirs = held(two)
        until = time.monotonic() + 30
        while one.assignment() | theirs != whole or not one.assignment():
            assert time.monotonic() < until
            two.poll(timeout_s=0.1, limit=1)
            theirs = two.assignment()
    finally:
        stop.set()
        thread.join()
    assert seen_none.is_set()
    assert one.assignment() & two.assignment() == frozenset()
    one.close()
    two.close()


@pytest.mark.parts
def test_a_member_that_the_broker_put_out_shows_nothing_at_once_and_joins_again(request: pytest.FixtureRequest) -> None:
    reader = KafkaReader(request.getfixturevalue("parts").settings.kafka, [PROFILES], group=f"contract-{uuid.uuid4()}")
    whole = held(reader)
    reader._consumer._coordinator.reset_generation()  # what the client does when the broker no longer knows the member
    assert reader.assignment() == frozenset()
    assert held(reader) == whole
    reader.close()


@pytest.mark.parts
def test_a_member_whose_client_forgot_that_it_was_joining_joins(request: pytest.FixtureRequest) -> None:
    reader = KafkaReader(request.getfixturevalue("parts").settings.kafka, [PROFILES], group=f"contract-{uuid.uuid4()}")
    whole = held(reader)
    # As kafka-python 3.0.12 leaves it, with nothing under way.
    reader._consumer._coordinator.state = MemberState.REBALANCING
    assert reader.assignment() == frozenset()
    assert held(reader) == whole
    reader.close()


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(LogUnavailable, match=r"the event log at 127\.0\.0\.1:9 did not answer within 0\.5 s"):
        KafkaWriter("127.0.0.1:9", timeout_s=0.5)
    with pytest.raises(LogUnavailable, match=r"the event log at 127\.0\.0\.1:9 did not answer within 0\.5 s"):
        FastKafkaWriter("127.0.0.1:9", timeout_s=0.5)
    with pytest.raises(LogUnavailable, match=r"the event log at 127\.0\.0\.1:9 did not answer within 0\.5 s"):
        KafkaReader("127.0.0.1:9", [PROFILES], group=None, timeout_s=0.5)


@pytest.mark.parts
def test_both_writers_put_a_key_into_the_same_partition(request: pytest.FixtureRequest) -> None:
    bootstrap = request.getfixturevalue("parts").settings.kafka
    reader = KafkaReader(bootstrap, [PROFILES], group=None)
    try:
        starts = reader.end_offsets()
        names = [uuid.uuid4().hex for _ in range(20)]
        for make in WRITERS.values():
            writer = make(bootstrap)
            for name in names:
                writer.send(viewer(name))
            writer.close()
        found = records(reader, starts, 40)
    finally:
        reader.close()
    places = {name: {r.place for r, who in zip(found, users(found), strict=True) if who == name} for name in names}
    assert (len(found), {len(held) for held in places.values()}) == (40, {1})
    assert len(set.union(*places.values())) > 1


def test_a_writer_whose_broker_does_not_answer_any_more_says_so_in_time_and_lets_go() -> None:
    with silent_broker() as bootstrap:
        begun = time.monotonic()
        with pytest.raises(LogUnavailable, match=r"did not answer within 0\.5 s"):
            FastKafkaWriter(bootstrap, timeout_s=0.5)
        assert time.monotonic() - begun < 10  # no more than that it ends


@contextmanager
def silent_broker() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
