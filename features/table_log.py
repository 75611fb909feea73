"""What a Delta table's own log says: which versions can still be read, and which statistics name people.

A writer adds the smallest and largest value of each column of a file to the log: of a text column these are ids. Our tables
keep such statistics of numbers and times alone; `redact` takes the others out of logs that have them, and the predicates of
deletes. It rewrites log entries and never removes one: a writer with an old handle would take the gap for the next version.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from features.errors import TablesUnavailable, VersionGone

STATISTICS = "delta.dataSkippingStatsColumns"
_COMMIT = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint.*\.parquet$")


def statistics_columns(schema: pa.Schema, partition: str) -> list[str]:
    """The columns whose statistics say nothing of people: numbers, times and flags."""
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_temporal, pa.types.is_boolean)
    return [f.name for f in schema if f.name != partition and any(kind(f.type) for kind in plain)]


def tables_in(lake: Path) -> list[str]:
    """The names of the tables of a lake, sorted."""
    return sorted(one.parent.name for one in lake.glob("*/_delta_log"))


def at_version(folder: Path, version: int) -> DeltaTable:
    """A table as it was at a version; VersionGone when its files or its log are gone."""
    newest = newest_version(folder)
    if 0 <= version <= newest:
        try:
            found = DeltaTable(folder, version=version)
        except (DeltaError, OSError):
            found = None  # its log does not reach back so far
        if found is not None and not missing_files(found, folder):
            return found
    raise VersionGone(
        f"version {version} of the table {folder.name} cannot be read (vacuum, log retention or forgetting took it, or it "
        f"never was); the versions {oldest_readable(folder)} to {newest} can"
    )


def newest_version(folder: Path) -> int:
    """The table's version; TablesUnavailable when it cannot be opened."""
    try:
        return int(DeltaTable(folder).version())
    except (DeltaError, OSError) as error:
        raise TablesUnavailable(f"the offline table {folder.name} could not be opened: {error}") from None


def missing_files(table: DeltaTable, folder: Path) -> list[str]:
    """Files of that version that are no longer there."""
    return [path for path in active_files(table) if not (folder / path).exists()]


def active_files(table: DeltaTable) -> set[str]:
    """Paths, below the table's folder, of the files that this version consists of."""
    return set(pa.table(table.get_add_actions())["path"].to_pylist())


def oldest_readable(folder: Path) -> int:
    """The first version from which on every version can be read."""
    commits = dict(_files(folder, _COMMIT))
    for version in sorted(commits, reverse=True):
        for action in _actions(commits[version]):
            removed = action.get("remove")
            if removed and not (folder / removed["path"]).exists():
                return version
    if 0 in commits:
        return 0
    return min((version for version, _ in _files(folder, _CHECKPOINT)), default=max(commits, default=0))


def redact(folder: Path, *, allowed: set[str]) -> int:
    """Take statistics of other columns than `allowed`, and predicates, out of the log; how many of its files changed."""
    changed = sum(_redact_commit(path, allowed) for _, path in _files(folder, _COMMIT))
    return changed + _drop_checkpoints(folder, allowed)


def _redact_commit(path: Path, allowed: set[str]) -> bool:
    before = path.read_bytes()
    lines = [json.loads(line) for line in before.splitlines() if line.strip()]
    cleaned = [_clean(action, allowed) for action in lines]
    if not any(cleaned):
        return False
    times = path.stat()
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(b"\n".join(json.dumps(line, separators=(",", ":")).encode() for line in lines))
        file.flush()
        os.fsync(file.fileno())
    os.utime(draft, ns=(times.st_atime_ns, times.st_mtime_ns))  # log retention goes by it
    draft.replace(path)
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of the old text
    path.with_suffix(".crc").unlink(missing_ok=True)  # Spark's summary of the version may list files with statistics
    return True


def _clean(action: dict[str, Any], allowed: set[str]) -> bool:
    """Redact one action in place; whether anything had to go."""
    told = (action.get("commitInfo") or {}).get("operationParameters") or {}
    operation = (action.get("commitInfo") or {}).get("operation")
    changed = operation in ("DELETE", "UPDATE", "MERGE") and told.pop("predicate", None) is not None
    for kind in ("add", "remove"):
        body = action.get(kind)
        if body and body.get("stats"):
            stats = json.loads(body["stats"])
            if _named(stats, allowed):
                body["stats"] = json.dumps(_plain(stats, allowed), separators=(",", ":"))
                changed = True
    return changed


def _named(stats: dict[str, Any], allowed: set[str]) -> bool:
    return any(set(stats.get(bound) or {}) - allowed for bound in ("minValues", "maxValues"))


def _plain(stats: dict[str, Any], allowed: set[str]) -> dict[str, Any]:
    for bound in ("minValues", "maxValues"):
        stats[bound] = {name: value for name, value in (stats.get(bound) or {}).items() if name in allowed}
    return stats


def _drop_checkpoints(folder: Path, allowed: set[str]) -> int:
    """Remove checkpoints that hold statistics of text, once a newer one stands for them."""
    old = [path for _, path in _files(folder, _CHECKPOINT) if _checkpoint_names(path, allowed)]
    if not old:
        return 0
    table = DeltaTable(folder)
    table.create_checkpoint()
    newest = f"{table.version():020}"
    gone = [path for path in old if not path.name.startswith(newest)]
    for path in gone:
        path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
    return len(gone)


def _checkpoint_names(path: Path, allowed: set[str]) -> bool:
    added = pq.read_table(path, columns=["add"])["add"].combine_chunks()
    stats = [(one or {}).get("stats") for one in added.to_pylist()]
    return any(_named(json.loads(text), allowed) for text in stats if text)


def _files(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    """The log's files of one kind, each with its version."""
    try:
        found = [(pattern.match(path.name), path) for path in (folder / "_delta_log").iterdir()]
    except OSError as error:
        raise TablesUnavailable(f"the log of the table {folder.name} could not be read: {error}") from None
    return [(int(match.group(1)), path) for match, path in found if match]


def _actions(path: Path) -> Iterator[dict[str, Any]]:
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return  # log retention took it meanwhile
    yield from (json.loads(line) for line in body.splitlines() if line.strip())
