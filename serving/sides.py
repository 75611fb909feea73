"""How a viewer meets the candidates: every number of (viewer, item) at once, equal to `features.snapshot.snapshot`.

Candidates are rows of the item table. Words and ids of the viewer become row and word numbers once a request; the rest is
array work. What was served is logged from the same arrays that the ranker saw.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from events.schema import FeatureValue, Surface
from features.definitions import BY_ENTITY, DAY, Entity
from features.snapshot import AFFINITY_DEFAULT, of_viewer, preferred_content_type
from features.state import EntityState, value
from features.vectors import NAMES
from serving.catalogue_view import CatalogueView, Item
from serving.item_columns import LIVE, Rows
from serving.item_table import ItemTable
from serving.loops import met, present

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
    paired: Rows  # creators she has something with
    paired_ids: Sequence[str]  # their ids, in the same order


@dataclass(frozen=True)
class Viewer:
    """The viewer's feature values as of the request, and the states of what she has with creators."""

    user_id: str
    values: Mapping[str, Any]
    pairs: Mapping[str, EntityState]
    _met: dict[ItemTable, Met] = field(default_factory=dict, init=False, repr=False, compare=False)
    _shared: dict[Surface, Mapping[str, FeatureValue]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
    values_, pairs = viewer.values, list(viewer.pairs)
    seen, recent, positive = values_["seen"], values_["recent_media_7d"], values_["recent_positive"][:RECENT]
    of_seen, of_recent, of_positive = _parts(view.table.rows([*seen, *recent, *positive]), len(seen), len(recent))
    follows, blocked = values_["follows"], values_["blocked_creators"]
    hosts, of_follows, of_blocked, paired = _parts(
        view.table.creators([*recent, *follows, *blocked, *pairs]), len(recent), len(follows), len(blocked)
    )
    return Met(
        _known(of_seen), _known(of_recent), _known(hosts), _known(of_positive), _known(of_follows), _known(of_blocked),
        _known(paired), list(compress(pairs, paired.tolist())),
    )  # fmt: skip


def _parts(rows: Rows, *lengths: int) -> Iterator[Rows]:
    """Rows in pieces of those lengths, and what is left."""
    begin = 0
    for length in lengths:
        yield rows[begin : begin + length]
        begin += length
    yield rows[begin:]


def _known(rows: Rows) -> Rows:
    return rows[rows > 0]


def maker_rows(ids: Sequence[str], view: CatalogueView) -> Rows:
    """Rows of the creators that are known."""
    return _known(view.table.creators(ids))


def in_locale(locale: str | None, viewer: Viewer, pool: Pool, view: CatalogueView) -> npt.NDArray[np.bool_] | None:
    """Whether each item is in the locale's language; None without one, or where the viewer's profile names a language."""
    if locale is None or viewer.values["preferred_language"] != _NO_LANGUAGE:
        return None
    numbers = [view.columns.words.number_of.get(tag, -1) for tag in (locale, locale.partition("-")[0].lower())]
    return np.isin(view.columns.language(pool.rows), numbers)


def raw_numbers(viewer: Viewer, pool: Pool, view: CatalogueView, now: float) -> Raw:
    """All numbers of the pool as of `now` (epoch seconds)."""
    out = np.empty((len(pool.rows), len(COLUMNS)))
    published_at = view.table.as_of(pool.rows, now, view.state_of, out)
    known, columns = viewer.met(view), view.columns
    words, liking = affinity = _by_word(viewer.values["tag_affinity"], view)
    held = columns.held
    spoken = columns.words.number_of.get(viewer.values["preferred_language"], -1)
    paired, starts, last = _pairs(viewer, known, pool.makers, now)
    many = met(
        pool.rows, pool.makers, pool.kinds, LIVE, held.tags, held.own_tags, held.language, spoken, words, liking,
        known.follows, known.recent, known.recent_hosts, paired, starts, last, published_at, now,
        AFFINITY_DEFAULT, MAX_GAP_S, out, len(NAMES),
    )  # fmt: skip
    for place in many.tolist():
        out[place, len(NAMES) : len(NAMES) + 2] = _of_many_tags(int(pool.rows[place]), affinity, view)
    return out


def _by_word(affinity: Mapping[str, float], view: CatalogueView) -> tuple[Rows, npt.NDArray[np.float64]]:
    """What the viewer has met, by word number, and how much she liked it."""
    number_of = view.columns.words.number_of
    known = {number: amount for word, amount in affinity.items() if (number := number_of.get(word)) is not None}
    return np.fromiter(known, np.intp, len(known)), np.fromiter(known.values(), np.float64, len(known))


def _of_many_tags(row: int, affinity: tuple[Rows, npt.NDArray[np.float64]], view: CatalogueView) -> tuple[float, float]:
    """Mean affinity over the tags that the viewer has met, and the share of tags met, of an item with more than TAGS."""
    words, liking = affinity
    tags = view.columns.many_tags.get(row, ())
    known = dict(zip(words.tolist(), liking.tolist(), strict=True))
    amounts = [known[one] for one in tags if one in known]
    return sum(amounts) / len(amounts) if amounts else AFFINITY_DEFAULT, len(amounts) / max(len(tags), 1)


def _pairs(
    viewer: Viewer, known: Met, makers: npt.NDArray[np.int32], now: float
) -> tuple[Rows, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The creators of the pool that the viewer has something with: starts of theirs, and when the last was (NaN: never)."""
    here = np.flatnonzero(present(known.paired, makers))
    states = [viewer.pairs[known.paired_ids[place]] for place in here.tolist()]
    starts = np.array([value(_WATCHES, one, now) for one in states], np.float64)
    last = np.array([value(_LAST_WATCH, one, now) for one in states], np.float64)  # None is NaN
    return known.paired[here], starts, last


def told(numbers: Raw) -> list[list[float | None]]:
    """Rows of raw numbers as snapshots carry them, in the order of their names; None for none."""
    table = numbers.take(_LOGGED_AT, axis=1)
    rows: list[list[float | None]] = table.tolist()
    for row, column in np.argwhere(np.isnan(table)).tolist():
        rows[row][column] = None
    return rows


def logged(item: Item, numbers: Iterable[float | None], shared: Mapping[str, FeatureValue]) -> dict[str, FeatureValue]:
    """The snapshot of one candidate out of its numbers as told; `shared` is `of_viewer` of the request."""
    out: dict[str, FeatureValue] = {**shared, **dict(zip(_LOGGED, numbers, strict=True))}
    out["item.item_key"] = item.creator_id if item.is_room else item.item_id
    out["item.content_type"], out["item.category"], out["item.tags"] = item.content_type, item.category, list(item.tags)
    out["item.language"], out["item.creator_id"] = item.language, item.creator_id
    return out


def shared_part(viewer: Viewer, surface: Surface) -> Mapping[str, FeatureValue]:
    """What is the same for every candidate of a request."""
    found = viewer._shared.get(surface)
    if found is None:
        found = viewer._shared[surface] = of_viewer(viewer.user_id, viewer.values, surface=surface)
    return found
