"""What can be taken out of Kafka: dead letters, by sending the others again and cutting off the old ones.

Kafka deletes records only from a partition's beginning. So the letters to keep are sent again to the same partition, in
their order, with their keys and headers, and then everything up to the old end is deleted. A crash between the two leaves
copies, which readers count once and the next run does away with. Letters that collectors add meanwhile lie behind the end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from events.errors import LogUnavailable
from events.log import Place, Record
from events.topics import DEAD_LETTERS

POLL_MS = 200
RETENTION = "retention.ms"


class LettersErased(NamedTuple):
    """Dead letters that are gone, and those that were kept."""

    removed: int
    kept: int


def start_offsets(bootstrap: str, topics: Sequence[str], *, timeout_s: float = 30.0) -> dict[Place, int]:
    """The offset of the first record that is still there, of every partition of `topics`."""
    with _consumer(bootstrap, timeout_s) as consumer:
        return {Place(at.topic, at.partition): first for at, first in _starts(consumer, topics).items()}


def erase_dead_letters(bootstrap: str, is_hers: Callable[[Record], bool], *, timeout_s: float = 30.0) -> LettersErased:
    """Remove the dead letters of which `is_hers` says so; when there are none, nothing is touched."""
    try:
        with _consumer(bootstrap, timeout_s) as consumer:
            records, ends = _read(consumer)
        hers = [record for record in records if is_hers(record)]
        if not hers:
            return LettersErased(0, len(records))
        gone = set(map(id, hers))
        kept = list({_copy(one): one for one in records if id(one) not in gone}.values())
        _send_again(bootstrap, kept, timeout_s)
        _cut(bootstrap, ends, timeout_s)
    except KafkaError as error:
        raise LogUnavailable(f"the dead letters at {bootstrap} could not be erased: {error}") from None
    return LettersErased(len(hers), len(kept))


def retention_days(bootstrap: str, topics: Sequence[str], *, timeout_s: float = 30.0) -> dict[str, float | None]:
    """For how many days the broker keeps each topic's records; None: for ever, or as long as compaction lets it."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_s * 1000))
        try:
            asked = [ConfigResource(ConfigResourceType.TOPIC, name, {RETENTION: None}) for name in topics]
            told = admin.describe_configs(asked, config_filter="all")
        finally:
            admin.close()
    except KafkaError as error:
        raise LogUnavailable(f"the log at {bootstrap} did not say how long it keeps its topics: {error}") from None
    return {name: _days(told, name) for name in topics}


def _days(told: Any, name: str) -> float | None:
    milliseconds = int(_value(told, name))
    return None if milliseconds < 0 else milliseconds / 86_400_000


def _value(told: Mapping[str, Any], name: str) -> Any:
    return told["topic"][name][RETENTION]["value"]


def _consumer(bootstrap: str, timeout_s: float) -> "_Closing":
    limit = int(timeout_s * 1000)
    try:
        return _Closing(
            KafkaConsumer(
                bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
                allow_auto_create_topics=False, bootstrap_timeout_ms=limit,
            )
        )  # fmt: skip
    except KafkaError as error:
        raise LogUnavailable(f"the event log at {bootstrap} did not answer within {timeout_s:g} s: {error}") from None


class _Closing:
    """A consumer that is closed at the end."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __enter__(self) -> Any:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close(autocommit=False)


def _starts(consumer: Any, topics: Sequence[str]) -> dict[Any, int]:
    at = [TopicPartition(name, number) for name in topics for number in consumer.partitions_for_topic(name) or ()]
    return dict(consumer.beginning_offsets(at)) if at else {}


def _read(consumer: Any) -> tuple[list[Record], dict[Any, int]]:
    """Every dead letter in the order of its partition, and where the partitions end."""
    starts = _starts(consumer, [DEAD_LETTERS])
    ends = dict(consumer.end_offsets(list(starts))) if starts else {}
    consumer.assign(list(starts))
    for at, first in starts.items():
        consumer.seek(at, first)
    out: list[Record] = []
    while any(consumer.position(at) < ends[at] for at in starts):
        for at, batch in consumer.poll(timeout_ms=POLL_MS).items():
            out.extend(
                Record(m.topic, m.partition, m.offset, m.key, m.value or b"", tuple(m.headers or ()))
                for m in batch
                if m.offset < ends[at]
            )
    return out, ends


def _copy(record: Record) -> tuple[int, bytes | None, bytes, tuple[Any, ...]]:
    return record.partition, record.key, record.value, tuple(record.headers)


def _send_again(bootstrap: str, records: Sequence[Record], timeout_s: float) -> None:
    limit = int(timeout_s * 1000)
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, bootstrap_timeout_ms=limit, max_block_ms=limit
    )
    try:
        sent = [
            producer.send(r.topic, value=r.value, key=r.key, headers=list(r.headers), partition=r.partition)
            for r in records
        ]
        producer.flush(timeout=timeout_s)
        for one in sent:
            one.get(timeout_s)  # raises what went wrong: then nothing is cut off
    finally:
        producer.close(timeout=timeout_s)


def _cut(bootstrap: str, ends: Mapping[Any, int], timeout_s: float) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_s * 1000))
    try:
        admin.delete_records({at: end for at, end in ends.items() if end > 0})
    finally:
        admin.close()
