"""The event log on Apache Kafka: an idempotent writer, and a reader whose offsets belong to the stores, never to the broker.

Nothing is ever committed to Kafka: whoever reads writes its next offsets beside its data and seeks there after a restart.
"""

import itertools
import time
from collections.abc import Sequence, Set
from functools import lru_cache
from typing import Any, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from kafka.structs import MemberState

from events.errors import LogUnavailable
from events.log import Header, Place, Record
from events.schema import Event
from events.topics import encode, key_of, topic_of

LINGER_MS = 5
BATCH_BYTES = 128 * 1024
TOPIC_POLL_S = 0.2
SESSION_MS = 6_000  # a killed member's partitions come free after this long; brokers allow no less by default
HEARTBEAT_MS = 1_000
# A member that dies while it joins is missed only after this long; one that polls more rarely is put out of its group.
MAX_POLL_INTERVAL_MS = 60_000
# The client's default is 30 s: a broker that is back after 10 s would be left alone for as long again.
RECONNECT_MAX_MS = 1_000
JOIN_POLL_S = 1.0  # the client throws a join away that ends between two polls, and begins again
FETCH_WAIT_MS = 50  # how long the broker may hold an empty fetch: part of every event's freshness


class Member(NamedTuple):
    """A reader's place in its consumer group; either changes with every change in the group."""

    member_id: str
    generation: int


def partition_of(key: bytes, partitions: Set[int] | None) -> int | None:
    """Where the client would put the key, None where the partitions are not known; it hashes in Python, each time anew."""
    return sorted(partitions)[_hash(key) % len(partitions)] if partitions else None


@lru_cache(maxsize=4_096)
def _hash(key: bytes) -> int:
    """Kafka's default partitioner's, not negative."""
    return int(murmur2(key)) & 0x7FFF_FFFF


def _unavailable(bootstrap: str, doing: str, error: object) -> LogUnavailable:
    return LogUnavailable(f"the event log at {bootstrap} did not {doing}: {error}")


class KafkaWriter:
    """EventWriter over Kafka: acks from all replicas, no duplicates by the producer's own retries."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 30.0) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._failed: Exception | None = None
        self._gave_up = False
        limit_ms = int(timeout_s * 1000)
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                linger_ms=LINGER_MS,
                batch_size=BATCH_BYTES,
                max_block_ms=limit_ms,
                bootstrap_timeout_ms=limit_ms,
                reconnect_backoff_max_ms=RECONNECT_MAX_MS,
                # A client whose request is late tries again in a tight loop: not before nobody waits any more.
                request_timeout_ms=limit_ms,
                delivery_timeout_ms=limit_ms + 1000,
            )
        except KafkaError as error:
            raise _unavailable(bootstrap, f"answer within {timeout_s:g} s", error) from None

    def send(self, event: Event) -> None:
        """Append an event to its topic under its key."""
        self.send_raw(topic_of(event).name, key=key_of(event).encode(), value=encode(event))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Append bytes as they are."""
        try:
            where = None if key is None else partition_of(key, self._producer.partitions_for(topic))
            sent = self._producer.send(topic, value=value, key=key, headers=list(headers), partition=where)
        except KafkaError as error:
            raise _unavailable(self._bootstrap, f"take a message for {topic}", error) from None
        sent.add_errback(self._note)

    def _note(self, error: Exception) -> None:
        self._failed = error

    def flush(self) -> None:
        """Wait until everything sent is durable; LogUnavailable when it is not in time."""
        try:
            self._producer.flush(timeout=self._timeout_s)
        except KafkaError as error:
            self._gave_up = True
            raise _unavailable(self._bootstrap, f"confirm messages within {self._timeout_s:g} s", error) from None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise _unavailable(self._bootstrap, "keep a message", failed)

    def close(self) -> None:
        """Flush and let go; what a flush has already failed to confirm is not sent any more."""
        try:
            if not self._gave_up:
                self.flush()
        finally:
            if self._gave_up:
                # The client's own close flushes first, and when that fails leaves its thread sending for ever.
                self._producer._sender.force_close()
            self._producer.close(timeout=self._timeout_s)


class KafkaReader:
    """EventReader over Kafka: a member of consumer group `group`, or with None the reader of every partition.

    After each change in the group it shows no assignment for one poll, so that its owner drops what it held and starts again
    from the stores. While the group changes, and as soon as the broker has said that this member is out, it shows none.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        *,
        group: str | None,
        from_start: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = list(topics)
        self._in_group = group is not None
        self._member: Member | None = None  # as of the last poll
        self._hidden = False
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest" if from_start else "latest",
                allow_auto_create_topics=False,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                session_timeout_ms=SESSION_MS,
                max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
                bootstrap_timeout_ms=int(timeout_s * 1000),
                reconnect_backoff_max_ms=RECONNECT_MAX_MS,
            )
            places = self._await_topics(timeout_s)  # also for a group: its leader assigns what it knows of
            if self._in_group:
                self._consumer.subscribe(topics=self._topics)
                # Refreshes what the client compares after an assignment: else the first leader assigns everything twice.
                self._consumer.topics()
            else:
                self._consumer.assign(places)
        except KafkaError as error:
            raise _unavailable(bootstrap, f"answer within {timeout_s:g} s", error) from None

    def _await_topics(self, timeout_s: float) -> list[TopicPartition]:
        """Every partition of the topics, once the broker knows them all."""
        until = time.monotonic() + timeout_s
        while True:
            known = {topic: self._consumer.partitions_for_topic(topic) for topic in self._topics}
            missing = [topic for topic, numbers in known.items() if not numbers]
            if not missing:
                return [TopicPartition(topic, n) for topic, numbers in known.items() for n in sorted(numbers)]
            if time.monotonic() > until:
                raise LogUnavailable(f"the event log at {self._bootstrap} has no topic {missing[0]!r}")
            time.sleep(TOPIC_POLL_S)

    def _membership(self) -> Member | None:
        """Who this reader is in its group; None while the group changes, once it is out, and without a group."""
        if not self._in_group:
            return None
        now = self._consumer.group_metadata()
        return Member(now.member_id, now.generation_id) if now.state is MemberState.STABLE else None

    def assignment(self) -> frozenset[Place]:
        """The partitions this reader holds now; none until the first polls, and none for one poll after a change."""
        member = self._membership()
        if self._hidden or member != self._member or (self._in_group and member is None):
            return frozenset()
        return frozenset(Place(at.topic, at.partition) for at in self._consumer.assignment())

    def seek(self, place: Place, offset: int) -> None:
        """Read `place` from `offset` on."""
        self._consumer.seek(TopicPartition(place.topic, place.partition), offset)

    def poll(self, *, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, in order within each place; empty when none came in time."""
        if self._hidden:
            self._hidden = False
            return []  # the owner has not said yet where to read on
        if self._in_group and self._membership() is None:
            self._go_on_joining()
            timeout_s = max(timeout_s, JOIN_POLL_S)
        try:
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=limit)
        except KafkaError as error:
            raise _unavailable(self._bootstrap, "hand out messages", error) from None
        member = self._membership()
        if member != self._member:
            self._member, self._hidden = member, True
            for at in self._consumer.assignment() & batches.keys():
                self._consumer.seek(at, batches[at][0].offset)
            return []
        return [_record(message) for message in itertools.chain.from_iterable(batches.values())]

    def stay(self) -> None:
        """Keep the place in the group while nothing can be taken in: nothing is read, no position moves."""
        if not self._in_group:
            return
        held = self._consumer.assignment()
        try:
            self._consumer.pause(*held)
            batches = self._consumer.poll(timeout_ms=0, max_records=1)
            for at in self._consumer.assignment() & batches.keys():  # of a partition that came just now
                self._consumer.seek(at, batches[at][0].offset)
            self._consumer.resume(*(held & self._consumer.assignment()))
        except KafkaError as error:
            raise _unavailable(self._bootstrap, "keep this member in its group", error) from None

    def _go_on_joining(self) -> None:
        """Keep the client at a join that it began.

        When a leader joins again because partitions changed, kafka-python 3.0.12 forgets why as soon as it has assigned them.
        A poll that ends just then leaves it for ever without heartbeats and with partitions that are others' by now.
        """
        if self._consumer.group_metadata().state is MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()

    def end_offsets(self) -> dict[Place, int]:
        """The offset after the last record, by assigned place."""
        held = list(self._consumer.assignment())
        if not held:
            return {}
        try:
            return {Place(at.topic, at.partition): end for at, end in self._consumer.end_offsets(held).items()}
        except KafkaError as error:
            raise _unavailable(self._bootstrap, "say where its topics end", error) from None

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(autocommit=False)


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value or b"",
        tuple(message.headers or ()),
    )


def end_offsets(bootstrap: str, topics: Sequence[str], *, timeout_s: float = 30.0) -> dict[Place, int]:
    """The offset after the last record of every partition of `topics`, without joining a group."""
    reader = KafkaReader(bootstrap, topics, group=None, timeout_s=timeout_s)
    try:
        return reader.end_offsets()
    finally:
        reader.close()
