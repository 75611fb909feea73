"""Upkeep of the offline tables over years: old days go, files that no recent version needs go, versions are listed.

Each step is safe beside appends and readers, takes the lake's lock of upkeep, and may be run again at any time.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from features import erased
from features.errors import TablesUnavailable
from features.offline_tables import open_table
from features.table_lock import appends_paused, upkeep
from features.table_log import active_files, oldest_readable, tables_in

# What holds by event time however old it is (an item published years ago is still in the catalogue), and the tombstones.
KEPT_WHOLE = frozenset({"media", "profiles", erased.TABLE})
RACES = 3  # lost to appends before they are paused
ATTEMPTS = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Versions:
    """What a table consists of, and which of its versions can be read."""

    table: str
    newest: int
    oldest: int
    files: int
    bytes: int


def expire(lake: Path, *, keep_days: int, today: date, wait_s: float = 0.0) -> dict[str, int]:
    """Drop the days before the last `keep_days`, counted from a table's newest day or `today`, whichever is earlier.

    Returns the rows dropped by table; `keep_days` 0 drops nothing. Media and profiles are kept whole. An event date ahead
    of today cannot push others out.
    """
    dropped: dict[str, int] = {}
    with upkeep(lake, "expiry", wait_s=wait_s):
        for name in tables_in(lake) if keep_days else ():
            table = open_table(lake, name) if name not in KEPT_WHOLE else None
            if table is None or not table.rows:
                continue
            first = min(max(table.rows), today) - timedelta(days=keep_days - 1)
            if old := [day for day in table.rows if day < first]:
                column = table.day
                attempt(lake / name, lambda t, c=column, f=first: t.delete(f"{c} < DATE '{f.isoformat()}'"))  # type: ignore[misc]
                dropped[name] = table.count(old)
    return dropped


def vacuum(lake: Path, *, keep_hours: int, wait_s: float = 0.0) -> dict[str, int]:
    """Delete files that no version of the last `keep_hours` needs, those of killed writers among them; how many by table."""
    gone: dict[str, int] = {}
    with upkeep(lake, "vacuum", wait_s=wait_s):
        for name in tables_in(lake):
            gone[name] = len(attempt(lake / name, lambda table: _vacuum(table, keep_hours)))
    return gone


def _vacuum(table: DeltaTable, keep_hours: int) -> list[str]:
    found: list[str] = table.vacuum(
        retention_hours=keep_hours, dry_run=False, enforce_retention_duration=False, full=True
    )
    return found


def versions(lake: Path) -> list[Versions]:
    """Every table of the lake."""
    out = []
    for name in tables_in(lake):
        table = attempt(lake / name, lambda t: t)
        files = active_files(table)
        size = sum((lake / name / path).stat().st_size for path in files if (lake / name / path).exists())
        out.append(Versions(name, int(table.version()), oldest_readable(lake / name), len(files), size))
    return out


def attempt(folder: Path, change: Callable[[DeltaTable], T]) -> T:
    """Do it on the table as it is now, again whenever a writer was faster, in the end with appends paused.

    TablesUnavailable when it cannot be done.
    """
    for number in range(ATTEMPTS):
        alone = appends_paused(folder.parent, folder.name) if number >= RACES else nullcontext()
        try:
            with alone:
                return change(DeltaTable(folder))
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise TablesUnavailable(f"the offline table {folder.name} could not be changed: {error}") from None
    raise TablesUnavailable(
        f"the offline table {folder.name} could not be changed: {ATTEMPTS} commits in a row lost a race"
    )
