"""Every feature, said once: entity, unit, window, default, and what each event contributes to it.

The collector applies a definition event by event (features/state.py), Spark as columns (features/offline), the encoder and
the proxy ask for its value (features/snapshot.py). An ITEM is anything that can be recommended: a media item, or a live
room. Its `key` in id lists and embeddings is the item id for media and the host's id for a room, because rooms end and
hosts stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from features.aggregates import Affinity, Aggregate, Last, Present, Ratio, Recent, Sum, Top

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
    """What one event type contributes. `key` and `value` name an event field, or an item attribute as `item.<name>`.

    `weight_field` names an event field to use as the weight instead of the constant.
    """

    weight: float = 0.0
    den: float = 0.0
    key: str = ""
    value: str = ""
    const: Any = None
    weight_field: str = ""


@dataclass(frozen=True)
class Feature:
    """One feature: its name within its entity, aggregate, contributions by event type, and how it is read."""

    name: str
    entity: Entity
    aggregate: Aggregate
    on: Mapping[str, Take]
    unit: str
    description: str
    default: Any = None
    owner: str = "platform"
    spark: bool = field(default=True)  # computed as a column of the offline feature table

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
LIKES = ("media_liked", "comment_posted", "gift_sent", "streamer_followed")


def _strength(key: str = "") -> dict[str, Take]:
    """Every engagement event with its strength; starts count in the denominator."""
    return {tag: Take(size, den=1.0 if tag in STARTS else 0.0, key=key) for tag, size in STRENGTH.items()}


def _each(tags: tuple[str, ...], take: Take) -> dict[str, Take]:
    return dict.fromkeys(tags, take)


def _rate(of: tuple[str, ...]) -> dict[str, Take]:
    """Contributions of a ratio: `of` over starts."""
    return _each(STARTS, Take(den=1.0)) | _each(of, Take(1.0))


def _held(name: str, *tags: str) -> dict[str, Take]:
    return _each(tags, Take(value=name))


SATISFACTION = Ratio(prior=(3.0, 5.0))
_KEYED = _each(POSITIVE, Take(key="item_id")) | _each(LIVE_POSITIVE, Take(key="streamer_id"))

USER_FEATURES = (
    Feature("preferred_language", Entity.USER, Last(), _held("language", "viewer_profile"), "language tag",
            "Language the viewer set.", "unknown"),
    Feature("blocked_creators", Entity.USER, Last(), _held("blocked_creators", "viewer_profile"), "creator ids",
            "Creators the viewer never wants to see.", (), spark=False),
    Feature("recent_media_7d", Entity.USER, Recent(20, 7 * DAY),
            {"media_started": Take(key="item_id"), "room_entered": Take(key="streamer_id")}, "item keys",
            "Last 20 things started in 7 days, newest first.", ()),
    Feature("recent_positive", Entity.USER, Recent(20), _KEYED, "item keys",
            "Last 20 things the viewer spoke for, newest first.", ()),
    Feature("recent_negative", Entity.USER, Recent(20), _each(NEGATIVE, Take(key="item_id")), "item keys",
            "Last 20 things the viewer turned down, newest first.", ()),
    Feature("seen", Entity.USER, Recent(200),
            {"media_started": Take(key="item_id"), "media_skipped": Take(key="item_id")}, "item ids",
            "Media already played: left out of the feed.", (), spark=False),
    Feature("follows", Entity.USER, Recent(200),
            {"streamer_followed": Take(key="streamer_id"), "subscription_to_creator": Take(key="creator_id")},
            "creator ids", "Creators followed or subscribed to, newest first.", ()),
    Feature("top_categories_7d", Entity.USER, Top(3, 7 * DAY), _each(STARTS, Take(1.0, key="item.category")),
            "categories", "Three most started categories in 7 days.", ()),
    Feature("content_types_7d", Entity.USER, Top(3, 7 * DAY), _each(STARTS, Take(1.0, key="item.content_type")),
            "content types", "Content types by starts in 7 days; preferred_content_type is read from it.", ()),
    Feature("plays_7d", Entity.USER, Sum(7 * DAY, HOUR), _each(STARTS, Take(1.0)), "starts",
            "Starts in 7 days.", 0.0),
    Feature("plays", Entity.USER, Sum(), _each(STARTS, Take(1.0)), "starts", "Starts ever.", 0.0),
    Feature("satisfaction", Entity.USER, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start, shrunk: how pleased this viewer usually is.", 0.6),
    Feature("like_ratio", Entity.USER, Ratio(prior=(1.0, 4.0)), _rate(LIKES), "likes per start",
            "Likes and live interactions per start, shrunk.", 0.25),
    Feature("completion_rate", Entity.USER, Ratio(prior=(1.0, 4.0)), _rate(("media_completed",)),
            "completions per start", "Media completed per start, shrunk.", 0.25),
    Feature("tag_affinity", Entity.USER, Affinity(48, prior=(0.6, 1.0)), _strength("item.tags"),
            "strength per start by tag", "How pleased this viewer is by tag.", {}, spark=False),
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
            "When it was published or went live; publish_age_hours is read from it.", None),
    Feature("shown", Entity.ITEM, Last(),
            _each(("media_published", "room_opened"), Take(const=1.0))
            | _each(("media_removed", "media_hidden", "room_closed"), Take(const=0.0)), "1 or 0",
            "0 once removed, hidden or closed.", 0.0),
    Feature("heartbeat_at", Entity.ITEM, Last(), _held("event_at", "room_opened", "room_heartbeat", "room_status_changed"),
            "epoch seconds", "Last sign of life of a room; its lease runs 90 s from here.", None, spark=False),
    Feature("status", Entity.ITEM, Last(), _held("status", "room_opened", "room_status_changed"), "status",
            "What the host does now.", "none", spark=False),
    Feature("views_1h", Entity.ITEM, Sum(HOUR, MINUTE), _each(STARTS, Take(1.0)), "starts", "Starts in an hour.", 0.0),
    Feature("play_count_24h", Entity.ITEM, Sum(DAY, HOUR), _each(STARTS, Take(1.0)), "starts", "Starts in a day.", 0.0),
    Feature("plays", Entity.ITEM, Sum(), _each(STARTS, Take(1.0)), "starts", "Starts ever.", 0.0),
    Feature("satisfaction", Entity.ITEM, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start, shrunk.", 0.6),
    Feature("like_ratio", Entity.ITEM, Ratio(prior=(1.0, 4.0)), _rate(LIKES), "likes per start",
            "Likes and live interactions per start, shrunk.", 0.25),
    Feature("completion_rate", Entity.ITEM, Ratio(prior=(1.0, 4.0)), _rate(("media_completed",)),
            "completions per start", "Completions per start, shrunk.", 0.25),
    Feature("avg_watch_s", Entity.ITEM, Ratio(prior=(30.0, 1.0)),
            {"room_entered": Take(den=1.0), "watch_heartbeat": Take(HEARTBEAT_S)}, "seconds per entry",
            "Watched seconds per entry of a room, from heartbeats.", 30.0),
    Feature("current_viewers", Entity.ITEM, Present(LEASE_S),
            _each(("room_entered", "watch_heartbeat"), Take(1.0, key="user_id")) | {"room_left": Take(0.0, key="user_id")},
            "viewers", "Viewers in the room now, each by a 90 s lease.", 0.0, spark=False),
    Feature("interactions_15m", Entity.ITEM, Sum(15 * MINUTE, MINUTE),
            _each(("comment_posted", "streamer_followed", "room_shared", "gift_sent"), Take(1.0)), "events",
            "Comments, follows, shares and gifts in 15 minutes.", 0.0),
)  # fmt: skip

CREATOR_FEATURES = (
    Feature("subscribers", Entity.CREATOR, Sum(), _each(("subscription_to_creator", "streamer_followed"), Take(1.0)),
            "viewers", "Subscriptions and follows ever.", 0.0),
    Feature("plays", Entity.CREATOR, Sum(), _each(STARTS, Take(1.0)), "starts", "Starts of the creator's items.", 0.0),
    Feature("satisfaction", Entity.CREATOR, SATISFACTION, _strength(), "strength per start",
            "Signal strength per start of the creator's items, shrunk.", 0.6),
)  # fmt: skip

PAIR_FEATURES = (
    Feature("watches", Entity.PAIR, Sum(), _each(STARTS, Take(1.0)), "starts",
            "How often this viewer started something of this creator.", 0.0),
    Feature("last_watch_at", Entity.PAIR, Last(), _held("event_at", *STARTS), "epoch seconds",
            "When this viewer last did.", None),
)  # fmt: skip

FEATURES: tuple[Feature, ...] = USER_FEATURES + ITEM_FEATURES + CREATOR_FEATURES + PAIR_FEATURES
BY_ENTITY: dict[Entity, tuple[Feature, ...]] = {
    entity: tuple(feature for feature in FEATURES if feature.entity is entity) for entity in Entity
}
# What each attribute of a person may be used for; the encoder refuses anything that is not here as a model input.
AUDIT_ONLY = frozenset({"age_band", "gender"})
