"""Erasing a person for good, in every place that a process of the platform writes; the stages in their order.

The tombstone comes first and makes her stay away: from then on collectors drop her events, however often the log is read.
Then everything that may still be on its way (a poll, a flush, a commit) is given `settle_s`; what takes longer is caught by
the fence (features/forget.py). The order stands in the profiles table (`profile_erased`) until everything else is done, so a
run that was killed at any step is finished by the next; each step does nothing the second time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from events.clock import Clock, utc
from events.dead_letters import names
from events.kafka_erase import erase_dead_letters, retention_days
from events.topics import DEAD_LETTERS, PROFILES, TOPICS
from features.erased import ASKED, ERASED, TABLE, ErasedPeople
from features.forget import TableErasure, forget_in_table
from features.store import OnlineStore
from features.table_lock import no_builds, upkeep
from features.table_log import tables_in
from features.tables import DeltaTables
from serving.spool import erase_lines

Report = Callable[[str], None]
WAIT_S = 600.0  # for builds and upkeep under way


@dataclass(frozen=True)
class Places:
    """Where a person may be found."""

    lake: Path
    store: OnlineStore
    kafka: str  # address of the broker
    spools: tuple[Path, ...] = ()  # files of events that wait to be sent
    models: tuple[Path, ...] = ()  # folders of candidates and releases: only looked at


def places_under(var: Path, *, lake: Path, store: OnlineStore, kafka: str) -> Places:
    """The places of a platform whose state lies in `var`: its spool, its candidates and releases."""
    models = [one for root in ("candidates", "releases") for one in sorted((var / root).glob("*/"))]
    return Places(lake, store, kafka, (var / "spool" / "impressions.jsonl",), tuple(models))


@dataclass(frozen=True)
class Forgotten:
    """What was removed, by place, and what goes by itself, in words."""

    removed: dict[str, int]
    ages_out: tuple[str, ...]
    complete: bool  # False: files were being written that could not be looked into; run it again


def forget(
    user_id: str, places: Places, *, clock: Clock, settle_s: float, report: Report, wait_s: float = WAIT_S
) -> Forgotten:
    """Erase a person, as viewer, creator and host. LockHeld when a build or upkeep takes longer than `wait_s`.

    TablesUnavailable, StoreUnavailable and LogUnavailable leave it half done: run it again.
    """
    people = ErasedPeople(places.lake)
    if people.add(user_id, ASKED, at=utc(clock.now())):
        report("tombstone written: her events are dropped from now on")
    with no_builds(places.lake, "forgetting", wait_s=wait_s), upkeep(places.lake, "forgetting", wait_s=wait_s):
        report(f"waiting {settle_s:g} s for what is on its way")
        time.sleep(settle_s)
        removed = {str(path): erase_lines(path, user_id) for path in places.spools}
        removed["dead letters"] = erase_dead_letters(places.kafka, names(user_id)).removed
        erased = [_from_table(places.lake, name, user_id, report) for name in _tables(places.lake)]
        removed |= {f"table {one.table}": one.removed for one in erased}
        removed["online store"] = places.store.erase_user(user_id)
    complete = not any(one.unread for one in erased)
    if complete:
        people.add(user_id, ERASED, at=utc(clock.now()))
    return Forgotten(removed, _ages_out(user_id, places), complete)


def pending(lake: Path) -> list[str]:
    """Ids of the people whose `profile_erased` is in the profiles table: their erasure was asked for and is not done."""
    asked = pc.field("type") == "profile_erased"
    rows = DeltaTables(lake).read(TOPICS[PROFILES].table, columns=["user_id"], where=asked)
    return sorted(set(rows["user_id"].to_pylist()))


def _tables(lake: Path) -> list[str]:
    """Every table but the tombstones; profiles, which hold the order, at the end."""
    last = TOPICS[PROFILES].table
    found = [name for name in tables_in(lake) if name not in (TABLE, last)]
    return found + [last] * (lake / last).is_dir()


def _from_table(lake: Path, table: str, user_id: str, report: Report) -> TableErasure:
    done = forget_in_table(lake, table, user_id)
    report(
        f"table {table}: {done.rows} rows, {done.names} names in others' rows, {done.files} files of old versions, "
        f"{done.log_files} log entries"
    )
    return done


def _ages_out(user_id: str, places: Places) -> tuple[str, ...]:
    """What is not ours to delete, and when it goes."""
    out = []
    for topic, days in retention_days(places.kafka, [*TOPICS, DEAD_LETTERS]).items():
        kept = "for ever: its retention is unlimited" if days is None else f"for at most {days:g} days"
        what = "the letters that were cut off stay on the broker's disk" if topic == DEAD_LETTERS else "events stay"
        out.append(f"topic {topic}: {what} {kept}, and are dropped when they are read")
    out.append(
        "online store: names of a host in viewers' lists, and of a viewer in a room's, until newer ones take their place; "
        "`livefeed features rebuild --replace` removes them at once, and Redis's append-only file at its next rewrite"
    )
    held = [str(folder) for folder in places.models if _names_her(folder, user_id)]
    if held:
        out.append(f"models: {', '.join(held)} learned from her and have her id, until they are retrained and deleted")
    return tuple(out)


def _names_her(folder: Path, user_id: str) -> bool:
    """Whether the encoder of a candidate or release has her id among its words."""
    encoder = folder / "encoder.json"
    return encoder.is_file() and f'"{user_id}"'.encode() in encoder.read_bytes()
