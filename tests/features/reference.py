"""The features a third time: plain Python over the messages of the log, written from docs/features.md alone.

It uses nothing of the product but the shape of a log record. Everything is worked out anew for each entity and time from the
list of its events: slow, and without a state that could be wrong.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from events.log import Record

MINUTE, HOUR, DAY = 60, 3_600, 86_400
SURFACES = ("home", "playback", "comment")
STRENGTH = {
    "media_completed": 1.0, "media_replay": 0.8, "media_liked": 0.8, "media_shared": 0.8, "media_added_to_playlist": 0.7,
    "subscription_to_creator": 0.9, "media_started": 0.2, "media_paused_early": -0.3, "media_skipped": -0.6,
    "media_disliked": -0.8, "room_entered": 0.2, "watch_heartbeat": 0.1, "comment_posted": 0.6, "gift_sent": 1.0,
    "streamer_followed": 0.9, "room_shared": 0.8,
}  # fmt: skip
START = ("media_started", "room_entered")
FOR = (
    "media_completed", "media_replay", "media_liked", "media_shared", "media_added_to_playlist", "watch_heartbeat",
    "comment_posted", "gift_sent", "streamer_followed", "room_shared",
)  # fmt: skip
AGAINST = ("media_paused_early", "media_skipped", "media_disliked")
LIKE = ("media_liked", "comment_posted", "gift_sent", "streamer_followed")
FOLLOW = ("subscription_to_creator", "streamer_followed")
PROFILES = ("viewer_profile", "creator_profile", "profile_erased")
DESCRIBED = ("media_published", "room_opened")
Message = dict[str, Any]
Features = dict[str, Any]


def read(records: Iterable[Record], *, timed: Iterable[str], lateness_s: float) -> list[Message]:
    """The events of a log that count: the first of each id in its partition, and of timed topics those in time."""
    out: list[Message] = []
    seen: set[tuple[str, int, str]] = set()
    mark: dict[tuple[str, int], float] = {}
    for record in records:
        message = json.loads(record.value)
        lane, name = (record.topic, record.partition), message["event_id"]
        message["at"] = datetime.fromisoformat(message["event_at"]).timestamp()
        if (*lane, name) in seen:
            continue
        seen.add((*lane, name))
        newest = mark.get(lane, float("-inf"))
        mark[lane] = max(newest, message["at"])
        if not (record.topic in set(timed) and message["at"] < newest - lateness_s):
            out.append(message)
    return out


class Reference:
    """Features by entity and time, over a list of messages."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._by: dict[tuple[str, str], list[Message]] = defaultdict(list)
        for message in messages:
            viewer = None if message["type"] in PROFILES else message.get("user_id")
            creator = message.get("creator_id") or message.get("streamer_id")
            item = message.get("item_id") or message.get("room_id")
            profile = message.get("user_id") if message["type"] in PROFILES else None
            for kind, one in (("viewer", viewer), ("creator", creator), ("item", item), ("profile", profile)):
                if one:
                    self._by[kind, one].append(message)

    def value(self, entity: str, one: str, now: float) -> Features:
        """Every feature of an entity as of `now`."""
        of: dict[str, Callable[[str, float], Features]] = {
            "user": self._user, "item": self._item, "creator": self._creator, "pair": self._pair,
        }  # fmt: skip
        return of[entity](one, now)

    def _of(self, kind: str, one: str, now: float) -> list[Message]:
        return [message for message in self._by.get((kind, one), []) if message["at"] <= now]

    def _user(self, user: str, now: float) -> Features:
        acts, profile = self._of("viewer", user, now), self._of("profile", user, now)
        starts = typed(acts, START)
        media = typed(acts, ("media_started", "media_skipped"))
        follows = [(m["at"], m.get("streamer_id") or m["creator_id"]) for m in typed(acts, FOLLOW)]
        week = [m for m in starts if same_bucket_or_after(m["at"], now, DAY, 7)]
        viewer = typed(profile, ("viewer_profile",))
        return {
            "preferred_language": last(viewer, "language", "unknown"),
            "blocked_creators": last(viewer, "blocked_creators", [], missing=[]),
            "recent_media_7d": recent(keyed([m for m in starts if m["at"] >= now - 7 * DAY]), 20),
            "recent_positive": recent(keyed(typed(acts, FOR)), 20),
            "recent_negative": recent(keyed(typed(acts, AGAINST)), 20),
            "seen": recent([(m["at"], m["item_id"]) for m in media], 200),
            "follows": recent(follows, 200),
            "top_categories_7d": self._top(week, "category", now),
            "content_types_7d": self._top(week, "content_type", now),
            "avg_session_duration": session_length([m["at"] for m in acts], now),
            "plays_7d": within(starts, now, HOUR, 7 * 24),
            "plays": float(len(starts)),
            **rates(acts),
            "tag_affinity": self._affinity(acts, now),
            "subscriber_count": float(len(typed(self._of("creator", user, now), FOLLOW))),
        }

    def _item(self, item: str, now: float) -> Features:
        told = self._of("item", item, now)
        described = typed(told, DESCRIBED)
        beats = typed(told, ("room_opened", "room_heartbeat", "room_status_changed"))
        shown = [(m["at"], "1.0", 1.0) for m in described]
        shown += [(m["at"], "0.0", 0.0) for m in typed(told, ("media_removed", "media_hidden", "room_closed"))]
        starts = typed(told, START)
        lengths = [(m["at"], m.get("duration_s")) for m in described]
        acted = typed(told, ("comment_posted", "gift_sent", "streamer_followed", "room_shared"))
        entered, watched = typed(told, ("room_entered",)), typed(told, ("watch_heartbeat",))
        statuses = typed(told, ("room_opened", "room_status_changed"))
        out = {
            "content_type": self._word(described, "content_type") or "VIDEO",
            "category": self._word(described, "category") or "unknown",
            "tags": self._word(described, "tags") or [],
            "language": last(described, "language", "unknown", missing="unknown"),
            "title": last(described, "title", "", missing=""),
            "creator_id": newest([(m["at"], maker(m), maker(m)) for m in described], "unknown"),
            "duration_s": newest([(at, str(float(length)), length) for at, length in lengths if length is not None], None),
            "published_at": max((m["at"] for m in described), default=None),
            "shown": newest(shown, 0.0),
            "heartbeat_at": max((m["at"] for m in beats), default=None),
            "status": last(statuses, "status", "none", missing="chat"),
            "views_1h": within(starts, now, MINUTE, 60),
            "play_count_24h": within(starts, now, HOUR, 24),
            "plays": float(len(starts)),
            **rates(told),
            "avg_watch_s": 30.0 * (1 + len(watched)) / (1 + len(entered)),
            "current_viewers": present(told, now),
            "interactions_15m": within(acted, now, MINUTE, 15),
        }  # fmt: skip
        for surface in SURFACES:
            mine = [m for m in starts if m.get("surface", "home") == surface]
            out[f"views_1h_{surface}"] = within(mine, now, MINUTE, 60)
        for name, kind in (
            ("gifts", "gift_sent"),
            ("comments", "comment_posted"),
            ("follows", "streamer_followed"),
            ("shares", "room_shared"),
        ):
            for minutes in (1, 5, 15, 60):
                out[f"{name}_{minutes}m"] = within(typed(told, (kind,)), now, MINUTE, minutes)
        gifts = [m for m in typed(told, ("gift_sent",)) if same_bucket_or_after(m["at"], now, MINUTE, 60)]
        out["gift_amount_60m"] = float(sum(m["amount"] for m in gifts))
        return out

    def _creator(self, creator: str, now: float) -> Features:
        told = self._of("creator", creator, now)
        profile = typed(self._of("profile", creator, now), ("creator_profile",))
        entered, rooms = typed(told, ("room_entered",)), typed(told, ("room_opened",))
        hours: dict[str, float] = defaultdict(float)
        for message in entered:
            hours[f"{int(message['at'] / HOUR) % 24:02d}"] += 1.0
        joined = [(m["at"], datetime.fromisoformat(m["joined_at"]).timestamp()) for m in profile if m.get("joined_at")]
        return {
            "subscribers": float(len(typed(told, FOLLOW))),
            "plays": float(len(typed(told, START))),
            "satisfaction": rates(told)["satisfaction"],
            "starts_by_hour": dict(hours),
            "language": last(profile, "language", "unknown"),
            "region": last(profile, "region", "unknown"),
            "joined_at": newest([(at, str(value), value) for at, value in joined], None),
            "content_type": "LIVE" if rooms else None,
            "category": last(rooms, "category", None),
            "tags": last(rooms, "tags", [], missing=[]),
        }

    def _pair(self, pair: str, now: float) -> Features:
        user, _, creator = pair.partition("|")
        starts = [
            m
            for m in typed(self._of("viewer", user, now), START)
            if creator in (m.get("creator_id"), m.get("streamer_id"))
        ]
        return {"watches": float(len(starts)), "last_watch_at": max((m["at"] for m in starts), default=None)}

    # --- words of things ---

    def _words(self, key: str, word: str, now: float) -> list[str]:
        """The item's own, else those of the last room of the host of that name."""
        own = typed(self._of("item", key, now), DESCRIBED)
        found = self._word(own or typed(self._of("creator", key, now), ("room_opened",)), word)
        return [found] if isinstance(found, str) else list(found or [])

    def _word(self, described: list[Message], word: str) -> Any:
        if word == "content_type":
            return newest([(m["at"], kind_of(m), kind_of(m)) for m in described], None)
        return last(described, word, None, missing=[] if word == "tags" else None)

    def _top(self, starts: list[Message], word: str, now: float) -> list[str]:
        counts: dict[str, int] = defaultdict(int)
        for message in starts:
            for one in self._words(key_of(message), word, now):
                counts[one] += 1
        return sorted(counts, key=lambda one: (-counts[one], one))[:3]

    def _affinity(self, acts: list[Message], now: float) -> dict[str, float]:
        met = [m for m in acts if m["type"] in STRENGTH and key_of(m)]
        sample = set(sorted({key_of(m) for m in met}, key=lambda key: (zlib.crc32(key.encode()), key))[:256])
        spoken: dict[str, float] = defaultdict(float)
        begun: dict[str, int] = defaultdict(int)
        words = {key: self._words(key, "tags", now) for key in sample}
        for message in met:
            for one in words.get(key_of(message), []):
                spoken[one] += STRENGTH[message["type"]]
                begun[one] += message["type"] in START
        return {one: (spoken[one] + 0.6) / (begun[one] + 1.0) for one in spoken}


def typed(messages: Iterable[Message], types: Iterable[str]) -> list[Message]:
    return [message for message in messages if message["type"] in types]


def key_of(message: Message) -> str:
    """Rooms are known by their host."""
    return str(message.get("streamer_id") or message.get("item_id") or "")


def keyed(messages: Iterable[Message]) -> list[tuple[float, str]]:
    return [(message["at"], key_of(message)) for message in messages]


def maker(message: Message) -> str:
    return str(message.get("creator_id") or message.get("streamer_id"))


def kind_of(message: Message) -> str:
    return "LIVE" if message["type"] == "room_opened" else str(message["content_type"])


def newest(told: list[tuple[float, str, Any]], default: Any) -> Any:
    """The value of the latest time; of equal times the one that comes last as text."""
    return max(told, key=lambda one: one[:2])[2] if told else default


def last(messages: Iterable[Message], name: str, default: Any, *, missing: Any = None) -> Any:
    """The newest value of a field; `missing` is what a message without the field says (nothing where None)."""
    said = [(m["at"], m.get(name, missing)) for m in messages]
    return newest([(at, ",".join(v) if isinstance(v, list) else v, v) for at, v in said if v is not None], default)


def same_bucket_or_after(at: float, now: float, bucket_s: int, buckets: int) -> bool:
    """Whether `at` lies in the bucket of `now` or one of the `buckets - 1` before it."""
    return int(at // bucket_s) > int(now // bucket_s) - buckets


def within(messages: Iterable[Message], now: float, bucket_s: int, buckets: int) -> float:
    return float(sum(1 for message in messages if same_bucket_or_after(message["at"], now, bucket_s, buckets)))


def recent(pairs: Iterable[tuple[float, str]], size: int) -> list[str]:
    """Distinct keys, newest first, ties by name."""
    when: dict[str, float] = {}
    for at, key in pairs:
        when[key] = max(at, when.get(key, at))
    return sorted(when, key=lambda key: (-when[key], key))[:size]


def rates(messages: list[Message]) -> Features:
    """The three shrunk ratios per start."""
    starts = len(typed(messages, START))
    spoken = sum(STRENGTH.get(message["type"], 0.0) for message in messages)
    return {
        "satisfaction": (spoken + 3.0) / (starts + 5.0),
        "like_ratio": (len(typed(messages, LIKE)) + 1.0) / (starts + 4.0),
        "completion_rate": (len(typed(messages, ("media_completed",))) + 1.0) / (starts + 4.0),
    }


def session_length(times: list[float], now: float) -> float:
    """Mean length of the sessions whose last event is at most seven days old; 30 minutes of silence end one."""
    sessions: list[list[float]] = []
    for at in sorted(times):
        if sessions and at <= sessions[-1][-1] + 30 * MINUTE:
            sessions[-1].append(at)
        else:
            sessions.append([at])
    lengths = [one[-1] - one[0] for one in sessions if one[-1] >= now - 7 * DAY]
    return sum(lengths) / len(lengths) if lengths else 0.0


def present(messages: list[Message], now: float) -> float:
    """Viewers whose last word in 90 s was not that they left; leaving counts at the same instant."""
    word: dict[str, tuple[float, bool]] = {}
    for message in typed(messages, ("room_entered", "watch_heartbeat", "room_left")):
        said = (message["at"], message["type"] == "room_left")
        word[message["user_id"]] = max(said, word.get(message["user_id"], said))
    return float(sum(1 for at, left in word.values() if not left and at > now - 90))
