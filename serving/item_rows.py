"""One record an item: what requests read of a candidate stands side by side in memory.

A request reads a dozen things of 500 rows out of millions, none of which is in a cache. With an array a column each of
them is in a page of its own, and finding a page takes as long as reading it: records take half the time (docs/adr/0017).
One thread writes. Readers need no lock: the records are replaced only by longer copies.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.vectors import ITEM

TAGS = 8  # tags held here; the few items that have more are looked up one by one
GONE = -1  # the kind of a row that holds nothing
UNKNOWN = 0  # the row of what is not held: every number NaN, and GONE for ever
_RECORD = np.dtype(
    [
        ("kind", "i1"), ("listed", "?"), ("own_tags", "i2"), ("maker", "i4"), ("lease_until", "f8"), ("due_at", "f8"),
        ("numbers", "f8", len(ITEM)), ("category", "i4"), ("language", "i4"), ("tags", "i4", TAGS),
    ],
    align=True,
)  # fmt: skip


class Columns(NamedTuple):
    """Views of all records by field; compiled loops take them as they are, `column[rows]` copies some of one."""

    kind: npt.NDArray[np.int8]  # an index into KINDS, or GONE
    listed: npt.NDArray[np.bool_]  # whether the store listed the room as live at the last look
    own_tags: npt.NDArray[np.int16]  # how many tags the item has of its own
    maker: npt.NDArray[np.int32]  # the creator's row
    lease_until: npt.NDArray[np.float64]  # epoch seconds
    due_at: npt.NDArray[
        np.float64
    ]  # epoch seconds from when on the numbers are no longer what they were computed to be
    numbers: npt.NDArray[np.float64]  # [rows, features.vectors.ITEM], NaN for none
    category: npt.NDArray[np.int32]  # word numbers
    language: npt.NDArray[np.int32]
    tags: npt.NDArray[np.int32]  # [rows, TAGS] word numbers, 0 for none


class ItemRows:
    """The records of all items, by row."""

    def __init__(self) -> None:
        self._records = self._empty(1024)
        self.columns = self._views()

    def reach(self, row: int) -> Columns:
        """Grow until the row is there; the columns to write it to."""
        while row >= len(self._records):
            self._records = np.concatenate([self._records, self._empty(len(self._records))])
            self.columns = self._views()
        return self.columns

    def _views(self) -> Columns:
        return Columns(*(self._records[name] for name in Columns._fields))

    @staticmethod
    def _empty(rows: int) -> npt.NDArray[np.void]:
        out = np.zeros(rows, _RECORD)
        out["kind"], out["numbers"] = GONE, np.nan
        return out
