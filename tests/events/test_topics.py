"""Topics and the wire form: what goes out comes back, and what does not fit is named."""

import msgspec
import pytest

from events import schema as s
from events.errors import MalformedEvent, UnknownTopic
from events.topics import ENGAGEMENT, MEDIA, TOPICS, decode, encode, key_of, kind_of, topic, topic_of
from tests.collector.stories import at, published, started


def test_every_event_type_travels_on_exactly_one_topic() -> None:
    kinds = [kind for one in TOPICS.values() for kind in one.types]
    assert len(kinds) == len(set(kinds))
    assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds)


def test_an_event_comes_back_from_its_bytes() -> None:
    event = published("film", tags=("a", "b"), duration_s=12.5)
    assert decode(MEDIA, encode(event)) == event
    assert (topic_of(event).name, key_of(event), kind_of(event)) == (MEDIA, "film", "media_published")


def test_fields_left_at_their_default_do_not_travel() -> None:
    sent = msgspec.json.decode(encode(started("e1", "vera", "film", 0, creator_id=None)))
    assert sent == {
        "type": "media_started", "event_id": "e1", "event_at": "2026-11-01T18:00:00Z", "user_id": "vera", "item_id": "film",
    }  # fmt: skip


def test_an_event_on_another_topic_than_its_own_is_malformed() -> None:
    with pytest.raises(MalformedEvent, match=r"media\.published: Invalid value 'media_started'"):
        decode(MEDIA, encode(started("e1", "vera", "film", 0, creator_id=None)))


@pytest.mark.parametrize("bad", ["", "x" * 129])
def test_ids_have_one_to_128_characters(bad: str) -> None:
    event = s.MediaStarted(event_id="e1", event_at=at(0), user_id=bad, item_id="film")
    with pytest.raises(MalformedEvent, match=r"length .* at `\$\.user_id`"):
        decode(ENGAGEMENT, encode(event))


def test_an_unknown_topic_is_named_with_the_ones_there_are() -> None:
    with pytest.raises(
        UnknownTopic, match=r"unknown topic 'films'; allowed are user\.engagement\.events, media\.published"
    ):
        topic("films")
    with pytest.raises(UnknownTopic):
        decode("films", b"{}")
