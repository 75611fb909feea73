"""The neighbour lists of a release on disk: plain numpy files that any number of processes map into memory.

A release holds `neighbours/media/` (rows of its item index) and `neighbours/hosts/` (rows of `ids.npy`), each with

    of.npy      int32   [items]      where an item's list is; -1 where too few viewers met
    rows.npy    int32   [lists, K]   neighbours, best first; -1 behind the last
    scores.npy  float16 [lists, K]   how near, above 0; 0 behind the last
    method.npy  uint8   [lists, K]   bits of what found it: 1 item-CF, 2 MF
    about.json                       counts, and a checksum of the ids that rows speak of

Per list of 50 that is 350 B: 1.05 GB where all of 3 million items have one (600 MB of it rows); an item without costs 4 B.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from registry.errors import BadNeighbours

MEDIA, HOSTS = "media", "hosts"
ITEM_CF, MF = 1, 2
IDS, ABOUT = "ids.npy", "about.json"
_ARRAYS = {"of": np.int32, "rows": np.int32, "scores": np.float16, "method": np.uint8}


class About(Struct, frozen=True, kw_only=True):
    """What the arrays must agree with."""

    items: int
    lists: int
    k: int
    ids_crc32: int  # of the ids in row order, as `ids_checksum` says


@dataclass(frozen=True)
class NeighbourLists:
    """The lists of one kind of thing; `ids` is empty where rows are those of the item index."""

    of: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float16]
    method: npt.NDArray[np.uint8]
    ids: tuple[str, ...] = ()
    ids_crc32: int = 0

    @staticmethod
    def none() -> "NeighbourLists":
        """No lists at all."""
        arrays = {name: np.zeros(0 if name == "of" else (0, 0), kind) for name, kind in _ARRAYS.items()}
        return NeighbourLists(**arrays)  # type: ignore[arg-type]

    def save(self, folder: Path) -> list[Path]:
        """Write the files; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, kind in _ARRAYS.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(getattr(self, name), kind))
        if self.ids:
            np.save(folder / IDS, np.array(self.ids, np.str_))
        about = About(items=len(self.of), lists=len(self.rows), k=self.rows.shape[1], ids_crc32=self.ids_crc32)
        (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
        return sorted(folder.iterdir())

    @staticmethod
    def open(folder: Path) -> "NeighbourLists":
        """Map the files into memory; none where the folder is not there, BadNeighbours where the files do not agree."""
        if not folder.is_dir():
            return NeighbourLists.none()
        try:
            about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
            ids = tuple(np.load(folder / IDS, allow_pickle=False).tolist()) if (folder / IDS).exists() else ()
        except (OSError, ValueError, EOFError, msgspec.MsgspecError) as error:
            raise BadNeighbours(f"neighbours in {folder} cannot be read: {error}") from None
        _check(folder, arrays, ids, about)
        return NeighbourLists(**arrays, ids=ids, ids_crc32=about.ids_crc32)


def ids_checksum(ids: Iterable[str]) -> int:
    """CRC-32 of ids in their order: tells whether row numbers speak of the same items."""
    found = 0
    for one in ids:
        found = zlib.crc32(one.encode() + b"\n", found)
    return found


def _check(folder: Path, arrays: dict[str, npt.NDArray[Any]], ids: tuple[str, ...], about: About) -> None:
    wanted = {"of": (about.items,)} | dict.fromkeys(("rows", "scores", "method"), (about.lists, about.k))
    for name, array in arrays.items():
        if array.shape != wanted[name] or array.dtype != _ARRAYS[name]:
            raise BadNeighbours(
                f"neighbours in {folder}: {name} is {array.dtype} {list(array.shape)}; "
                f"{np.dtype(_ARRAYS[name])} {list(wanted[name])} is needed"
            )
    if ids and (len(ids) != about.items or ids_checksum(ids) != about.ids_crc32):
        raise BadNeighbours(f"neighbours in {folder}: its ids are not those that its {about.items} rows speak of")
