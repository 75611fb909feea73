"""What each field of an event means, once for all types that carry it, and a value to show: the words of the contracts."""

from typing import Any, NamedTuple

from events.schema import Event


class Words(NamedTuple):
    """A field's meaning in one sentence (units, ids) and an example as JSON values."""

    meaning: str
    example: Any


# `Type.field` goes before `field`: the same name may mean more on one type.
FIELDS: dict[str, Words] = {
    "event_id": Words(
        "Unique id that the producer gives once and keeps when it sends again: a repeated id counts once.", "ev-7f3a"
    ),
    "event_at": Words(
        "When it happened: RFC 3339 with its offset from UTC, of the years 1970 to 2099.", "2026-11-01T20:05:00Z"
    ),
    "schema_v": Words("Version of the schema; left out it is 1.", 1),
    "user_id": Words("The viewer.", "u17"),
    "item_id": Words("The published item.", "m42"),
    "creator_id": Words("Who made the item.", "c5"),
    "room_id": Words("The live room; a host's next stream is another room.", "room-9"),
    "streamer_id": Words("The host, who outlives the room.", "h5"),
    "request_id": Words(
        "The feed request that led here; null when none did. Samples are joined by it.", "5f2b9c0e7d1a"
    ),
    "surface": Words("Where on the platform it was.", "playback"),
    "played_s": Words("Seconds of the item that were played; null when unknown.", 41.5),
    "watched_s": Words("Seconds from entering to leaving.", 312.0),
    "amount": Words("Worth of the gift in the platform's coins.", 25.0),
    "position": Words("Place in the feed, from 0.", 3),
    "content_type": Words("What kind of thing it is.", "VIDEO"),
    "category": Words("The platform's category.", "music"),
    "title": Words("Title as shown.", "Late night jazz"),
    "tags": Words("Free words, in the host's or creator's order.", ["jazz", "piano"]),
    "language": Words("Language, as one word of the platform's own list.", "en"),
    "duration_s": Words("Length in seconds; null when unknown.", 183.0),
    "status": Words("What the host does now: chat, song, dance, game or PK.", "song"),
    "region": Words("Region, as one word of the platform's own list; null when unknown.", "eu"),
    "age_band": Words("Age band; for the audit alone, it reaches no model. Null when unknown.", "25-34"),
    "gender": Words("Gender; for the audit alone, it reaches no model. Null when unknown.", "female"),
    "blocked_creators": Words("Creators and hosts never to be shown to this viewer.", ["c13"]),
    "joined_at": Words(
        "When the creator joined: RFC 3339 with its offset from UTC; null when unknown.", "2024-03-05T09:00:00Z"
    ),
    "release": Words("The release that answered; `none` before the first.", "demo-3"),
    "model_version": Words("The release's model version; null when no model answered.", 3),
    "arm": Words("Experiment arm of the request.", "canary"),
    "source": Words("The recall source that named the item first.", "two_tower"),
    "propensity": Words(
        "Probability, under the logging policy, of this item at this position; null when unknown.", 0.8
    ),
    "explored": Words(
        "Of a place where something might have been drawn: the odds, from how many, and what a release in shadow chose.",
        {
            "epsilon": 0.2,
            "pool": 100,
            "rank": 41,
            "shadow": {
                "release": "demo-4",
                "chose_shown": False,
                "expected_target": {"click": 0.21},
                "expected_incumbent": {"click": 0.19},
            },
        },
    ),
    "scores": Words("Probability by objective, as the ranker gave them; null without a model.", {"click": 0.62}),
    "features": Words(
        "Values that the ranker saw, by feature name: the training input; null where no feed was served.",
        {"user.plays": 12.0, "user.preferred_language": "en"},
    ),
    "MediaEvent.creator_id": Words("Who made the item, as the player was told; null when it was not.", "c5"),
    "SubscriptionToCreator.creator_id": Words("The creator subscribed to.", "c5"),
    "SubscriptionToCreator.item_id": Words("The item that was on when she subscribed; null when none was.", "m42"),
    "FeedClicked.item_id": Words("The media item's id, or the live room's.", "m42"),
    "FeedClicked.request_id": Words("The feed request whose item was clicked.", "5f2b9c0e7d1a"),
    "CreatorProfile.user_id": Words("The creator or host.", "c5"),
    "ProfileErased.user_id": Words("Who asked to be forgotten.", "u17"),
    "Impression.event_id": Words("`<request_id>:<position>`.", "5f2b9c0e7d1a:3"),
    "Impression.request_id": Words("The feed request that showed it.", "5f2b9c0e7d1a"),
    "Impression.item_id": Words("The media item's id, or the live room's.", "m42"),
    "Impression.creator_id": Words("Who made the item, or the room's host.", "c5"),
    "Impression.surface": Words("Where the feed was shown.", "home"),
    "EmptyFeed.event_id": Words("`<request_id>:empty`.", "5f2b9c0e7d1a:empty"),
    "EmptyFeed.request_id": Words("The feed request that was answered with nothing.", "5f2b9c0e7d1a"),
    "EmptyFeed.surface": Words("Where the feed was shown.", "home"),
}


def about(kind: type[Event], field: str) -> Words:
    """The words of a type's field; those of the nearest class that has its own go first."""
    for holder in kind.__mro__:
        found = FIELDS.get(f"{holder.__name__}.{field}")
        if found:
            return found
    return FIELDS[field]
