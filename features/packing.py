"""Encoded tensors packed into four arrays: a request to the ranker costs by the tensor as well as by the byte.

Ids go as int32 (an encoder's indices fit), numbers as float32; which columns hold which tensor follows from the encoder's
configuration and stands in the release's packing.json. The proxy packs and the exported model unpacks by the same columns.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, EncoderConfig, Tensor
from features.errors import BadEncoder

FORMAT = 1
PACKING = "packing.json"  # in a release's folder; a release without it serves named tensors only
USER_IDS, USER_NUM, ITEM_IDS, ITEM_NUM = "user_ids", "user_num", "item_ids", "item_num"
USER_ARRAYS, ITEM_ARRAYS = (USER_IDS, USER_NUM), (ITEM_IDS, ITEM_NUM)
DTYPES: dict[str, type[np.generic]] = {
    USER_IDS: np.int32, USER_NUM: np.float32, ITEM_IDS: np.int32, ITEM_NUM: np.float32,
}  # fmt: skip


class Columns(NamedTuple):
    """Columns [begin, end) of an array; `word` says that the tensor has no axis of columns: one word a row."""

    begin: int
    end: int
    word: bool


@dataclass(frozen=True)
class Packing:
    """Array name -> tensor name -> the columns that hold it."""

    arrays: Mapping[str, Mapping[str, Columns]]

    def width(self, array: str) -> int:
        """Columns of an array."""
        return max((columns.end for columns in self.arrays[array].values()), default=0)

    def pack_user(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """USER_TENSORS of n viewers as user_ids int32 [n, U] and user_num float32 [n, F]."""
        return {name: self._pack(name, tensors) for name in USER_ARRAYS}

    def pack_items(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ITEM_TENSORS and STATS_TENSORS of n items as item_ids int32 [n, W] and item_num float32 [n, F]."""
        return {name: self._pack(name, tensors) for name in ITEM_ARRAYS}

    def unpack(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors that packed arrays hold, by slicing alone: of numpy arrays and of TensorFlow's alike."""
        return {
            tensor: array[:, at.begin] if at.word else array[:, at.begin : at.end]
            for name, array in arrays.items()
            for tensor, at in self.arrays[name].items()
        }

    def _pack(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        columns = self.arrays[name]
        rows = len(tensors[next(iter(columns))])
        out = np.empty((rows, self.width(name)), DTYPES[name])
        for tensor, at in columns.items():
            if at.word:
                out[:, at.begin] = tensors[tensor]
            else:
                out[:, at.begin : at.end] = tensors[tensor]
        return out

    def save(self, path: Path) -> None:
        """Write as JSON."""
        body = {name: {tensor: list(at) for tensor, at in columns.items()} for name, columns in self.arrays.items()}
        path.write_text(json.dumps({"format": FORMAT, "arrays": body}, indent=1), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "Packing":
        """Read what `save` wrote; BadEncoder names the file."""
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["format"] != FORMAT:
                raise BadEncoder(f"packing {path} has format {body['format']}; this version reads {FORMAT}")
            return Packing({name: _columns(body["arrays"][name]) for name in (*USER_ARRAYS, *ITEM_ARRAYS)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadEncoder(f"packing {path} cannot be read: {error}") from None


def packing_of(config: EncoderConfig) -> Packing:
    """The packing that an encoder's configuration leads to: tensors in the order of USER, ITEM and STATS_TENSORS."""
    items = (*ITEM_TENSORS, *STATS_TENSORS)
    return Packing(
        {
            USER_IDS: _ids(config, USER_TENSORS), USER_NUM: _numbers(config, USER_TENSORS),
            ITEM_IDS: _ids(config, items), ITEM_NUM: _numbers(config, items),
        }
    )  # fmt: skip


def _ids(config: EncoderConfig, tensors: Iterable[str]) -> dict[str, Columns]:
    widths = {name: config.lists[name][1] if name in config.lists else 0 for name in tensors}
    return _laid_out({name: width for name, width in widths.items() if name in config.words or width})


def _numbers(config: EncoderConfig, tensors: Iterable[str]) -> dict[str, Columns]:
    return _laid_out({name: len(config.numbers[name]) for name in tensors if name in config.numbers})


def _laid_out(widths: Mapping[str, int]) -> dict[str, Columns]:
    """Tensors side by side in the order given; width 0 means a word, one column."""
    out: dict[str, Columns] = {}
    begin = 0
    for name, width in widths.items():
        out[name] = Columns(begin, begin + (width or 1), width == 0)
        begin = out[name].end
    return out


def _columns(body: Mapping[str, Any]) -> dict[str, Columns]:
    out = {}
    for tensor, (begin, end, word) in body.items():
        if not (isinstance(begin, int) and isinstance(end, int) and isinstance(word, bool) and 0 <= begin < end):
            raise ValueError(f"tensor {tensor} has columns {[begin, end, word]}")
        out[tensor] = Columns(begin, end, word)
    return out
