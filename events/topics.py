"""The topics, which events each carries, its key, and the wire form: bytes to event and back."""

import typing
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
# Types of the rows beside each other in the impressions' table: who counts impressions asks for the first.
IMPRESSION, EMPTY_FEED = "impression", "empty_feed"


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
        Topic(IMPRESSIONS, "impressions", "user_id", (s.Impression, s.EmptyFeed)),
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
# An event time outside these years is a broken clock; one such event would make every later one of its partition late.
FIRST_AT, LAST_AT = 0.0, 4_102_444_800.0  # 1970-01-01, 2100-01-01
_MAX_INT = 2**63 - 1  # the widest integer a column holds


def _whole_numbers(kind: type[s.Event]) -> tuple[str, ...]:
    """The fields of an event type that may hold integers."""
    hints = typing.get_type_hints(kind)
    return tuple(n for n, hint in hints.items() if n != "schema_v" and (hint is int or int in typing.get_args(hint)))


_WHOLE = {kind: _whole_numbers(kind) for kind in _TOPIC_OF}


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
    """JSON bytes of a topic as an event; MalformedEvent says what is wrong with them, also for values no table can hold."""
    try:
        event: s.Event = _DECODERS[topic_name].decode(value)
    except KeyError:
        raise UnknownTopic(f"unknown topic {topic_name!r}; allowed are {', '.join(TOPICS)}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"{topic_name}: {error}") from None
    _refuse_what_no_table_holds(topic_name, event)
    return event


def _refuse_what_no_table_holds(topic_name: str, event: s.Event) -> None:
    if not FIRST_AT <= event.event_at.timestamp() < LAST_AT:
        raise MalformedEvent(f"{topic_name}: event_at {event.event_at.isoformat()} is outside the years 1970 to 2099")
    for name in _WHOLE[type(event)]:
        if abs(getattr(event, name) or 0) > _MAX_INT:
            raise MalformedEvent(f"{topic_name}: {name} is outside 64 bits")


def union_of(topic_name: str) -> Any:
    """The typing union of a topic's events, for schema export."""
    return _UNIONS[topic_name]
