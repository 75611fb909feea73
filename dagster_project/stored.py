"""Figures of the offline store: rows by table, and what of the log did not become a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from events.dead_letters import DeadLetter
from events.topics import TOPICS
from features.offline_tables import open_table
from features.tables import DeltaTables

TRIES = 20


@dataclass(frozen=True)
class Stored:
    """One moment of the offline store: `messages` of the log it has taken in, and what became of them."""

    messages: int
    rows: int
    duplicates: int
    dead_letters: int
    rows_by_table: Mapping[str, int] = field(default_factory=dict)


def stored_figures(tables: DeltaTables, letters: list[DeadLetter]) -> Stored:
    """Every message below the tables' offsets is a row, a dead letter, or a duplicate: the rest after the other two."""
    offsets, rows = _at_rest(tables)
    messages = sum(next_offset for lane in offsets.values() for next_offset in lane.values())
    dead = sum(one.offset < offsets.get(one.topic, {}).get(one.partition, 0) for one in letters)
    total = sum(rows.values())
    return Stored(messages, total, messages - total - dead, dead, rows)


def _at_rest(tables: DeltaTables) -> tuple[dict[str, dict[int, int]], dict[str, int]]:
    """Offsets and row counts that belong together: counted between two equal readings of the offsets.

    Under steady traffic a commit may fall between the two every time; the last reading then counts a commit's rows twice
    at most, and the next run is right.
    """
    before = _offsets(tables)
    for _ in range(TRIES):
        rows = {topic.table: _rows(tables, topic.table) for topic in TOPICS.values()}
        after = _offsets(tables)
        if after == before:
            break
        before = after
    return before, rows


def _offsets(tables: DeltaTables) -> dict[str, dict[int, int]]:
    return {name: tables.progress(name) for name in TOPICS}


def _rows(tables: DeltaTables, table: str) -> int:
    where = tables.path(table)
    found = open_table(where.parent, where.name)
    return sum(found.rows.values()) if found else 0
