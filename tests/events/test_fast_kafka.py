"""What librdkafka's client says of an event that no broker will ever take; the broker is librdkafka's own mock."""

from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError

from events import fast_kafka
from events import schema as s
from events.errors import EventRefused, LogUnavailable
from events.fast_kafka import FastKafkaWriter


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> FastKafkaWriter:
    settings = fast_kafka._settings

    def mocked(bootstrap: str, timeout_s: float) -> dict[str, Any]:
        return settings(bootstrap, timeout_s) | {"test.mock.num.brokers": 1, "allow.auto.create.topics": True}

    monkeypatch.setattr(fast_kafka, "_settings", mocked)
    return FastKafkaWriter("mock", timeout_s=5.0)


def impression(features: dict[str, Any]) -> s.Impression:
    return s.Impression(
        event_id="q:0", event_at=datetime(2026, 11, 1, tzinfo=UTC), request_id="q", user_id="u", item_id="m", position=0,
        content_type=s.ContentType.VIDEO, creator_id="c", features=features,
    )  # fmt: skip


def test_an_event_that_is_too_large_is_refused_and_the_next_one_is_taken(writer: FastKafkaWriter) -> None:
    with pytest.raises(EventRefused, match=r"takes no message of \d{7} bytes for feed\.impressions: .*too large"):
        writer.send(impression({"item.tags": ["t" * 60] * 20_000}))
    writer.send(impression({}))
    writer.flush()
    writer.close()


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, EventRefused),
        (KafkaError.INVALID_RECORD, EventRefused),
        (KafkaError._MSG_TIMED_OUT, LogUnavailable),
    ],
)
def test_what_a_broker_will_not_take_is_told_from_what_it_did_not_take_now(
    writer: FastKafkaWriter, code: int, wanted: type[Exception]
) -> None:
    writer._note(KafkaError(code), None)
    with pytest.raises(wanted):
        writer.flush()
    writer.flush()
    writer.close()
