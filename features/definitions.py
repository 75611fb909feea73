"""Every feature, said once: entity, unit, window, default, and what each event contributes to it.

The collector applies a definition event by event (features/state.py), Spark as columns (features/offline), the encoder and
the proxy ask for its value (features/snapshot.py). An ITEM is anything that can be recommended: a media item, or a live
room. Its `key` in id lists and embeddings is the item id for media and the host's id for a room, because rooms end and
hosts stay. An event says nothing of things it does not name: one without `creator_id` changes no creator.

What is kept how long (`KEEP_S`) is a guard against growth, in wall time and generous: an entity that nothing touched for so
long starts anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from events.schema import Surface
from features import allowlist
from features.aggregates import Aggregate, Last, Present, Ratio, Recent, Sessions, Sum
from features.words import Affinity, Counts, Top

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
LEASE_S = 90.0  # three heartbeats of 30 s: one may be lost, and one late
HEARTBEAT_S = 30.0


class Entity(StrEnum):
    """What a feature describes; the value names the Redis key and the offline table."""

    USER = "user"
    ITEM = "item"
    CREATOR = "creator"
    PAIR = "pair"  # user x creator, id "<user>|<creator>"


@dataclass(frozen=True)
class Take:
    """What one event type contributes. `key` and `value` name an event field, `item_key`, or `hour` (of the UTC day, 00-23).

    `weight_field` names an event field to use as the weight instead of the constant; with `when` only events whose field has
    that value contribute.
    """

    weight: float = 0
    den: float = 0
    key: str = ""
    value: str = ""
    const: Any = None
    weight_field: str = ""
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class Feature:
    """One feature: its name within its entity, aggregate, contributions by event type, and how it is read.

    `reads` names the feature of the same entity whose state it shares (equal contributions, a window at least as long);
    `by` names the id that says which entity an event is about, where that is not the usual one.
    """

    name: str
    entity: Entity
    aggregate: Aggregate
    on: Mapping[str, Take]
    unit: str
    description: str
    default: Any = None
    owner: str = "platform"
    spark: bool = field(default=True)  # also a column of the daily offline table of its entity
    reads: str = ""
    by: Literal["", "user", "creator"] = ""

    @property
    def state(self) -> str:
        """Name under which its state is kept."""
        return self.reads or self.name

    @property
    def window_s(self) -> float | None:
        """Length of the window in event-time seconds; None when it looks back for ever."""
        return getattr(self.aggregate, "window_s", None)


# How strongly each event speaks for the item (the spec's order; the sizes are ours).
STRENGTH: dict[str, float] = {
    "media_completed": 1.0,
    "media_replay": 0.8,
    "media_liked": 0.8,
    "media_shared": 0.8,
    "media_added_to_playlist": 0.7,
    "subscription_to_creator": 0.9,
    "media_started": 0.2,
    "media_paused_early": -0.3,
    "media_skipped": -0.6,
    "media_disliked": -0.8,
    "room_entered": 0.2,
    "watch_heartbeat": 0.1,
    "comment_posted": 0.6,
    "gift_sent": 1.0,
    "streamer_followed": 0.9,
    "room_shared": 0.8,
}
STARTS = ("media_started", "room_entered")
POSITIVE = (
    "media_completed", "media_replay", "media_liked", "media_shared", "media_added_to_playlist",
)  # fmt: skip
LIVE_POSITIVE = ("watch_heartbeat", "comment_posted", "gift_sent", "streamer_followed", "room_shared")
NEGATIVE = ("media_paused_early", "media_skipped", "media_disliked")
FOLLOWS = ("subscription_to_creator", "streamer_followed")
# Everything a viewer does is a sign that her session goes on.
ACTIVE = (*STRENGTH, "room_left", "feed_clicked")
LIKES = ("media_liked", "comment_posted", "gift_sent", "streamer_followed")


def _strength(key: str = "") -> dict[str, Take]:
    """Every engagement event with its strength; starts count in the denominator."""
    return {tag: Take(size, den=1 if tag in STARTS else 0, key=key) for tag, size in STRENGTH.items()}


def _each(tags: tuple[str, ...], take: Take) -> dict[str, Take]:
    return dict.fromkeys(tags, take)


def _rate(of: tuple[str, ...]) -> dict[str, Take]:
    """Contributions of a ratio: `of` over starts."""
    return _each(STARTS, Take(den=1)) | _each(of, Take(1))


def _held(name: str, *tags: str) -> dict[str, Take]:
    return _each(tags, Take(value=name))


def _started(surface: str = "") -> dict[str, Take]:
    """A start, anywhere or on one surface."""
    return _each(STARTS, Take(1, when=("surface", surface) if surface else None))


SATISFACTION = Ratio(prior=(3.0, 5.0))
_KEYED = _each((*POSITIVE, *LIVE_POSITIVE), Take(key="item_key"))
_PLAYED = _each(STARTS, Take(1, key="item_key"))
_ROOM_COUNTS = {
    "gifts": "gift_sent",
    "comments": "comment_posted",
    "follows": "streamer_followed",
    "shares": "room_shared",
}
_ROOM_MINUTES = (60, 15, 5, 1)  # the widest first: the others read its state

USER_FEATURES = (
    Feature("preferred_language", Entity.USER, Last(), _held("language", "viewer_profile"), "language tag",
            "Language the viewer set.", "unknown"),
    Feature("blocked_creators", Entity.USER, Last(), _held("blocked_creators", "viewer_profile"), "creator ids",
            "Creators the viewer never wants to see.", (), spark=False),
    Feature("recent_media_7d", Entity.USER, Recent(20, 7 * DAY), _each(STARTS, Take(key="item_key")), "item keys",
            "Last 20 things started in 7 days, newest first.", ()),
    Feature("recent_positive", Entity.USER, Recent(20), _KEYED, "item keys",
            "Last 20 things the viewer spoke for, newest first.", ()),
    Feature("recent_negative", Entity.USER, Recent(20), _each(NEGATIVE, Take(key="item_key")), "item keys",
            "Last 20 things the viewer turned down, newest first.", ()),
    Feature("seen", Entity.USER, Recent(200),
            {"media_started": Take(key="item_id"), "media_skipped": Take(key="item_id")}, "item ids",
            "Media already played: left out of the feed.", (), spark=False),
    Feature("follows", Entity.USER, Recent(200),
            {"streamer_followed": Take(key="streamer_id"), "subscription_to_creator": Take(key="creator_id")},
            "creator ids", "Creators followed or subscribed to, newest first.", ()),
    Feature("top_categories_7d", Entity.USER, Top(3, 7 * DAY, "category"), _PLAYED,
            "categories", "Three most started categories in 7 days.", ()),
    Feature("content_types_7d", Entity.USER, Top(3, 7 * DAY, "content_type"), _PLAYED,
            "content types", "Content types by starts in 7 days; preferred_content_type is read from it.", (),
            reads="top_categories_7d"),
    Feature("avg_session_duration", Entity.USER, Sessions(30 * MINUTE, 7 * DAY), _each(ACTIVE, Take()), "seconds",
            "Mean length of the sessions of 7 days; 30 minutes without an event end a session.", 0.0, spark=False),
    Feature("plays_7d", Entity.USER, Sum(7 * DAY, HOUR), _started(), "starts", "Starts in 7 days.", 0.0),
    Feature("plays", Entity.USER, Sum(), _started(), "starts", "Starts ever.", 0.0),
    Feature("satisfaction", Entity.USER, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start, shrunk: how pleased this viewer usually is.", 0.6),
    Feature("like_ratio", Entity.USER, Ratio(prior=(1.0, 4.0)), _rate(LIKES), "likes per start",
            "Likes and live interactions per start, shrunk.", 0.25),
    Feature("completion_rate", Entity.USER, Ratio(prior=(1.0, 4.0)), _rate(("media_completed",)),
            "completions per start", "Media completed per start, shrunk.", 0.25),
    Feature("tag_affinity", Entity.USER, Affinity(256, "tags", prior=(0.6, 1.0)), _strength("item_key"),
            "strength per start by tag", "How pleased this viewer is by tag, over a fair sample of 256 things met.", {},
            spark=False),
    Feature("subscriber_count", Entity.USER, Sum(), _each(FOLLOWS, Take(1)), "viewers",
            "Subscriptions and follows that this person received as a creator.", 0.0, by="creator", spark=False),
)  # fmt: skip

ITEM_FEATURES = (
    Feature("content_type", Entity.ITEM, Last(), _held("content_type", "media_published")
            | {"room_opened": Take(const="LIVE")}, "VIDEO, AUDIO or LIVE", "What kind of thing it is.", "VIDEO"),
    Feature("category", Entity.ITEM, Last(), _held("category", "media_published", "room_opened"), "category",
            "Main category.", "unknown"),
    Feature("tags", Entity.ITEM, Last(), _held("tags", "media_published", "room_opened"), "tags",
            "All tags, the category's among them.", ()),
    Feature("language", Entity.ITEM, Last(), _held("language", "media_published", "room_opened"), "language tag",
            "Language spoken.", "unknown"),
    Feature("title", Entity.ITEM, Last(), _held("title", "media_published", "room_opened"), "text", "Title.", "",
            spark=False),
    Feature("creator_id", Entity.ITEM, Last(), _held("creator_id", "media_published")
            | _held("streamer_id", "room_opened"), "creator id", "Who made it, or the room's host.", "unknown"),
    Feature("duration_s", Entity.ITEM, Last(), _held("duration_s", "media_published"), "seconds",
            "Length; none for rooms and where unknown.", None),
    Feature("published_at", Entity.ITEM, Last(), _held("event_at", "media_published", "room_opened"), "epoch seconds",
            "When it was published or went live; publish_age_hours and minutes_live are read from it.", None),
    Feature("shown", Entity.ITEM, Last(),
            _each(("media_published", "room_opened"), Take(const=1.0))
            | _each(("media_removed", "media_hidden", "room_closed"), Take(const=0.0)), "1 or 0",
            "0 once removed, hidden or closed; is_live is this and a lease that holds.", 0.0),
    Feature("heartbeat_at", Entity.ITEM, Last(), _held("event_at", "room_opened", "room_heartbeat", "room_status_changed"),
            "epoch seconds", "Last sign of life of a room; its lease runs 90 s from here.", None, spark=False),
    Feature("status", Entity.ITEM, Last(), _held("status", "room_opened", "room_status_changed"), "status",
            "What the host does now.", "none", spark=False),
    Feature("views_1h", Entity.ITEM, Sum(HOUR, MINUTE), _started(), "starts", "Starts in an hour.", 0.0),
    *(Feature(f"views_1h_{surface}", Entity.ITEM, Sum(HOUR, MINUTE), _started(surface), "starts",
              f"Starts in an hour that came from the surface {surface}.", 0.0, spark=False) for surface in Surface),
    Feature("play_count_24h", Entity.ITEM, Sum(DAY, HOUR), _started(), "starts", "Starts in a day.", 0.0),
    Feature("plays", Entity.ITEM, Sum(), _started(), "starts", "Starts ever.", 0.0),
    Feature("satisfaction", Entity.ITEM, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start, shrunk.", 0.6),
    Feature("like_ratio", Entity.ITEM, Ratio(prior=(1.0, 4.0)), _rate(LIKES), "likes per start",
            "Likes and live interactions per start, shrunk.", 0.25),
    Feature("completion_rate", Entity.ITEM, Ratio(prior=(1.0, 4.0)), _rate(("media_completed",)),
            "completions per start", "Completions per start, shrunk.", 0.25),
    Feature("avg_watch_s", Entity.ITEM, Ratio(prior=(30.0, 1.0)),
            {"room_entered": Take(den=1), "watch_heartbeat": Take(HEARTBEAT_S)}, "seconds per entry",
            "Watched seconds per entry of a room, from heartbeats.", 30.0),
    Feature("current_viewers", Entity.ITEM, Present(LEASE_S),
            _each(("room_entered", "watch_heartbeat"), Take(1, key="user_id")) | {"room_left": Take(0, key="user_id")},
            "viewers", "Viewers in the room now, each by a 90 s lease.", 0.0, spark=False),
    Feature("interactions_15m", Entity.ITEM, Sum(15 * MINUTE, MINUTE), _each(tuple(_ROOM_COUNTS.values()), Take(1)),
            "events", "Comments, follows, shares and gifts in 15 minutes.", 0.0),
    *(Feature(f"{name}_{minutes}m", Entity.ITEM, Sum(minutes * MINUTE, MINUTE), {tag: Take(1)}, "events",
              f"{name.capitalize()} in a room in {minutes} min.", 0.0, spark=False,
              reads="" if minutes == _ROOM_MINUTES[0] else f"{name}_{_ROOM_MINUTES[0]}m")
      for name, tag in _ROOM_COUNTS.items() for minutes in _ROOM_MINUTES),
    Feature("gift_amount_60m", Entity.ITEM, Sum(HOUR, MINUTE), {"gift_sent": Take(weight_field="amount")}, "coins",
            "What the gifts of 60 min were worth.", 0.0, spark=False),
)  # fmt: skip

CREATOR_FEATURES = (
    Feature("subscribers", Entity.CREATOR, Sum(), _each(FOLLOWS, Take(1)), "viewers",
            "Subscriptions and follows ever: creator_subscriber_count.", 0.0),
    Feature("plays", Entity.CREATOR, Sum(), _started(), "starts", "Starts of the creator's items.", 0.0),
    Feature("satisfaction", Entity.CREATOR, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start of the creator's items, shrunk.", 0.6),
    Feature("starts_by_hour", Entity.CREATOR, Counts(24), {"room_entered": Take(1, key="hour")}, "starts by hour",
            "Entries into the host's rooms by hour of the day (UTC, 00 to 23): a host has several peaks.", {},
            spark=False),
    Feature("language", Entity.CREATOR, Last(), _held("language", "creator_profile"), "language tag",
            "Language of the creator's profile.", "unknown", by="user", spark=False),
    Feature("region", Entity.CREATOR, Last(), _held("region", "creator_profile"), "region", "Region of the profile.",
            "unknown", by="user", spark=False),
    Feature("joined_at", Entity.CREATOR, Last(), _held("joined_at", "creator_profile"), "epoch seconds",
            "When the creator joined; none where unknown.", None, by="user", spark=False),
    # What a host's rooms are like, by the last one: an item key that is a host's id has these as its words.
    Feature("content_type", Entity.CREATOR, Last(), {"room_opened": Take(const="LIVE")}, "LIVE or none",
            "LIVE once the host opened a room.", None, spark=False),
    Feature("category", Entity.CREATOR, Last(), _held("category", "room_opened"), "category",
            "Category of the host's last room.", None, spark=False),
    Feature("tags", Entity.CREATOR, Last(), _held("tags", "room_opened"), "tags", "Tags of the host's last room.", (),
            spark=False),
)  # fmt: skip

PAIR_FEATURES = (
    Feature("watches", Entity.PAIR, Sum(), _started(), "starts",
            "How often this viewer started something of this creator.", 0.0),
    Feature("last_watch_at", Entity.PAIR, Last(), _held("event_at", *STARTS), "epoch seconds",
            "When this viewer last did.", None),
)  # fmt: skip

FEATURES: tuple[Feature, ...] = USER_FEATURES + ITEM_FEATURES + CREATOR_FEATURES + PAIR_FEATURES
BY_ENTITY: dict[Entity, tuple[Feature, ...]] = {
    entity: tuple(feature for feature in FEATURES if feature.entity is entity) for entity in Entity
}
# What an item key is about, for features that keep item keys and are read as words.
WORDS = ("category", "content_type", "tags")
# Wall seconds after its last change that a record is kept; None: whatever was said before holds, at first for ever.
KEEP_S: dict[Entity, float | None] = {
    Entity.USER: 90 * DAY, Entity.ITEM: None, Entity.CREATOR: None, Entity.PAIR: 90 * DAY,
}  # fmt: skip
KEEP_ROOM_S = 2 * DAY  # rooms are items that end
KEEP_REMOVED_S, KEEP_PUBLISHED_S = 14 * DAY, 3650 * DAY  # said of media when they are taken back or published again
# What each attribute of a person may be used for is in features/allowlist.py; the encoder refuses these as model inputs.
AUDIT_ONLY = allowlist.AUDIT_ONLY
