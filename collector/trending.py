"""Trending lists: what is watched most right now, newer and better liked things first.

    trending_score = views_1h x recency_weight x engagement_multiplier     views by surface, on that surface's lists
    recency_weight = max(0.1, 0.5 ** (age_hours / 24))       age since publication or going live; 0.1 when unknown
    engagement_multiplier = 0.5 + like_ratio + completion_rate   both shrunk, so a new item stands at 1.0

Below every item with a view in the hour come those with plays in the day, below these the newest: two terms that are too
small to change the order above them. So a list is never empty while the catalogue is not.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from events.schema import ContentType, Surface
from features.definitions import BY_ENTITY, HOUR, LEASE_S, Entity
from features.state import EntityState, value
from features.store import OnlineStore
from features.vectors import packed

HALF_LIFE_H = 24.0
RECENCY_FLOOR = 0.1
LIST_SIZE = 500  # items a list keeps: the candidates of a request
ACTIVE_ITEMS = 5000  # items that may be listed: those viewed or published last
# The smallest score with a view is 1 x 0.1 x 0.5; each fallback stays below what it must not overtake.
DAY_TERM, NEWEST_TERM = 1e-2, 1e-6
VIEWS = {surface: f"views_1h_{surface}" for surface in Surface}
_NEEDED = (
    *VIEWS.values(), "play_count_24h", "like_ratio", "completion_rate", "published_at", "content_type", "shown",
    "heartbeat_at",
)  # fmt: skip
_FEATURES = tuple(feature for feature in BY_ENTITY[Entity.ITEM] if feature.name in _NEEDED)
_CREATOR = next(feature for feature in BY_ENTITY[Entity.ITEM] if feature.name == "creator_id")
ALL = "ALL"
LISTS = (ALL, *ContentType)


def recency_weight(age_h: float | None) -> float:
    """Halves every 24 hours, never below a tenth."""
    if age_h is None:
        return RECENCY_FLOOR
    return max(RECENCY_FLOOR, float(0.5 ** (max(age_h, 0.0) / HALF_LIFE_H)))


def trending_score(item: Mapping[str, Any], now: float, *, surface: Surface = Surface.HOME) -> float:
    """The score of an item on a surface from its feature values as of `now` (epoch seconds)."""
    published = item["published_at"]
    age_h = None if published is None else (now - published) / HOUR
    day, fresh = item["play_count_24h"], 0.0 if age_h is None else 1.0 / (1.0 + max(age_h, 0.0))
    multiplier = 0.5 + item["like_ratio"] + item["completion_rate"]
    return float(
        item[VIEWS[surface]] * recency_weight(age_h) * multiplier + DAY_TERM * day / (1.0 + day) + NEWEST_TERM * fresh
    )


def can_be_listed(item: Mapping[str, Any], now: float) -> bool:
    """Whether an item may be shown: published and not taken back, or a room that holds its lease."""
    if not item["shown"]:
        return False
    beat = item["heartbeat_at"]
    return item["content_type"] != ContentType.LIVE or (beat is not None and beat + LEASE_S > now)


class Trending:
    """Keeps the states of the items that may be listed, and writes the lists from them."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._states: dict[str, EntityState] = {}
        self._seen_at: dict[str, float] = {}
        self._waiting: dict[str, None] = {}  # changed and not learned yet, in the order they changed
        self._unscored: list[str] = []  # left of a pass over all items that has begun
        self._scores = _no_scores()
        self._restored = False

    def refresh(self, touched: Mapping[str, float], *, now: float) -> dict[str, int]:
        """Note, learn everything, and write; returns the lists' lengths."""
        self.note(touched)
        self.learn(now)
        self._unscored = []
        return self.write(now) or {}

    @property
    def writing(self) -> bool:
        """Whether a pass has begun and not ended."""
        return bool(self._unscored)

    def note(self, touched: Mapping[str, float]) -> None:
        """These items changed: item id -> event time."""
        for item_id, at in touched.items():
            self._seen_at[item_id] = max(at, self._seen_at.get(item_id, at))
            self._waiting.setdefault(item_id)

    def learn(self, now: float, *, at_most: int | None = None) -> None:
        """Read the changed items that have waited longest again, and write their packed numbers."""
        self._restore(now)
        items = list(islice(self._waiting, at_most))
        self._read(items)
        self._pack(items, now)
        for item_id in items:
            del self._waiting[item_id]

    def write(self, now: float, *, at_most: int | None = None) -> dict[str, int] | None:
        """Score that many items, and after the last one write every list; returns their lengths, None when items are left."""
        self._restore(now)
        if not self._unscored:
            self._forget()
            self._unscored, self._scores = list(self._states), _no_scores()
        for item_id in self._unscored[-at_most:] if at_most else self._unscored:
            self._score(item_id, now)
        self._unscored = self._unscored[:-at_most] if at_most else []
        if self._unscored:
            return None
        lists = {name: _best(scores) for name, scores in self._scores.items()}
        for name, found in lists.items():
            self._store.set_trending(name, found)
        return {name: len(found) for name, found in lists.items()}

    def _restore(self, now: float) -> None:
        """After a start: what was listed before is a candidate again."""
        if self._restored:
            return
        for name in LISTS:
            for surface in Surface:
                for item_id, _ in self._store.trending(f"{surface}:{name}", LIST_SIZE):
                    self._seen_at[item_id] = now
        self._read(list(self._seen_at))
        self._restored = True

    def _read(self, item_ids: list[str]) -> None:
        for item_id, state in zip(item_ids, self._store.read(Entity.ITEM, item_ids) if item_ids else (), strict=True):
            self._states[item_id] = state

    def _pack(self, item_ids: list[str], now: float) -> None:
        """Write the packed numbers of the items, for readers that hold none in process."""
        items = {item_id: self._states[item_id] for item_id in item_ids}
        creators = list(dict.fromkeys(str(value(_CREATOR, state, now)) for state in items.values()))
        known = dict(zip(creators, self._store.read(Entity.CREATOR, creators) if creators else (), strict=True))
        self._store.set_vectors(
            {
                item_id: packed(state, known[str(value(_CREATOR, state, now))], now=now)
                for item_id, state in items.items()
            }
        )

    def _forget(self) -> None:
        surplus = len(self._seen_at) - ACTIVE_ITEMS
        if surplus > 0:
            for item_id in sorted(self._seen_at, key=self._seen_at.__getitem__)[:surplus]:
                del self._seen_at[item_id]
                self._states.pop(item_id, None)
                self._waiting.pop(item_id, None)

    def _score(self, item_id: str, now: float) -> None:
        item = _values(self._states[item_id], now) if item_id in self._states else None
        if item is None or not can_be_listed(item, now):
            return
        for surface in Surface:
            score = trending_score(item, now, surface=surface)
            for name in (ALL, item["content_type"]):
                self._scores[f"{surface}:{name}"][item_id] = score


def _no_scores() -> dict[str, dict[str, float]]:
    return {f"{surface}:{name}": {} for surface in Surface for name in LISTS}


def _values(state: EntityState, now: float) -> dict[str, Any]:
    return {feature.name: value(feature, state, now) for feature in _FEATURES}


def _best(scores: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:LIST_SIZE])
