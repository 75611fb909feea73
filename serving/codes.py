"""One release's encoder over the item table: candidates by row number become the ranker's tensors without a row of Python.

Equal to `Encoder.encode` on the same items' snapshots. Vocabularies are translated once, when the release is loaded, into
arrays by item row, creator row and word number; what the catalogue learns later is added as it comes.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from events.schema import Surface
from features.encoder import ITEM_TENSORS, STATS_TENSORS, Encoder, Tensor
from features.packing import ITEM_IDS, ITEM_NUM, Packing
from serving.catalogue import Catalogue
from serving.errors import ReleaseRefused
from serving.item_columns import KINDS, LIVE, TAGS, Growing, ItemColumns
from serving.sides import COLUMNS, Pool, Raw

SLICE = 4_096  # words translated before other threads get their turn
KEY, CREATOR = "item.item_key", "item.creator_id"
_WORDS = {KEY, CREATOR, "item.category", "item.language", "item.content_type", "context.surface"}
_PLACE = {name: number for number, name in enumerate(COLUMNS)}


class _Table:
    """Vocabulary indices by row or word number."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._held = Growing(np.int64)
        self._writing = threading.Lock()  # two that grow an array would each lose what the other wrote

    def learn(self, word: str, number: int) -> None:
        """The word has that number."""
        with self._writing:
            self._held.put(number, self._vocabulary.get(word, 0))

    def fill(self, number_of: Mapping[str, int]) -> None:
        """Learn all that have a number; looks up the smaller of vocabulary and words."""
        words = list(self._vocabulary) if len(self._vocabulary) < len(number_of) else list(number_of)
        for start in range(0, len(words), SLICE):
            for word in words[start : start + SLICE]:
                number = number_of.get(word)
                if number is not None:
                    self.learn(word, number)
            time.sleep(0)

    def take(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Indices; 0 for what is not in the vocabulary."""
        held = self._held.array
        return np.where(numbers < len(held), held.take(numbers, mode="clip"), 0)


_HOWS = ("linear", "log1p", "gap")  # logarithms stand together, and gaps (-1 for below 0 or missing) among them


@dataclass(frozen=True)
class _Numbers:
    """Some numbers of an encoder: which columns, how read and scaled; each reading is made once however often asked."""

    columns: npt.NDArray[np.intp]  # of each reading, in the order of _HOWS
    logs: int  # the first reading that is a logarithm
    gaps: int  # the first that is a gap
    mean: npt.NDArray[np.float64]  # [readings, 1]
    scale: npt.NDArray[np.float64]  # [readings, 1]
    asked: npt.NDArray[np.intp]  # the reading of each number

    @staticmethod
    def of(encoder: Encoder, specs: Iterable[Mapping[str, str]]) -> "_Numbers":
        """Those of some tensors, one after the other."""
        pairs = [(name, how) for spec in specs for name, how in spec.items()]
        readings = sorted(dict.fromkeys(pairs), key=lambda pair: _HOWS.index(pair[1]))
        hows = [how for _, how in readings]
        return _Numbers(
            np.array([_PLACE[name] for name, _ in readings], np.intp),
            hows.count("linear"),
            len(hows) - hows.count("gap"),
            np.array([[encoder.mean[name]] for name, _ in readings]).reshape(-1, 1),
            np.array([[encoder.scale[name]] for name, _ in readings]).reshape(-1, 1),
            np.array([readings.index(pair) for pair in pairs], np.intp),
        )

    def encode(self, raw: Raw) -> npt.NDArray[np.float32]:
        """[n, features] float32 from the raw numbers."""
        x = raw.T.take(self.columns, axis=0)  # a reading a row: each is read and written in one piece
        logs, gaps = x[self.logs :], x[self.gaps :]
        missing = ~(gaps >= 0)
        np.log1p(np.maximum(logs, 0.0, out=logs), out=logs)
        np.copyto(gaps, -1.0, where=missing)
        x -= self.mean
        x /= self.scale
        np.copyto(x, 0.0, where=np.isnan(x))
        np.clip(x, -8.0, 8.0, out=x)
        return np.ascontiguousarray(x.astype(np.float32).take(self.asked, axis=0).T)


class Codes:
    """The item's side of an encoder; `item` and `gone` are the catalogue's announcements (Learner)."""

    def __init__(self, encoder: Encoder, catalogue: Catalogue, packing: Packing | None = None) -> None:
        self._encoder = encoder
        self._columns: ItemColumns = catalogue.view.columns
        self._view = catalogue.view
        self._catching_up = threading.Lock()
        config = encoder.config
        wanted = (*ITEM_TENSORS, *STATS_TENSORS, *(name for name in config.numbers if name.startswith("item_num")))
        self._words = {name: feature for name, feature in config.words.items() if name in wanted}
        self._lists = {name: spec for name, spec in config.lists.items() if name in wanted}
        numbers = {name: spec for name, spec in config.numbers.items() if not name.startswith("user")}
        self._refuse_unknown(numbers)
        self._numbers = {name: _Numbers.of(encoder, [spec]) for name, spec in numbers.items()}
        self._packed = None if packing is None else _Numbers.of(encoder, [numbers[n] for n in packing.arrays[ITEM_NUM]])
        self._packing = packing
        self.tensors = (*self._words, *self._lists, *self._numbers)
        vocabularies = {name: encoder.vocabulary[config.vocabularies[name]] for name in (*self._words, *self._lists)}
        self._vocabulary = vocabularies
        self._items = {name: _Table(v) for name, v in vocabularies.items() if self._words.get(name) == KEY}
        makers = {name: v for name, v in vocabularies.items() if self._words.get(name) in (KEY, CREATOR)}
        self._makers = {name: _Table(v) for name, v in makers.items()}
        self._by_word = {name: _Table(v) for name, v in vocabularies.items() if name not in makers}
        self._kinds = {
            name: np.array([vocabularies[name].get(kind, 0) for kind in KINDS], np.int64) for name in vocabularies
        }
        self._known_words = 1

    def _refuse_unknown(self, numbers: Mapping[str, Mapping[str, str]]) -> None:
        names = [f for spec in numbers.values() for f in spec if f not in _PLACE]
        names += [f for f in self._words.values() if f not in _WORDS]
        names += [f for f, _ in self._lists.values() if f != "item.tags"]
        if names:
            raise ReleaseRefused(f"the encoder reads {names[0]} of an item, which the proxy cannot give; allowed are "
                                 f"{', '.join(sorted({*_PLACE, *_WORDS, 'item.tags'}))}")  # fmt: skip

    def fill(self) -> None:
        """Translate what the catalogue holds; call after attaching, so that nothing falls between."""
        table = self._view.table
        for held in self._items.values():
            held.fill(table.row_of)
        for held in self._makers.values():
            held.fill(table.creator_row)
        self.catch_up()

    def item(self, item_id: str, row: int) -> None:
        """The item has that row."""
        for held in self._items.values():
            held.learn(item_id, row)

    def gone(self, item_id: str, row: int) -> None:
        """Nothing to do: a row that holds nothing is never a candidate."""

    def creator(self, creator_id: str, row: int) -> None:
        """The creator has that row."""
        for held in self._makers.values():
            held.learn(creator_id, row)

    def catch_up(self) -> None:
        """Translate the words that are new since the last time."""
        words = self._columns.words.words
        if len(words) == self._known_words:
            return
        with self._catching_up:
            upto = len(words)
            for number in range(self._known_words, upto):
                for held in self._by_word.values():
                    held.learn(words[number], number)
            self._known_words = upto

    def encode(self, pool: Pool, raw: Raw, surface: Surface) -> dict[str, Tensor]:
        """The tensors of a pool: words int64 [n], lists int64 [n, length], numbers float32 [n, features]."""
        out = self._ids(pool, surface)
        for name, plan in self._numbers.items():
            out[name] = plan.encode(raw)
        return out

    def inputs(self, pool: Pool, raw: Raw, surface: Surface) -> dict[str, Tensor]:
        """The item's side of the ranker's inputs: packed as the release says, else by named tensors."""
        if self._packing is None or self._packed is None:
            return self.encode(pool, raw, surface)
        ids = np.empty((len(pool.rows), self._packing.width(ITEM_IDS)), np.int32)
        made = self._ids(pool, surface)
        for name, at in self._packing.arrays[ITEM_IDS].items():
            if at.word:
                ids[:, at.begin] = made[name]
            else:
                ids[:, at.begin : at.end] = made[name]
        return {ITEM_IDS: ids, ITEM_NUM: self._packed.encode(raw)}

    def _ids(self, pool: Pool, surface: Surface) -> dict[str, Tensor]:
        self.catch_up()
        out: dict[str, Tensor] = {
            name: self._word(name, feature, pool, surface) for name, feature in self._words.items()
        }
        for name, (_, length) in self._lists.items():
            out[name] = self._tags(name, length, pool)
        return out

    def _word(self, name: str, feature: str, pool: Pool, surface: Surface) -> npt.NDArray[np.int64]:
        if feature == KEY:
            own, host = self._items[name].take(pool.rows), self._makers[name].take(pool.makers)
            return np.where(pool.kinds == LIVE, host, own)
        if feature == CREATOR:
            return self._makers[name].take(pool.makers)
        if feature == "item.content_type":
            return self._kinds[name].take(pool.kinds)
        if feature == "context.surface":
            return np.full(len(pool.rows), self._vocabulary[name].get(str(surface), 0), np.int64)
        numbers = self._columns.category if feature == "item.category" else self._columns.language
        return self._by_word[name].take(numbers(pool.rows))

    def _tags(self, name: str, length: int, pool: Pool) -> npt.NDArray[np.int64]:
        out = np.zeros((len(pool.rows), length), np.int64)
        width = min(length, TAGS)
        tags = self._columns.tags(pool.rows)[:, :width]
        own = self._columns.own_tags(pool.rows)
        out[:, :width] = np.where(np.arange(width) < own[:, None], self._by_word[name].take(tags), 0)
        if length > TAGS:
            for place in np.flatnonzero(own > TAGS).tolist():
                every = self._columns.many_tags.get(int(pool.rows[place]), ())[:length]
                out[place, : len(every)] = self._by_word[name].take(np.array(every, np.intp))
        return out


def attach(encoder: Encoder, catalogue: Catalogue) -> Codes:
    """Codes of a release that follow the catalogue; `detach` them when the release goes."""
    codes = Codes(encoder, catalogue)
    catalogue.attach(codes)
    codes.fill()
    return codes
