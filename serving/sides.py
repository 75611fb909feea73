"""How a viewer meets the candidates: every number of (viewer, item) at once, equal to `features.snapshot.snapshot`.

Candidates are rows of the item table. Words and ids of the viewer become row and word numbers once a request; the rest is
array work. What was served is logged from the same arrays that the ranker saw.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from events.schema import FeatureValue, Surface
from features.definitions import BY_ENTITY, DAY, HOUR, Entity
from features.snapshot import AFFINITY_DEFAULT, of_viewer, preferred_content_type
from features.state import EntityState, value
from features.vectors import NAMES
from serving.catalogue import CatalogueView, Item
from serving.item_columns import LIVE, TAGS, Rows, among

CROSS = (
    "cross.tag_affinity", "cross.tags_met", "cross.language_match", "cross.follows", "cross.creator_watches",
    "cross.creator_gap_h", "cross.seen_recently",
)  # fmt: skip
AGE = "item.publish_age_hours"
COLUMNS: tuple[str, ...] = (*NAMES, *CROSS, AGE)
# Numbers that a snapshot carries; published_at is told as an age.
_LOGGED = tuple((place, name) for place, name in enumerate(COLUMNS) if name != "item.published_at")
MAX_GAP_S = 30 * DAY
_WATCHES, _LAST_WATCH = (
    next(one for one in BY_ENTITY[Entity.PAIR] if one.name == name) for name in ("watches", "last_watch_at")
)
Raw = npt.NDArray[np.float64]  # [n, len(COLUMNS)], NaN: none


class Pool(NamedTuple):
    """Candidates, n each: rows of the item table, which source named them, their creators' rows, their kinds."""

    rows: Rows
    sources: npt.NDArray[np.int8]
    makers: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int8]

    def at(self, places: npt.NDArray[np.intp]) -> "Pool":
        """Some of them, in that order."""
        return Pool(self.rows[places], self.sources[places], self.makers[places], self.kinds[places])


@dataclass(frozen=True)
class Viewer:
    """The viewer's feature values as of the request, and the states of what she has with creators."""

    user_id: str
    values: Mapping[str, Any]
    pairs: Mapping[str, EntityState]

    @property
    def cold(self) -> bool:
        """Never played anything, as far as is known."""
        return not self.values["plays"] and not self.values["recent_positive"]

    @property
    def preferred(self) -> str:
        """VIDEO, AUDIO or MIXED."""
        return preferred_content_type(self.values["content_types_7d"])


def item_rows(ids: Iterable[str], view: CatalogueView) -> Rows:
    """Rows of the items that are held."""
    row_of = view.table.row_of
    return np.array([row for one in ids if (row := row_of.get(one)) is not None], np.intp)


def maker_rows(ids: Iterable[str], view: CatalogueView) -> Rows:
    """Rows of the creators that are known."""
    row_of = view.table.creator_row
    return np.array([row for one in ids if (row := row_of.get(one)) is not None], np.intp)


def raw_numbers(viewer: Viewer, pool: Pool, view: CatalogueView, now: float) -> Raw:
    """All numbers of the pool as of `now` (epoch seconds)."""
    vectors = view.table.as_of(pool.rows, now, view.state_of)
    out = np.empty((len(COLUMNS), len(pool.rows))).T  # a column in one piece: encoders read columns
    out[:, : len(NAMES)] = vectors.numbers
    _fill_cross(out[:, len(NAMES) : -1], viewer, pool, view, now)
    age = np.maximum(now - vectors.published_at, 0.0) / HOUR
    out[:, -1] = np.where(np.isnan(age), -1.0, age)
    return out


def _fill_cross(out: Raw, viewer: Viewer, pool: Pool, view: CatalogueView, now: float) -> None:
    values_, words = viewer.values, view.columns.words.number_of
    out[:, 0], out[:, 1] = _affinity(values_["tag_affinity"], pool.rows, view)
    out[:, 2] = view.columns.language(pool.rows) == words.get(values_["preferred_language"], -1)
    out[:, 3] = among(pool.makers, maker_rows(values_["follows"], view))
    out[:, 4], out[:, 5] = _pairs(viewer, pool.makers, view, now)
    met = values_["recent_media_7d"]
    own, host = among(pool.rows, item_rows(met, view)), among(pool.makers, maker_rows(met, view))
    out[:, 6] = np.where(pool.kinds == LIVE, host, own)


def _affinity(affinity: Mapping[str, float], rows: Rows, view: CatalogueView) -> tuple[Raw, Raw]:
    """Mean affinity over the tags that the viewer has met, and the share of tags met."""
    columns, number_of = view.columns, view.columns.words.number_of
    by_word = np.full(len(columns.words.words) + 1, np.nan)
    known = [(number, amount) for word, amount in affinity.items() if (number := number_of.get(word)) is not None]
    for number, amount in known:
        if number < len(by_word):
            by_word[number] = amount
    tags, own = columns.tags(rows), columns.own_tags(rows)
    held = by_word.take(tags.T, mode="clip")  # by place of the tag: a sum over short rows takes ten times as long
    met = ~np.isnan(held)
    count = met.sum(axis=0)
    total = np.where(met, held, 0.0).sum(axis=0)
    size = np.maximum(own, 1)
    for place in np.flatnonzero(own > TAGS).tolist():
        every = by_word.take(np.array(columns.many_tags.get(int(rows[place]), ()), np.intp), mode="clip")
        count[place], total[place] = (~np.isnan(every)).sum(), np.nansum(every)
    return np.where(count > 0, total / np.maximum(count, 1), AFFINITY_DEFAULT), count / size


def _pairs(viewer: Viewer, makers: npt.NDArray[np.int32], view: CatalogueView, now: float) -> tuple[Raw, Raw]:
    """Starts of each creator's things by the viewer, and hours since the last; 0 and -1 where there was none."""
    watches, gap = np.zeros(len(makers)), np.full(len(makers), -1.0)
    row_of, here = view.table.creator_row, set(makers.tolist())
    met = sorted((row, one) for one in viewer.pairs if (row := row_of.get(one)) in here)
    if not met:
        return watches, gap
    rows = np.array([row for row, _ in met])
    states = [viewer.pairs[one] for _, one in met]
    starts = np.array([value(_WATCHES, one, now) for one in states], np.float64)
    last = np.array([value(_LAST_WATCH, one, now) for one in states], np.float64)  # None is NaN
    hours = np.where(np.isnan(last), -1.0, np.clip(now - last, 0.0, MAX_GAP_S) / HOUR)
    at = np.minimum(np.searchsorted(rows, makers), len(rows) - 1)
    ours = rows[at] == makers
    return np.where(ours, starts[at], watches), np.where(ours, hours[at], gap)


def logged(
    viewer: Viewer, item: Item, numbers: npt.NDArray[np.float64], shared: Mapping[str, FeatureValue]
) -> dict[str, FeatureValue]:
    """The snapshot of one candidate out of its row of raw numbers; `shared` is `of_viewer` of the request."""
    row = numbers.tolist()
    out = dict(shared)
    for place, name in _LOGGED:
        number = row[place]
        out[name] = None if number != number else number
    out["item.item_key"] = item.creator_id if item.is_room else item.item_id
    out["item.content_type"], out["item.category"], out["item.tags"] = item.content_type, item.category, list(item.tags)
    out["item.language"], out["item.creator_id"] = item.language, item.creator_id
    return out


def shared_part(viewer: Viewer, surface: Surface) -> dict[str, FeatureValue]:
    """What is the same for every candidate of a request."""
    return of_viewer(viewer.user_id, viewer.values, surface=surface)
