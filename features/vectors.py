"""An item's numbers as the ranker reads them, packed to a fixed size: 500 candidates are one MGET and one np.frombuffer.

Layout, little endian: the numbers of NAMES as float32, NaN for none, then the publish time as float64. float32 has steps of
two minutes at today's epoch seconds, too coarse for an age in hours that training computes from the whole time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.definitions import Entity
from features.state import EntityState, values

ITEM = (
    "duration_s", "views_1h", "play_count_24h", "plays", "satisfaction", "like_ratio", "completion_rate", "avg_watch_s",
    "current_viewers", "interactions_15m", "published_at",
)  # fmt: skip
CREATOR = ("subscribers", "plays", "satisfaction")
NAMES: tuple[str, ...] = (*(f"item.{name}" for name in ITEM), *(f"creator.{name}" for name in CREATOR))
_ROW = np.dtype([("numbers", "<f4", (len(NAMES),)), ("published_at", "<f8")])
SIZE = _ROW.itemsize  # bytes a vector


class Vectors(NamedTuple):
    """Unpacked: `numbers` float32 [n, F] in the order of NAMES, `published_at` float64 [n] epoch seconds; NaN: none."""

    numbers: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    published_at: npt.NDArray[np.float64]


def pack(item: Mapping[str, Any], creator: Mapping[str, Any]) -> bytes:
    """SIZE bytes from an item's and its creator's values by name, as `features.state.values` returns them."""
    published = _number(item["published_at"])
    row = np.zeros((), _ROW)
    row["numbers"] = [*(_number(item[name]) for name in ITEM), *(_number(creator[name]) for name in CREATOR)]
    row["published_at"] = published
    return row.tobytes()


def unpack(vectors: Sequence[bytes | None]) -> Vectors:
    """Rows in the order given; one that is missing, or was packed by other definitions (another size), is all NaN."""
    rows = np.frombuffer(b"".join([one if one and len(one) == SIZE else _NOTHING for one in vectors]), _ROW)
    return Vectors(rows["numbers"], rows["published_at"])


def packed(item: EntityState, creator: EntityState, *, now: float) -> bytes:
    """The vector of an item's and its creator's states as of `now` (epoch seconds)."""
    return pack(values(Entity.ITEM, item, now), values(Entity.CREATOR, creator, now))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _nothing() -> bytes:
    row = np.zeros((), _ROW)
    row["numbers"], row["published_at"] = np.nan, np.nan
    return row.tobytes()


_NOTHING = _nothing()
