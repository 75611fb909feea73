"""The offline store: Delta Lake tables through delta-rs; rows and log offsets go into one commit.

Readers go through the table's log (files of a killed writer lie beside it and are not part of it). Times are UTC, deletion
vectors are off: delta-rs's Arrow reader refuses them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from events.tables import SCHEMAS, to_arrow
from events.topics import TOPICS, topic
from features.erased import ErasedPeople
from features.errors import FeaturesError, LockHeld
from features.errors import TablesUnavailable as TablesUnavailable
from features.table_lock import appending, upkeep
from features.table_log import STATISTICS, at_version, statistics_columns

PARTITION_COLUMN = "event_date"
COMMIT_RETRIES = 50  # against compaction and deletes beside us; a rival with our name is refused at once
PROBE = 16  # log partitions asked for at a time when the caller does not name them
_SCHEMA_OF_TABLE = {one.table: SCHEMAS[one.name] for one in TOPICS.values()}


class Fenced(FeaturesError):
    """Another writer of the same name has moved a partition's offset: drop the rows and start again from the table."""


class DeltaTables:
    """The tables below one folder, `<lake>/<table>`; it remembers the offsets it started from and refuses to pass a rival."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._open: dict[str, DeltaTable] = {}
        self._mine: dict[tuple[str, str, int], int | None] = {}
        self._erased = ErasedPeople(lake)

    def path(self, table: str) -> Path:
        """The folder of a table."""
        return self._lake / table

    def progress(
        self, topic_name: str, *, app: str = "collector", partitions: Iterable[int] | None = None
    ) -> dict[int, int]:
        """Next log offset to store by partition, empty for a missing table; the writer continues from what it returns."""
        table = self._fresh(topic(topic_name).table)
        if table is None:
            return {}
        found = {number: self._stored(table, app, number) for number in _numbers(table, app, partitions)}
        self._mine.update({(topic_name, app, number): offset for number, offset in found.items()})
        return {number: offset for number, offset in found.items() if offset is not None}

    def append(
        self, topic_name: str, rows: Sequence[Mapping[str, Any]], *, offsets: Mapping[int, int], app: str = "collector"
    ) -> None:
        """Add rows and set the next offsets by partition in one commit; Fenced when a rival got there first.

        Columns that an older table lacks are added to it. Rows that name an erased person are left out: tombstones are read
        after the handle, so that forgetting, which writes them before it moves the table on, misses no row.
        """
        name = topic(topic_name).table
        data = to_arrow(topic_name, rows)
        for _ in range(COMMIT_RETRIES):
            try:
                with appending(self._lake, name):
                    self._append_once(name, topic_name, data, app, offsets)
            except CommitFailedError:
                self._open.pop(name, None)  # a delete, a compaction or a rival: look again at a fresh handle
                continue
            except LockHeld as error:
                raise TablesUnavailable(f"the offline table {name} could not be written: {error}") from None
            except (DeltaError, OSError) as error:
                self._open.pop(name, None)
                raise TablesUnavailable(f"the offline table {name} could not be written: {error}") from None
            self._mine.update({(topic_name, app, number): offset for number, offset in offsets.items()})
            return
        raise TablesUnavailable(
            f"the offline table {name} could not be written: {COMMIT_RETRIES} commits in a row lost a race"
        )

    def _append_once(self, name: str, topic_name: str, data: pa.Table, app: str, offsets: Mapping[int, int]) -> None:
        table = self._fresh(name) or self._create(name)
        self._refuse_rival(table, topic_name, app, offsets)
        rows = self._erased.without(data)
        merge = "merge" if _columns(table) != set(data.column_names) else None
        write_deltalake(table, rows, mode="append", schema_mode=merge, commit_properties=_transactions(app, offsets))

    def _refuse_rival(self, table: DeltaTable, topic_name: str, app: str, offsets: Mapping[int, int]) -> None:
        for number in offsets:
            stored, mine = self._stored(table, app, number), self._mine.get((topic_name, app, number))
            if stored != mine:
                raise Fenced(f"{topic_name}/{number} stands at offset {stored}, but this writer left it at {mine}")

    @staticmethod
    def _stored(table: DeltaTable, app: str, number: int) -> int | None:
        try:
            found: int | None = table.transaction_version(f"{app}-{number}")
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {table.table_uri} could not be read: {error}") from None
        return found

    def version(self, table: str) -> int | None:
        """The table's version, None when it does not exist."""
        found = self._fresh(table)
        return None if found is None else int(found.version())

    def read(
        self, table: str, *, columns: Sequence[str] | None = None, dates: Sequence[date] | None = None,
        where: ds.Expression | None = None, version: int | None = None,
    ) -> pa.Table:  # fmt: skip
        """The rows of a table: those columns, those event dates, and what `where` keeps; empty for a missing table.

        Columns that the table does not have yet are null. With `version`, as the table was then: VersionGone when that can
        no longer be read.
        """
        found = self._fresh(table) if version is None else at_version(self.path(table), version)
        schema = _SCHEMA_OF_TABLE.get(table, pa.schema([]))
        if found is None:
            empty = schema.empty_table()
            return empty if columns is None else empty.select([name for name in columns if name in schema.names])
        keep = where
        if dates is not None:
            on_dates = ds.field(PARTITION_COLUMN).isin(pa.array(list(dates), pa.date32()))
            keep = on_dates if where is None else on_dates & where
        try:
            rows = found.to_pyarrow_dataset()
            wanted = [*rows.schema.names, *schema.names] if columns is None else columns
            held = [name for name in dict.fromkeys(wanted) if name in rows.schema.names or name not in schema.names]
            return with_columns(rows.to_table(columns=held, filter=keep), list(dict.fromkeys(wanted)), schema)
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {table} could not be read: {error}") from None

    def dates(self, table: str) -> list[date]:
        """The event dates that have rows, sorted."""
        found = self._fresh(table)
        parts = [] if found is None else found.partitions()
        return sorted(date.fromisoformat(str(part[PARTITION_COLUMN])) for part in parts if part[PARTITION_COLUMN])

    def files(self, table: str) -> int:
        """How many files the table consists of: what compaction reduces."""
        found = self._fresh(table)
        return 0 if found is None else len(found.file_uris())

    def compact(self, table: str, *, wait_s: float = 0.0) -> bool:
        """Join small files; whether it could: a race that it loses costs nothing, nor does a lock that is held.

        Appends beside it go on. It waits for the lock of upkeep for `wait_s` wall seconds.
        """
        found = self._fresh(table)
        if found is None:
            return False
        try:
            with upkeep(self._lake, "compaction", wait_s=wait_s):
                found.update_incremental()  # what was done while it waited
                found.optimize.compact()
        except LockHeld:
            return False  # the next time will do
        except CommitFailedError:
            self._open.pop(table, None)  # somebody deleted
            return False
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {table} could not be compacted: {error}") from None
        return True

    def _fresh(self, name: str) -> DeltaTable | None:
        """The table at its newest version, None when there is none."""
        try:
            if name not in self._open:
                if not (self.path(name) / "_delta_log").is_dir():
                    return None
                self._open[name] = DeltaTable(self.path(name))
            else:
                self._open[name].update_incremental()
        except TableNotFoundError:
            self._open.pop(name, None)
            return None
        except (DeltaError, OSError) as error:
            self._open.pop(name, None)
            raise TablesUnavailable(f"the offline table {name} could not be opened: {error}") from None
        return self._open[name]

    def _create(self, name: str) -> DeltaTable:
        try:
            self._open[name] = DeltaTable.create(
                self.path(name),
                _SCHEMA_OF_TABLE[name],
                mode="ignore",
                partition_by=[PARTITION_COLUMN],
                configuration={
                    "delta.enableDeletionVectors": "false",
                    STATISTICS: ",".join(statistics_columns(_SCHEMA_OF_TABLE[name], PARTITION_COLUMN)),
                },
            )
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {name} could not be created: {error}") from None
        return self._open[name]


def with_columns(rows: pa.Table, names: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The rows with exactly these columns, in this order; those they lack are null, of their type in `schema`."""
    for name in names:
        if name not in rows.column_names:
            rows = rows.append_column(schema.field(name), pa.nulls(rows.num_rows, schema.field(name).type))
    return rows.select(list(names))


def _columns(table: DeltaTable) -> set[str]:
    return {one.name for one in table.schema().fields}


def _transactions(app: str, offsets: Mapping[int, int]) -> CommitProperties:
    return CommitProperties(
        app_transactions=[Transaction(f"{app}-{number}", offset) for number, offset in offsets.items()],
        max_commit_retries=COMMIT_RETRIES,
    )


def _numbers(table: DeltaTable, app: str, partitions: Iterable[int] | None) -> list[int]:
    """The log partitions to ask for: the caller's, or blocks of sixteen until one has no offset."""
    if partitions is not None:
        return list(partitions)
    out: list[int] = []
    for block in count():
        numbers = range(block * PROBE, (block + 1) * PROBE)
        if not any(DeltaTables._stored(table, app, number) is not None for number in numbers):
            break
        out.extend(numbers)
    return out
