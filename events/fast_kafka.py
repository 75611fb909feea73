"""A second EventWriter on Kafka, over librdkafka: for a process that has little time for its events, as the proxy.

Measured on a feed's 20 impressions: a fifth of the CPU of events/kafka.py, whose client is Python. It passes the same
contract suite; readers are those of events/kafka.py.
"""

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from events.errors import EventRefused, LogUnavailable
from events.kafka import LINGER_MS, RECONNECT_MAX_MS
from events.log import Header
from events.schema import Event
from events.topics import encode, key_of, topic_of

# What no later attempt makes right: it lies in the event, not in the broker.
_REFUSED = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG_SIZE, KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError._INVALID_DIFFERENT_RECORD,
})  # fmt: skip
_log = logging.getLogger("events.fast_kafka")
# The most librdkafka allows. With producer ids it looks in a loop, at a whole core, whether what a batch left over may go:
# 280 impressions took 3.9 ms of its thread in batches of 128 kB, 0.5 in one.
BATCH_BYTES = 1_000_000


class FastKafkaWriter:
    """EventWriter over Kafka: acks from all replicas, no duplicates by the producer's own retries."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 30.0) -> None:
        """LogUnavailable when no broker answers in time."""
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._failed = self._refused = ""
        self._gave_up = False
        self._producer = Producer({**_settings(bootstrap, timeout_s), "on_delivery": self._note}, logger=_log)
        try:
            self._producer.list_topics(timeout=timeout_s)
        except KafkaException as error:
            raise self._unavailable(f"answer within {timeout_s:g} s", error) from None

    def send(self, event: Event) -> None:
        """Append an event to its topic under its key; EventRefused when the log will never take it."""
        self.send_raw(topic_of(event).name, key=key_of(event).encode(), value=encode(event))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Append bytes as they are."""
        try:
            if headers:
                self._producer.produce(topic, value, key, headers=list(headers))
            else:
                self._producer.produce(topic, value, key)
        except (BufferError, KafkaException) as error:
            if _is_refusal(error):
                raise EventRefused(
                    f"the event log at {self._bootstrap} takes no message of {len(value)} bytes for {topic}: {error}"
                ) from None
            raise self._unavailable(f"take a message for {topic}", error) from None

    def _note(self, error: Any, _: Any) -> None:
        if error is not None and error.code() in _REFUSED:
            self._refused = str(error)
        elif error is not None:
            self._failed = str(error)

    def flush(self) -> None:
        """Wait until everything sent is durable; LogUnavailable when it is not in time.

        EventRefused when some of it never will be, and perhaps what was sent with it: send halves to find out which.
        """
        left = self._producer.flush(self._timeout_s)
        failed, refused = self._failed, self._refused
        self._failed = self._refused = ""
        if left:
            self._gave_up = True
            raise self._unavailable(f"confirm messages within {self._timeout_s:g} s", f"{left} are not confirmed")
        if failed:
            raise self._unavailable("keep a message", failed)
        if refused:
            raise EventRefused(f"the event log at {self._bootstrap} will not take a message: {refused}")

    def close(self) -> None:
        """Flush and let go; what a flush has already failed to confirm is not sent any more."""
        try:
            if not self._gave_up:
                self.flush()
        finally:
            self._producer.purge()
            self._producer.flush(0)

    def _unavailable(self, doing: str, error: object) -> LogUnavailable:
        return LogUnavailable(f"the event log at {self._bootstrap} did not {doing}: {error}")


def _is_refusal(error: BaseException) -> bool:
    return any(isinstance(said, KafkaError) and said.code() in _REFUSED for said in error.args)


def _settings(bootstrap: str, timeout_s: float) -> dict[str, Any]:
    limit_ms = int(timeout_s * 1_000)
    return {
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": LINGER_MS,
        "batch.size": BATCH_BYTES,
        "partitioner": "murmur2_random",  # where events/kafka.py, and Java's clients, put a key
        "delivery.report.only.error": True,
        "message.timeout.ms": limit_ms + 1_000,
        "socket.timeout.ms": limit_ms + 1_000,
        "socket.connection.setup.timeout.ms": max(limit_ms, 1_000),
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "allow.auto.create.topics": False,
        "log_level": 2,  # what goes wrong is raised, once and in a sentence
    }
