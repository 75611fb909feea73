"""One person out of one offline table, for good: rows, names in the rows of others, files of old versions, the table's log.

Why no append can bring her back: her tombstone is written first; then the *fence*, a commit that changes the table's
metadata, makes every append fail that began on an older version, and one that begins later reads the tombstone and leaves
her rows out (features/tables.py). So after the fence no file with her rows can be committed any more. That is also what
makes deleting files safe at any age: a file that the newest version does not use and that names her belongs to an old
version, or to a commit that will fail. Files that do not name her are left to the vacuum.

Each step does nothing when run again; a run that was killed is finished by the next.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from features.mentions import about, file_mentions, takes_out
from features.table_log import STATISTICS, active_files, redact, statistics_columns
from features.table_upkeep import attempt

FENCE = "livefeed.erasure"  # the property that a fence sets, to a value that nobody has set before


@dataclass(frozen=True)
class TableErasure:
    """What was removed from one table; `unread` files were being written and could not be looked into: run it again."""

    table: str
    rows: int = 0
    names: int = 0  # rows of others from which the name was taken out
    files: int = 0  # files of old versions and of killed writers that held her rows
    log_files: int = 0
    unread: int = 0

    @property
    def removed(self) -> int:
        """Everything that changed."""
        return self.rows + self.names + self.files + self.log_files


def forget_in_table(lake: Path, table: str, user_id: str) -> TableErasure:
    """Erase a person from a table, old versions included; the caller holds the lake's lock of upkeep.

    Versions before this one can no longer be read where one of their files is gone.
    """
    folder = lake / table
    schema, allowed = attempt(folder, _schema), attempt(folder, _allowed)
    fenced_at = _fence(folder, allowed)
    rows = names = 0
    if predicate := about(schema, user_id):
        rows = int(attempt(folder, lambda t: t.delete(predicate))["num_deleted_rows"])
    where, updates = takes_out(schema, user_id)
    if updates:
        names = int(attempt(folder, lambda t: t.update(updates=updates, predicate=where))["num_updated_rows"])
    files, unread = _remove_files(folder, user_id, fenced_at)
    return TableErasure(table, rows, names, files, redact(folder, allowed=set(allowed)), unread)


def _schema(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def _allowed(table: DeltaTable) -> list[str]:
    return statistics_columns(_schema(table), next(iter(table.metadata().partition_columns), ""))


def _fence(folder: Path, allowed: list[str]) -> float:
    """Move the table on so that appends under way fail; from now on no statistics of text. When it was (epoch seconds)."""
    wanted = {FENCE: uuid.uuid4().hex, STATISTICS: ",".join(allowed)}

    def move_on(table: DeltaTable) -> int:
        table.alter.set_table_properties(wanted, raise_if_not_exists=False)
        return int(table.version())

    return (folder / "_delta_log" / f"{attempt(folder, move_on):020}.json").stat().st_mtime


def _remove_files(folder: Path, user_id: str, fenced_at: float) -> tuple[int, int]:
    """(files removed, files that could not be looked into) among those that the newest version does not use."""
    used = {Path(path).name for path in attempt(folder, active_files)}
    removed = unread = 0
    for path in sorted(folder.rglob("*.parquet*")):
        if path.name in used or path.suffix == ".crc" or "_delta_log" in path.parts:
            continue
        named = file_mentions(path, user_id)
        half_written = named is None and path.exists()
        if named or (half_written and path.stat().st_mtime < fenced_at):  # its writer's commit fails at the fence
            path.unlink(missing_ok=True)
            path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
            removed += 1
        elif half_written:
            unread += 1
    return removed, unread
