"""How a viewer meets the candidates: every number of (viewer, item) at once, equal to `features.snapshot.snapshot`.

Candidates are rows of the item table. Words and ids of the viewer become row and word numbers once a request; the rest is
array work. What was served is logged from the same arrays that the ranker saw.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from serving.item_table import ItemTable

CROSS = (
    "cross.tag_affinity", "cross.tags_met", "cross.language_match", "cross.follows", "cross.creator_watches",
    "cross.creator_gap_h", "cross.seen_recently",
)  # fmt: skip
AGE = "item.publish_age_hours"
COLUMNS: tuple[str, ...] = (*NAMES, *CROSS, AGE)
# Numbers that a snapshot carries; published_at is told as an age.
_LOGGED = tuple(name for name in COLUMNS if name != "item.published_at")
_LOGGED_AT = [COLUMNS.index(name) for name in _LOGGED]
RECENT = 10  # things the viewer spoke for lately from which neighbours start
MAX_GAP_S = 30 * DAY
_NO_LANGUAGE = next(one.default for one in BY_ENTITY[Entity.USER] if one.name == "preferred_language")
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


class Met(NamedTuple):
    """Rows of what a viewer has met and the table holds: items and creators, in the order of her values."""

    seen: Rows
    recent: Rows  # of recent_media_7d
    recent_hosts: Rows  # of recent_media_7d, where a room is named by its host
    positive: Rows  # of the RECENT latest in recent_positive
    follows: Rows  # creators
    blocked: Rows  # creators
    paired: Mapping[int, str]  # creator row -> creator id, of those she has something with


@dataclass(frozen=True)
class Viewer:
    """The viewer's feature values as of the request, and the states of what she has with creators."""

    user_id: str
    values: Mapping[str, Any]
    pairs: Mapping[str, EntityState]
    _met: dict[ItemTable, Met] = field(default_factory=dict, init=False, repr=False, compare=False)

    def met(self, view: CatalogueView) -> Met:
        """Looked up at the first call, for one request and its view: each look into a table of millions waits for memory."""
        found = self._met.get(view.table)
        if found is None:
            found = self._met[view.table] = _met(self, view)
        return found

    @property
    def cold(self) -> bool:
        """Never played anything, as far as is known."""
        return not self.values["plays"] and not self.values["recent_positive"]

    @property
    def preferred(self) -> str:
        """VIDEO, AUDIO or MIXED."""
        return preferred_content_type(self.values["content_types_7d"])


def _met(viewer: Viewer, view: CatalogueView) -> Met:
    values_, row_of = viewer.values, view.table.row_of
    seen, recent, positive = values_["seen"], values_["recent_media_7d"], values_["recent_positive"][:RECENT]
    row_at = {one: row_of.get(one) for one in dict.fromkeys((*seen, *recent, *positive))}  # the lists say much the same

    def rows(ids: Iterable[str]) -> Rows:
        return np.array([row for one in ids if (row := row_at[one]) is not None], np.intp)

    creator_row = view.table.creator_row
    paired = {row: one for one in viewer.pairs if (row := creator_row.get(one)) is not None}
    return Met(
        rows(seen), rows(recent), maker_rows(recent, view), rows(positive),
        maker_rows(values_["follows"], view), maker_rows(values_["blocked_creators"], view), paired,
    )  # fmt: skip


def maker_rows(ids: Iterable[str], view: CatalogueView) -> Rows:
    """Rows of the creators that are known."""
    row_of = view.table.creator_row
    return np.array([row for one in ids if (row := row_of.get(one)) is not None], np.intp)


def in_locale(locale: str | None, viewer: Viewer, pool: Pool, view: CatalogueView) -> npt.NDArray[np.bool_] | None:
    """Whether each item is in the locale's language; None without one, or where the viewer's profile names a language."""
    if locale is None or viewer.values["preferred_language"] != _NO_LANGUAGE:
        return None
    numbers = [view.columns.words.number_of.get(tag, -1) for tag in (locale, locale.partition("-")[0].lower())]
    return np.isin(view.columns.language(pool.rows), numbers)


def raw_numbers(viewer: Viewer, pool: Pool, view: CatalogueView, now: float) -> Raw:
    """All numbers of the pool as of `now` (epoch seconds)."""
    out = np.empty((len(COLUMNS), len(pool.rows))).T  # a column in one piece: encoders read columns
    vectors = view.table.as_of(pool.rows, now, view.state_of, out[:, : len(NAMES)])
    _fill_cross(out[:, len(NAMES) : -1], viewer, pool, view, now)
    age = np.maximum(now - vectors.published_at, 0.0) / HOUR
    out[:, -1] = np.where(np.isnan(age), -1.0, age)
    return out


def _fill_cross(out: Raw, viewer: Viewer, pool: Pool, view: CatalogueView, now: float) -> None:
    values_, words, met = viewer.values, view.columns.words.number_of, viewer.met(view)
    out[:, 0], out[:, 1] = _affinity(values_["tag_affinity"], pool.rows, view)
    out[:, 2] = view.columns.language(pool.rows) == words.get(values_["preferred_language"], -1)
    out[:, 3] = among(pool.makers, met.follows)
    out[:, 4], out[:, 5] = _pairs(viewer, met, pool.makers, now)
    own, host = among(pool.rows, met.recent), among(pool.makers, met.recent_hosts)
    out[:, 6] = np.where(pool.kinds == LIVE, host, own)


def _affinity(affinity: Mapping[str, float], rows: Rows, view: CatalogueView) -> tuple[Raw, Raw]:
    """Mean affinity over the tags that the viewer has met, and the share of tags met."""
    columns, number_of = view.columns, view.columns.words.number_of
    known = {number: amount for word, amount in affinity.items() if (number := number_of.get(word)) is not None}
    tags, own = columns.tags(rows), columns.own_tags(rows)
    # By place of the tag: a sum over short rows takes ten times as long.
    with _by_word.holding(known) as by_word:
        held = by_word.take(tags.T, mode="clip")
    met = ~np.isnan(held)
    count = met.sum(axis=0)
    total = np.where(met, held, 0.0).sum(axis=0)
    size = np.maximum(own, 1)
    many = own > TAGS
    for place in np.flatnonzero(many).tolist() if many.any() else ():
        every = [known[one] for one in columns.many_tags.get(int(rows[place]), ()) if one in known]
        count[place], total[place] = len(every), sum(every)
    return np.where(count > 0, total / np.maximum(count, 1), AFFINITY_DEFAULT), count / size


class _ByWord(threading.local):
    """An amount for each of a few words by word number, else NaN; an array a thread, since words are millions."""

    def __init__(self) -> None:
        self._held = np.full(1024, np.nan)

    @contextmanager
    def holding(self, known: Mapping[int, float]) -> Iterator[npt.NDArray[np.float64]]:
        """The array with those amounts, for as long as this lasts; its last place is none's."""
        numbers = np.fromiter(known, np.intp, len(known))
        if len(numbers) and (most := int(numbers.max())) + 1 >= len(self._held):
            self._held = np.full(2 * most + 2, np.nan)
        self._held[numbers] = np.fromiter(known.values(), np.float64, len(known))
        try:
            yield self._held
        finally:
            self._held[numbers] = np.nan


_by_word = _ByWord()


def _pairs(viewer: Viewer, met: Met, makers: npt.NDArray[np.int32], now: float) -> tuple[Raw, Raw]:
    """Starts of each creator's things by the viewer, and hours since the last; 0 and -1 where there was none."""
    watches, gap = np.zeros(len(makers)), np.full(len(makers), -1.0)
    here = sorted(met.paired.keys() & set(makers.tolist()))
    if not here:
        return watches, gap
    rows = np.array(here)
    states = [viewer.pairs[met.paired[row]] for row in here]
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
    out: dict[str, FeatureValue] = {**shared, **dict(zip(_LOGGED, numbers.take(_LOGGED_AT).tolist(), strict=True))}
    for name in _LOGGED:
        if out[name] != out[name]:
            out[name] = None
    out["item.item_key"] = item.creator_id if item.is_room else item.item_id
    out["item.content_type"], out["item.category"], out["item.tags"] = item.content_type, item.category, list(item.tags)
    out["item.language"], out["item.creator_id"] = item.language, item.creator_id
    return out


def shared_part(viewer: Viewer, surface: Surface) -> dict[str, FeatureValue]:
    """What is the same for every candidate of a request."""
    return of_viewer(viewer.user_id, viewer.values, surface=surface)
