"""Every event the platform knows, as versioned msgspec structs: JSON on the wire, tagged by `type`.

A field that a type does not declare is refused (the event becomes a dead letter that can be replayed after an upgrade), so
nothing a producer meant is dropped in silence.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Utc = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[float, Meta(ge=0.0)]
FeatureValue = float | str | None | list[str] | dict[str, float]


class ContentType(StrEnum):
    """What kind of thing can be recommended."""

    VIDEO = "VIDEO"
    AUDIO = "AUDIO"
    LIVE = "LIVE"


class Surface(StrEnum):
    """Where on the platform something is shown or played."""

    HOME = "home"
    PLAYBACK = "playback"
    COMMENT = "comment"


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every event has: a unique id, its event time (UTC, aware) and the version of its schema."""

    event_id: Id
    event_at: Utc
    schema_v: Literal[1] = 1


# --- user.engagement.events: what viewers do ---------------------------------------------------------------------------


class MediaEvent(Event, frozen=True, kw_only=True):
    """A viewer and a published item; `request_id` is the feed request that led here, when one did.

    `creator_id` is who made the item, as the player was told; an event without it says nothing of any creator.
    """

    user_id: Id
    item_id: Id
    creator_id: Id | None = None
    request_id: Id | None = None
    surface: Surface = Surface.HOME


class MediaStarted(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_started"):
    """Playback began; weak positive."""


class MediaCompleted(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_completed"):
    """Over 90 % consumed; strongest positive."""

    played_s: Seconds | None = None


class MediaReplay(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_replay"):
    """Played again; strong positive."""


class MediaLiked(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_liked"):
    """Liked; strong positive."""


class MediaShared(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_shared"):
    """Shared; strong positive."""


class MediaAddedToPlaylist(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_added_to_playlist"):
    """Kept for later; strong positive."""


class MediaPausedEarly(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_paused_early"):
    """Under 30 % consumed; mild negative."""

    played_s: Seconds | None = None


class MediaDisliked(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_disliked"):
    """Disliked; moderate negative."""


class MediaSkipped(MediaEvent, frozen=True, kw_only=True, tag_field="type", tag="media_skipped"):
    """Skipped; moderate negative."""


class SubscriptionToCreator(Event, frozen=True, kw_only=True, tag_field="type", tag="subscription_to_creator"):
    """The viewer subscribed to a creator; strong affinity."""

    user_id: Id
    creator_id: Id
    item_id: Id | None = None
    request_id: Id | None = None


class LiveEvent(Event, frozen=True, kw_only=True):
    """A viewer and a live room; `streamer_id` is the host, who outlives the room."""

    user_id: Id
    room_id: Id
    streamer_id: Id
    request_id: Id | None = None
    surface: Surface = Surface.HOME


class RoomEntered(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="room_entered"):
    """The viewer came into the room."""


class WatchHeartbeat(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="watch_heartbeat"):
    """Sent every 30 s of watching; the first one marks an effective watch."""


class RoomLeft(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="room_left"):
    """The viewer left, with the seconds watched; may be lost."""

    watched_s: Seconds


class CommentPosted(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="comment_posted"):
    """A comment in the room."""


class GiftSent(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="gift_sent"):
    """A gift to the host; `amount` in the platform's coins."""

    amount: Annotated[float, Meta(gt=0.0)]


class StreamerFollowed(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="streamer_followed"):
    """The viewer follows the host from now on."""


class RoomShared(LiveEvent, frozen=True, kw_only=True, tag_field="type", tag="room_shared"):
    """The room was shared."""


class FeedClicked(Event, frozen=True, kw_only=True, tag_field="type", tag="feed_clicked"):
    """An item of a feed was clicked; `item_id` is the media item's id or the room's."""

    user_id: Id
    item_id: Id
    request_id: Id
    position: Annotated[int, Meta(ge=0)]
    surface: Surface = Surface.HOME


# --- media.published ----------------------------------------------------------------------------------------------------


class MediaPublished(Event, frozen=True, kw_only=True, tag_field="type", tag="media_published"):
    """A new or changed item; the last one by event time holds. `duration_s` is None when unknown."""

    item_id: Id
    creator_id: Id
    content_type: Literal["VIDEO", "AUDIO"]
    category: Word
    title: Annotated[str, Meta(max_length=512)] = ""
    tags: tuple[Word, ...] = ()
    language: Word = "unknown"
    duration_s: Seconds | None = None


class MediaRemoved(Event, frozen=True, kw_only=True, tag_field="type", tag="media_removed"):
    """The item is gone for good."""

    item_id: Id


class MediaHidden(Event, frozen=True, kw_only=True, tag_field="type", tag="media_hidden"):
    """The item must not be recommended; a later media_published shows it again."""

    item_id: Id


# --- stream.lifecycle ---------------------------------------------------------------------------------------------------


class RoomEvent(Event, frozen=True, kw_only=True):
    """A host's room."""

    streamer_id: Id
    room_id: Id


class RoomOpened(RoomEvent, frozen=True, kw_only=True, tag_field="type", tag="room_opened"):
    """The host went live."""

    category: Word
    title: Annotated[str, Meta(max_length=512)] = ""
    tags: tuple[Word, ...] = ()
    language: Word = "unknown"
    status: Word = "chat"


class RoomClosed(RoomEvent, frozen=True, kw_only=True, tag_field="type", tag="room_closed"):
    """The host went off; may be lost, then the lease ends the room."""


class RoomStatusChanged(RoomEvent, frozen=True, kw_only=True, tag_field="type", tag="room_status_changed"):
    """What the host does now: chat, song, dance, game or PK."""

    status: Word


class RoomHeartbeat(RoomEvent, frozen=True, kw_only=True, tag_field="type", tag="room_heartbeat"):
    """The room is still live; sent every 30 s, it renews the room's lease."""


# --- profiles -----------------------------------------------------------------------------------------------------------


class ViewerProfile(Event, frozen=True, kw_only=True, tag_field="type", tag="viewer_profile"):
    """What is known of a viewer. `age_band` and `gender` serve the audit alone and reach no model."""

    user_id: Id
    language: Word | None = None
    region: Word | None = None
    age_band: Word | None = None
    gender: Word | None = None
    blocked_creators: tuple[Id, ...] = ()


class CreatorProfile(Event, frozen=True, kw_only=True, tag_field="type", tag="creator_profile"):
    """What is known of a creator or host; `user_id` is the creator's id."""

    user_id: Id
    language: Word | None = None
    region: Word | None = None
    joined_at: Utc | None = None


class ProfileErased(Event, frozen=True, kw_only=True, tag_field="type", tag="profile_erased"):
    """The person asked to be forgotten."""

    user_id: Id


# --- feed.impressions ---------------------------------------------------------------------------------------------------


class Shadowed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a release that answers nobody would have shown at an explored place.

    `chose_shown`: its choice among the row by merit and the pool is what was shown. Expectations are the answering release's
    own scores by objective, over what might have stood there as this release, and as the answering one, would show it.
    """

    release: str
    chose_shown: bool
    expected_target: dict[str, float]
    expected_incumbent: dict[str, float]


class Explored(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The dice of an explored place: with probability `epsilon` one of `pool` rows was drawn, each with the same odds.

    `rank` is the place of what was shown in that pool, best first from 0; None when the row by merit was shown. `shadow` is
    None where no release in shadow was asked, or none answered.
    """

    epsilon: Annotated[float, Meta(gt=0.0, le=1.0)]
    pool: Annotated[int, Meta(ge=1)]
    rank: Annotated[int, Meta(ge=0)] | None = None
    shadow: Shadowed | None = None


class Impression(Event, frozen=True, kw_only=True, tag_field="type", tag="impression"):
    """One item that a feed showed; `event_id` is `<request_id>:<position>`.

    `features` are the values the ranker saw, by feature name: the training input. It is None where a data set without a
    feed was replayed (see events/datasets); the sample build then computes them as of `event_at`. `propensity` is the
    probability, under the logging policy, of this item at this position; None where it is unknown. `explored` is None where
    nothing might have been drawn, and where the odds are unknown.
    """

    request_id: Id
    user_id: Id
    item_id: Id
    content_type: ContentType
    creator_id: Id
    position: Annotated[int, Meta(ge=0)]
    surface: Surface = Surface.HOME
    release: str = "none"
    model_version: int | None = None
    arm: str = "stable"
    source: str = "unknown"
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    explored: Explored | None = None
    scores: dict[str, float] | None = None
    features: dict[str, FeatureValue] | None = None


class EmptyFeed(Event, frozen=True, kw_only=True, tag_field="type", tag="empty_feed"):
    """A feed that had nothing to show on its first page; `event_id` is `<request_id>:empty`.

    It lies beside the impressions, so it has their key, their order and their erasure; who reads those asks for their type.
    """

    request_id: Id
    user_id: Id
    surface: Surface = Surface.HOME
    release: str = "none"
    arm: str = "stable"


MEDIA_ENGAGEMENT = (
    MediaStarted, MediaCompleted, MediaReplay, MediaLiked, MediaShared, MediaAddedToPlaylist, MediaPausedEarly,
    MediaDisliked, MediaSkipped,
)  # fmt: skip
LIVE_ENGAGEMENT = (RoomEntered, WatchHeartbeat, RoomLeft, CommentPosted, GiftSent, StreamerFollowed, RoomShared)
