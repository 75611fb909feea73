"""The event log on Apache Kafka: an idempotent writer, and a reader whose offsets belong to the stores, never to the broker.

Nothing is ever committed to Kafka: whoever reads writes its next offsets beside its data and seeks there after a restart.
"""

import itertools
import time
from collections.abc import Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from events.errors import LogUnavailable
from events.log import Header, Place, Record
from events.schema import Event
from events.topics import encode, key_of, topic_of

LINGER_MS = 5
BATCH_BYTES = 128 * 1024
TOPIC_POLL_S = 0.2
# A member that dies while it joins is missed only after this long; one that polls more rarely is put out of its group.
MAX_POLL_INTERVAL_MS = 60_000
FORGOTTEN_S = 15.0  # longer than a session: a killed member's partitions come free within 10 s
FETCH_WAIT_MS = 50  # how long the broker may hold an empty fetch: part of every event's freshness


def _unavailable(bootstrap: str, doing: str, error: object) -> LogUnavailable:
    return LogUnavailable(f"the event log at {bootstrap} did not {doing}: {error}")


class KafkaWriter:
    """EventWriter over Kafka: acks from all replicas, no duplicates by the producer's own retries."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 30.0) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._failed: Exception | None = None
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
                request_timeout_ms=max(limit_ms - 1000, 1000),
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
            sent = self._producer.send(topic, value=value, key=key, headers=list(headers))
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
            raise _unavailable(self._bootstrap, f"confirm messages within {self._timeout_s:g} s", error) from None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise _unavailable(self._bootstrap, "keep a message", failed)

    def close(self) -> None:
        """Flush and let go."""
        try:
            self.flush()
        finally:
            self._producer.close(timeout=self._timeout_s)


class KafkaReader:
    """EventReader over Kafka: a member of consumer group `group`, or with None the reader of every partition.

    After a rebalance it shows no assignment for one poll, so that its owner drops what it held and starts again from the
    stores. With `first` it hands out the backlog of those topics before the others': engagement finds its catalogue.
    """

    def __init__(
        self, bootstrap: str, topics: Sequence[str], *, group: str | None, from_start: bool = True,
        first: Sequence[str] = (), timeout_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._bootstrap = bootstrap
        self._topics = list(topics)
        self._first = frozenset(first)
        self._in_group = group is not None
        self._joined_at, self._patience_s = 0.0, FORGOTTEN_S
        self._backlog: dict[TopicPartition, int] = {}
        self._rebalanced = False
        self._hidden = False
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest" if from_start else "latest",
                allow_auto_create_topics=False,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                session_timeout_ms=10_000,
                max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
                heartbeat_interval_ms=2_000,
                bootstrap_timeout_ms=int(timeout_s * 1000),
            )
            places = self._await_topics(timeout_s)  # also for a group: its leader assigns what it knows of
            if self._in_group:
                self._join()
            else:
                self._consumer.assign(places)
                self._hold_back()
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

    def _join(self) -> None:
        self._joined_at = time.monotonic()
        self._consumer.subscribe(topics=self._topics, listener=_Rebalance(self))

    def _join_again_if_forgotten(self) -> None:
        """A group whose leader assigned partitions before it knew the topics never rebalances by itself."""
        if self._in_group and not self._consumer.assignment() and time.monotonic() - self._joined_at > self._patience_s:
            self._patience_s *= 2  # more members than partitions is no fault: ask ever more rarely
            self._consumer.unsubscribe()
            self._join()

    def rebalanced(self) -> None:
        """Called by the group's listener while it polls."""
        self._rebalanced = True

    def assignment(self) -> frozenset[Place]:
        """The partitions this reader holds now; none until the first polls, and none for one poll after a rebalance."""
        if self._hidden or self._rebalanced:
            return frozenset()
        return frozenset(Place(at.topic, at.partition) for at in self._consumer.assignment())

    def seek(self, place: Place, offset: int) -> None:
        """Read `place` from `offset` on."""
        self._consumer.seek(TopicPartition(place.topic, place.partition), offset)

    def poll(self, *, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, in order within each place; empty when none came in time."""
        if self._hidden:
            self._hidden = False
            self._hold_back()
            return []
        self._release()
        self._join_again_if_forgotten()
        try:
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=limit)
        except KafkaError as error:
            raise _unavailable(self._bootstrap, "hand out messages", error) from None
        if self._rebalanced:
            self._rebalanced, self._hidden = False, True
            for at, records in batches.items():
                self._consumer.seek(at, records[0].offset)
            return []
        return [_record(message) for message in itertools.chain.from_iterable(batches.values())]

    def _hold_back(self) -> None:
        """Pause everything but the `first` topics until their backlog as of now is read."""
        held = self._consumer.assignment()
        early = [at for at in held if at.topic in self._first]
        if early:
            self._backlog = self._ends(early)
            self._consumer.pause(*[at for at in held if at.topic not in self._first])

    def _release(self) -> None:
        if not self._backlog:
            return
        self._backlog = {at: end for at, end in self._backlog.items() if self._consumer.position(at) < end}
        if not self._backlog:
            self._consumer.resume(*self._consumer.paused())

    def _ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        try:
            ends: dict[TopicPartition, int] = self._consumer.end_offsets(places)
        except KafkaError as error:
            raise _unavailable(self._bootstrap, "say where its topics end", error) from None
        return ends

    def end_offsets(self) -> dict[Place, int]:
        """The offset after the last record, by assigned place."""
        held = list(self._consumer.assignment())
        return {Place(at.topic, at.partition): end for at, end in self._ends(held).items()} if held else {}

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(autocommit=False)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Tells the reader that partitions came or went."""

    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader

    def on_partitions_revoked(self, revoked: object) -> None:
        """Some went."""
        self._reader.rebalanced()

    def on_partitions_assigned(self, assigned: object) -> None:
        """Some came."""
        self._reader.rebalanced()


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
