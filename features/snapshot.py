"""What the model sees for one request and one item: a flat map of named feature values, logged with the impression.

The proxy builds it from the online store, the sample build from replayed history; both call `snapshot`, so a name means one
thing. Names are `<entity>.<feature>`, `cross.<name>` for what needs both sides, `context.<name>` for the request.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from events.schema import ContentType, FeatureValue, Surface
from features.aggregates import Look
from features.definitions import DAY, HOUR, Entity
from features.state import EntityState, item_keys, pair_id, values, words_of
from features.store import EntityReader

_USER = (
    "preferred_language", "recent_positive", "recent_negative", "recent_media_7d", "top_categories_7d", "plays_7d",
    "plays", "satisfaction", "like_ratio", "completion_rate",
)  # fmt: skip
_ITEM = (
    "content_type", "category", "tags", "language", "creator_id", "duration_s", "views_1h", "play_count_24h", "plays",
    "satisfaction", "like_ratio", "completion_rate", "avg_watch_s", "current_viewers", "interactions_15m",
)  # fmt: skip
_CREATOR = ("subscribers", "plays", "satisfaction")
AFFINITY_DEFAULT = 0.6  # the mean strength per start, as the definitions' prior


class Known(NamedTuple):
    """Feature values of one request and one item, by entity, each as `features.state.values` returns them."""

    user: Mapping[str, Any]
    item: Mapping[str, Any]
    creator: Mapping[str, Any]
    pair: Mapping[str, Any]


def item_key(item_id: str, item: Mapping[str, Any]) -> str:
    """The id that embeddings and id lists use: the item's own for media, the host's for a room."""
    return str(item["creator_id"]) if item["content_type"] == ContentType.LIVE else item_id


def preferred_content_type(content_types_7d: Sequence[str]) -> str:
    """VIDEO or AUDIO when only that was started in 7 days, else MIXED."""
    media = {kind for kind in content_types_7d if kind != ContentType.LIVE}
    return media.pop() if len(media) == 1 else "MIXED"


def _plain(value: Any) -> FeatureValue:
    """A value as the event schema carries it: floats, words, word lists, maps."""
    if isinstance(value, (bool, int)):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def _cross(item_id: str, known: Known, now: float) -> dict[str, FeatureValue]:
    """What needs viewer and item together; gaps in hours, capped at 30 days, -1 for never."""
    affinity: Mapping[str, float] = known.user["tag_affinity"]
    tags = known.item["tags"] or [known.item["category"]]
    met = [affinity[tag] for tag in tags if tag in affinity]
    last = known.pair["last_watch_at"]
    published = known.item["published_at"]
    return {
        "cross.tag_affinity": sum(met) / len(met) if met else AFFINITY_DEFAULT,
        "cross.tags_met": len(met) / len(tags),
        "cross.language_match": float(known.item["language"] == known.user["preferred_language"]),
        "cross.follows": float(known.item["creator_id"] in known.user["follows"]),
        "cross.creator_watches": float(known.pair["watches"]),
        "cross.creator_gap_h": -1.0 if last is None else min(max(now - last, 0.0), 30 * DAY) / HOUR,
        "cross.seen_recently": float(item_key(item_id, known.item) in known.user["recent_media_7d"]),
        "item.publish_age_hours": -1.0 if published is None else max(now - published, 0.0) / HOUR,
    }


def snapshot(
    user_id: str, item_id: str, known: Known, *, now: float, surface: Surface, position: int = 0
) -> dict[str, FeatureValue]:
    """All features of one (request, item) as of `now` (epoch seconds)."""
    out = of_viewer(user_id, known.user, surface=surface, position=position)
    out["item.item_key"] = item_key(item_id, known.item)
    for prefix, names, side in (("item", _ITEM, known.item), ("creator", _CREATOR, known.creator)):
        for name in names:
            out[f"{prefix}.{name}"] = _plain(side[name])
    return out | _cross(item_id, known, now)


def of_viewer(user_id: str, user: Mapping[str, Any], *, surface: Surface, position: int = 0) -> dict[str, FeatureValue]:
    """The part of a snapshot that is the same for every item of a request."""
    out: dict[str, FeatureValue] = {
        "user.user_id": user_id,
        "user.preferred_content_type": preferred_content_type(user["content_types_7d"]),
        "context.surface": str(surface),
        "context.position": float(position),
    }
    for name in _USER:
        out[f"user.{name}"] = _plain(user[name])
    return out


def look_in(store: EntityReader, state: EntityState) -> Look:
    """A Look over what a store knows of the things in a viewer's state: one read of items, one of hosts for the rest."""
    keys = item_keys(state)
    found = {key: item for key, item in zip(keys, store.read(Entity.ITEM, keys), strict=True) if item} if keys else {}
    hosts = [key for key in keys if key not in found]
    creators = dict(zip(hosts, store.read(Entity.CREATOR, hosts), strict=True)) if hosts else {}
    return lambda key: words_of(found.get(key, {}), creators.get(key, {}))


def read_known(
    store: EntityReader, user_id: str, item_ids: Sequence[str], *, now: float, look: Look | None = None
) -> list[Known]:
    """Feature values of one viewer and many items, in the order of `item_ids`: one read an entity kind.

    `look` finds words about item keys where something in process knows them; the store is asked otherwise.
    """
    state = store.read(Entity.USER, [user_id])[0]
    user = values(Entity.USER, state, now, look or look_in(store, state))
    items = [values(Entity.ITEM, state, now) for state in store.read(Entity.ITEM, item_ids)]
    creators = list(dict.fromkeys(str(item["creator_id"]) for item in items))
    known = [values(Entity.CREATOR, state, now) for state in store.read(Entity.CREATOR, creators)]
    with_her = store.read(Entity.PAIR, [pair_id(user_id, one) for one in creators])
    pairs = [values(Entity.PAIR, state, now) for state in with_her]
    place = {one: number for number, one in enumerate(creators)}
    at = [place[str(item["creator_id"])] for item in items]
    return [Known(user, item, known[n], pairs[n]) for item, n in zip(items, at, strict=True)]
