"""The topics, which events each carries, its key, and the wire form: bytes to event and back."""

from dataclasses import dataclass
from typing import Any

import msgspec

from events import schema as s
from events.errors import MalformedEvent, UnknownTopic

ENGAGEMENT = "user.engagement.events"
MEDIA = "media.published"
LIFECYCLE = "stream.lifecycle"
PROFILES = "profiles"
IMPRESSIONS = "feed.impressions"
DEAD_LETTERS = "livefeed.dead_letters"


@dataclass(frozen=True)
class Topic:
    """A topic: its Kafka name, offline table, key field and the event types it carries."""

    name: str
    table: str
    key: str
    types: tuple[type[s.Event], ...]


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            ENGAGEMENT,
            "engagement",
            "user_id",
            (*s.MEDIA_ENGAGEMENT, s.SubscriptionToCreator, *s.LIVE_ENGAGEMENT, s.FeedClicked),
        ),
        Topic(MEDIA, "media", "item_id", (s.MediaPublished, s.MediaRemoved, s.MediaHidden)),
        Topic(
            LIFECYCLE, "lifecycle", "streamer_id", (s.RoomOpened, s.RoomClosed, s.RoomStatusChanged, s.RoomHeartbeat)
        ),
        Topic(PROFILES, "profiles", "user_id", (s.ViewerProfile, s.CreatorProfile, s.ProfileErased)),
        Topic(IMPRESSIONS, "impressions", "user_id", (s.Impression,)),
    )
}
_TOPIC_OF = {kind: topic for topic in TOPICS.values() for kind in topic.types}
_UNIONS: dict[str, Any] = {}
for _topic in TOPICS.values():
    _union: Any = _topic.types[0]
    for _kind in _topic.types[1:]:
        _union = _union | _kind
    _UNIONS[_topic.name] = _union
_DECODERS = {name: msgspec.json.Decoder(union) for name, union in _UNIONS.items()}
_ENCODER = msgspec.json.Encoder()


def topic(name: str) -> Topic:
    """The topic of that name; UnknownTopic names the ones there are."""
    if name not in TOPICS:
        raise UnknownTopic(f"unknown topic {name!r}; allowed are {', '.join(TOPICS)}")
    return TOPICS[name]


def topic_of(event: s.Event) -> Topic:
    """The topic an event belongs on."""
    return _TOPIC_OF[type(event)]


def key_of(event: s.Event) -> str:
    """The Kafka key: the id that keeps one entity's events in order on one partition."""
    return str(getattr(event, topic_of(event).key))


def kind_of(event: s.Event) -> str:
    """The event's `type` tag, e.g. `media_liked`."""
    return str(type(event).__struct_config__.tag)


def encode(event: s.Event) -> bytes:
    """An event as JSON bytes."""
    return _ENCODER.encode(event)


def decode(topic_name: str, value: bytes) -> s.Event:
    """JSON bytes of a topic as an event; MalformedEvent says what is wrong with them."""
    try:
        event: s.Event = _DECODERS[topic_name].decode(value)
    except KeyError:
        raise UnknownTopic(f"unknown topic {topic_name!r}; allowed are {', '.join(TOPICS)}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"{topic_name}: {error}") from None
    return event


def union_of(topic_name: str) -> Any:
    """The typing union of a topic's events, for schema export."""
    return _UNIONS[topic_name]
