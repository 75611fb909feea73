"""Reading offline tables at one pinned version: how many rows each day has, and the rows of some days.

Feature tables are partitioned by `as_of`, all others by `event_date`. Everything reads through the table's log, never the
folder: a collector that was killed leaves orphan files there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from events.tables import SCHEMAS
from events.topics import TOPICS
from features.errors import BadRange, NoTable, TablesUnavailable
from features.table_log import at_version, newest_version, tables_in
from features.tables import with_columns

_TOPIC_SCHEMA = {one.table: SCHEMAS[one.name] for one in TOPICS.values()}


@dataclass(frozen=True)
class PinnedTable:
    """One offline table as it was when opened; `rows` counts its rows by day, late ones and duplicates included."""

    name: str
    delta: DeltaTable
    day: str  # its partition column
    rows: Mapping[date, int] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The version it is pinned to, for time travel."""
        return int(self.delta.version())

    def read(self, dates: Collection[date], columns: Sequence[str], *, where: pc.Expression | None = None) -> pa.Table:
        """The rows of those dates that hold `where`, in no order; null in columns that are newer than the table."""
        wanted = [one.isoformat() for one in sorted(dates) if one in self.rows]
        newer = _TOPIC_SCHEMA.get(self.name, pa.schema([]))
        try:
            held = set(pa.schema(self.delta.schema().to_arrow()).names)
            there = [name for name in columns if name in held or name not in newer.names]
            if not wanted:
                rows = pa.schema(self.delta.schema().to_arrow()).empty_table().select(there)
            else:
                dated = self.delta.to_pyarrow_dataset(partitions=[(self.day, "in", wanted)])
                rows = dated.to_table(columns=there, filter=where)
            return with_columns(rows, list(columns), newer)
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {self.name} could not be read: {error}") from None

    def count(self, dates: Collection[date]) -> int:
        """How many rows those dates have."""
        return sum(self.rows.get(day, 0) for day in dates)


def open_table(lake: Path, name: str, *, version: int | None = None) -> PinnedTable | None:
    """The table `<lake>/<name>` at its newest version, or as it was: then VersionGone when that can no longer be read.

    None where there is no such table yet.
    """
    where = lake / name
    if not (where / "_delta_log").is_dir():
        return None
    try:
        delta = DeltaTable(where) if version is None else at_version(where, version)
        files = pa.table(delta.get_add_actions(flatten=True))
        (column,) = delta.metadata().partition_columns
    except (DeltaError, OSError) as error:
        raise TablesUnavailable(f"the offline table {name} could not be opened: {error}") from None
    rows: dict[date, int] = {}
    for day, count in zip(files[f"partition.{column}"].to_pylist(), files["num_records"].to_pylist(), strict=True):
        rows[day] = rows.get(day, 0) + int(count)
    return PinnedTable(name, delta, column, rows)


def versions_now(lake: Path, *, tables: Iterable[str] | None = None) -> dict[str, int]:
    """The newest version of those tables that there are (None: of all in the lake): take them first, then read at them."""
    wanted = set(tables_in(lake) if tables is None else tables)
    return {name: newest_version(lake / name) for name in tables_in(lake) if name in wanted}


def need_table(lake: Path, name: str, *, made_by: str) -> PinnedTable:
    """The table; NoTable says which command makes it."""
    table = open_table(lake, name)
    if table is None:
        raise NoTable(f"there is no table {name!r} in {lake} yet; {made_by} makes it")
    return table


def distinct(rows: pa.Table) -> pa.Table:
    """The first row of each `event_id` (of a partition, where rows say theirs): a duplicate event counts once."""
    place = pa.array(range(rows.num_rows), pa.int64())
    names = [name for name in ("event_id", "kafka_partition") if name in rows.column_names]
    firsts = rows.select(names).append_column("place", place).group_by(names).aggregate([("place", "min")])
    if firsts.num_rows == rows.num_rows:
        return rows
    kept = firsts["place_min"].combine_chunks()
    return rows.take(kept.take(pc.sort_indices(kept)))


def days(start: date, end: date) -> list[date]:
    """Every date from `start` to `end`, both included; BadRange when `end` comes first."""
    if end < start:
        raise BadRange(f"the range ends on {end}, before it starts on {start}; the end must not be earlier")
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]
