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
from serving.item_columns import KINDS, LIVE, Growing, ItemColumns, Rows
from serving.readings import GAP, LINEAR, LOG, floored, look_up, look_up_key, look_up_tags, look_up_word, scaled
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

    @property
    def array(self) -> npt.NDArray[np.int64]:
        """Indices by number, 0 for what is not in the vocabulary; numbers beyond it are not either."""
        array: npt.NDArray[np.int64] = self._held.array
        return array


_HOWS = {"linear": LINEAR, "log1p": LOG, "gap": GAP}
BOUND = 8.0  # of a scaled number, as the encoder's


@dataclass(frozen=True)
class _Numbers:
    """Some numbers of an encoder: which columns, how read and scaled; each reading is made once however often asked."""

    columns: Rows  # of each reading
    hows: Rows
    logs: Rows  # the columns of which a logarithm is read, each once
    log_at: Rows  # of each reading, its place there; 0 where it reads none
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    asked: Rows  # the reading of each number

    @staticmethod
    def of(encoder: Encoder, specs: Iterable[Mapping[str, str]]) -> "_Numbers":
        """Those of some tensors, one after the other."""
        pairs = [(name, how) for spec in specs for name, how in spec.items()]
        readings = list(dict.fromkeys(pairs))
        columns, hows = [_PLACE[name] for name, _ in readings], [_HOWS[how] for _, how in readings]
        logs = list(dict.fromkeys(column for column, how in zip(columns, hows, strict=True) if how != LINEAR))
        log_at = [logs.index(column) if how != LINEAR else 0 for column, how in zip(columns, hows, strict=True)]
        return _Numbers(
            np.array(columns, np.int64),
            np.array(hows, np.int64),
            np.array(logs, np.int64),
            np.array(log_at, np.int64),
            np.array([encoder.mean[name] for name, _ in readings], np.float64),
            np.array([encoder.scale[name] for name, _ in readings], np.float64),
            np.array([readings.index(pair) for pair in pairs], np.int64),
        )

    def encode(self, raw: Raw) -> npt.NDArray[np.float32]:
        """[n, features] float32 from the raw numbers."""
        whole = np.ascontiguousarray(raw)
        logs = floored(whole, self.logs)
        np.log1p(logs, out=logs)
        return scaled(whole, logs, self.columns, self.hows, self.log_at, self.mean, self.scale, self.asked, BOUND)


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
        self._refuse_misfit()
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

    def _refuse_misfit(self) -> None:
        """A list that is packed into more or fewer columns than it has would be written beyond them."""
        for name, at in ({} if self._packing is None else self._packing.arrays[ITEM_IDS]).items():
            length = 1 if name in self._words else self._lists.get(name, ("", 0))[1]
            if at.word != (name in self._words) or at.end - at.begin != length:
                raise ReleaseRefused(
                    f"the packing has {name} in columns {at.begin} to {at.end - 1} of {ITEM_IDS}; the encoder gives {length}"
                )

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
        self.catch_up()
        out: dict[str, Tensor] = {}
        for name in self._words:
            into = np.empty((len(pool.rows), 1), np.int64)
            self._word(name, pool, surface, into, 0)
            out[name] = into[:, 0]
        for name, (_, length) in self._lists.items():
            out[name] = np.empty((len(pool.rows), length), np.int64)
            self._tags(name, pool, out[name], 0)
        for name, plan in self._numbers.items():
            out[name] = plan.encode(raw)
        return out

    def inputs(self, pool: Pool, raw: Raw, surface: Surface) -> dict[str, Tensor]:
        """The item's side of the ranker's inputs: packed as the release says, else by named tensors."""
        if self._packing is None or self._packed is None:
            return self.encode(pool, raw, surface)
        self.catch_up()
        ids = np.empty((len(pool.rows), self._packing.width(ITEM_IDS)), np.int32)
        for name, at in self._packing.arrays[ITEM_IDS].items():
            if at.word:
                self._word(name, pool, surface, ids, at.begin)
            else:
                self._tags(name, pool, ids, at.begin)
        return {ITEM_IDS: ids, ITEM_NUM: self._packed.encode(raw)}

    def _word(self, name: str, pool: Pool, surface: Surface, into: Tensor, column: int) -> None:
        feature = self._words[name]
        if feature == KEY:
            items, makers = self._items[name].array, self._makers[name].array
            look_up_key(pool.rows, pool.makers, pool.kinds, LIVE, items, makers, into, column)
        elif feature == CREATOR:
            look_up(pool.makers, self._makers[name].array, into, column)
        elif feature == "item.content_type":
            into[:, column] = self._kinds[name].take(pool.kinds)
        elif feature == "context.surface":
            into[:, column] = self._vocabulary[name].get(str(surface), 0)
        else:
            held = self._columns.held
            word_of = held.category if feature == "item.category" else held.language
            look_up_word(pool.rows, word_of, self._by_word[name].array, into, column)

    def _tags(self, name: str, pool: Pool, into: Tensor, column: int) -> None:
        table, length = self._by_word[name].array, self._lists[name][1]
        held = self._columns.held
        for place in look_up_tags(pool.rows, held.tags, held.own_tags, table, into, column, length).tolist():
            every = self._columns.many_tags.get(int(pool.rows[place]), ())[:length]
            for at, word in enumerate(every, column):
                into[place, at] = table[word] if word < len(table) else 0


def attach(encoder: Encoder, catalogue: Catalogue) -> Codes:
    """Codes of a release that follow the catalogue; `detach` them when the release goes."""
    codes = Codes(encoder, catalogue)
    catalogue.attach(codes)
    codes.fill()
    return codes
