"""Who was erased: the tombstones, a small Delta table `erased` of SHA-256 hashes of ids, read cheaply and often.

A person's state goes from `asked` (her events are dropped from now on) to `erased` (nothing of her is left). The hash has no
salt, since whoever reads the log must recognise her from it: it cannot be turned back into an id that nobody can guess, and
confirms one that somebody can.
"""

import hashlib
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from features.errors import TablesUnavailable

TABLE = "erased"
ASKED, ERASED = "asked", "erased"
SCHEMA = pa.schema([("person", pa.string()), ("state", pa.string()), ("at", pa.timestamp("us", tz="UTC"))])
# The columns that name a person: as viewer, as creator, as host, and as the item key of a host's rooms.
NAMES_A_PERSON = ("user_id", "creator_id", "streamer_id", "item_key")
REMEMBERED = 200_000  # ids whose answer is kept until the tombstones change


def hash_of(user_id: str) -> str:
    """What a tombstone keeps of an id."""
    return hashlib.sha256(user_id.encode()).hexdigest()


class ErasedPeople:
    """The tombstones of a lake, as of the last `refresh`."""

    def __init__(self, lake: Path) -> None:
        self._folder = lake / TABLE
        self._newest = ""
        self._state: dict[str, str] = {}
        self._answers: dict[str, str | None] = {}

    def __len__(self) -> int:
        return len(self._state)

    def refresh(self) -> bool:
        """Read again if the table has changed; whether it had. TablesUnavailable when it cannot be read."""
        try:
            newest = max((n for n in os.listdir(self._folder / "_delta_log") if n.endswith(".json")), default="")  # noqa: PTH208 - names alone, every second
        except FileNotFoundError:
            return False
        if newest == self._newest:
            return False
        try:
            rows = DeltaTable(self._folder).to_pyarrow_table().to_pylist()
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the table of erased people {self._folder} could not be read: {error}") from None
        self._state = {row["person"]: ASKED for row in rows}
        self._state |= {row["person"]: ERASED for row in rows if row["state"] == ERASED}
        self._newest = newest
        self._answers.clear()
        return True

    def state(self, user_id: str) -> str | None:
        """`asked` or `erased`; None for everybody else."""
        if not self._state:
            return None
        if user_id in self._answers:
            return self._answers[user_id]
        if len(self._answers) >= REMEMBERED:
            self._answers.clear()
        found = self._answers[user_id] = self._state.get(hash_of(user_id))
        return found

    def __contains__(self, user_id: str) -> bool:
        return self.state(user_id) is not None

    def add(self, user_id: str, state: str, *, at: datetime) -> bool:
        """Write a tombstone and return True, unless it is there (or a later one): then False; durable on return."""
        self.refresh()
        if self.state(user_id) in (state, ERASED):
            return False
        row = pa.Table.from_pylist([{"person": hash_of(user_id), "state": state, "at": at}], schema=SCHEMA)
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            write_deltalake(self._folder, row, mode="append")
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(
                f"the table of erased people {self._folder} could not be written: {error}"
            ) from None
        self.refresh()
        return True

    def without(self, rows: pa.Table) -> pa.Table:
        """Rows less those that name an erased person, as of now: the table is looked at again."""
        self.refresh()
        if not self._state:
            return rows
        keep = pa.chunked_array([pa.array([True] * rows.num_rows, pa.bool_())])
        for name in NAMES_A_PERSON:
            if name in rows.column_names and (gone := self._among(pc.unique(rows[name]).to_pylist())):
                named = pc.is_in(rows[name], value_set=pa.array(gone, rows.schema.field(name).type))
                keep = pc.and_(keep, pc.invert(named))
        return rows.filter(keep)

    def _among(self, ids: Iterable[str | None]) -> list[str]:
        return [one for one in ids if one is not None and one in self]
