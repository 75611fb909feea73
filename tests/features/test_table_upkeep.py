"""Tables over years: old days go, old versions can be read until the vacuum, and compaction gives way to other upkeep."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from events import schema as s
from events.topics import ENGAGEMENT
from features.errors import LockHeld, NoTable, VersionGone
from features.offline_tables import need_table, open_table
from features.table_lock import upkeep
from features.table_upkeep import expire, vacuum, versions
from features.tables import DeltaTables
from tests.features.conftest import Store

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
TODAY = date(2026, 11, 10)


def liked(number: int, *, days_ago: int = 0) -> s.Event:
    at = NOON - timedelta(days=days_ago)
    return s.MediaLiked(event_id=f"e{number}", event_at=at, user_id="otto", item_id="film")


def published(days_ago: int) -> s.Event:
    return s.MediaPublished(
        event_id=f"m{days_ago}", event_at=NOON - timedelta(days=days_ago), item_id="film", creator_id="anna",
        content_type="VIDEO", category="music",
    )  # fmt: skip


def ids(lake: Path, table: str, version: int | None = None) -> list[str]:
    return sorted(DeltaTables(lake).read(table, version=version)["event_id"].to_pylist())


def test_days_before_the_retention_go_and_the_last_of_them_stay(lake: Path, store_events: Store) -> None:
    store_events([liked(0), liked(1, days_ago=6), liked(2, days_ago=7), liked(3, days_ago=400)])
    assert expire(lake, keep_days=7, today=TODAY) == {"engagement": 2}
    assert ids(lake, "engagement") == ["e0", "e1"]
    assert expire(lake, keep_days=7, today=TODAY) == {}


def test_a_retention_of_0_days_keeps_everything(lake: Path, store_events: Store) -> None:
    store_events([liked(0), liked(1, days_ago=4000)])
    assert expire(lake, keep_days=0, today=TODAY) == {}
    assert ids(lake, "engagement") == ["e0", "e1"]


def test_what_was_published_long_ago_is_still_in_the_catalogue(lake: Path, store_events: Store) -> None:
    store_events([published(0), published(900)])
    assert expire(lake, keep_days=7, today=TODAY) == {}
    assert ids(lake, "media") == ["m0", "m900"]


def test_an_event_of_a_clock_that_runs_years_ahead_pushes_nothing_out(lake: Path, store_events: Store) -> None:
    store_events([liked(0), liked(1, days_ago=-3000)])
    assert expire(lake, keep_days=7, today=TODAY) == {}


def test_an_old_data_set_that_is_replayed_is_kept_by_its_own_days(lake: Path, store_events: Store) -> None:
    store_events([liked(0, days_ago=3000), liked(1, days_ago=3001)])
    assert expire(lake, keep_days=7, today=TODAY) == {}


def test_offsets_outlive_expiry(lake: Path, store_events: Store) -> None:
    store_events([liked(0, days_ago=50), liked(1)])
    before = DeltaTables(lake).progress(ENGAGEMENT)
    expire(lake, keep_days=7, today=TODAY)
    assert DeltaTables(lake).progress(ENGAGEMENT) == before


def test_an_old_version_reads_as_the_table_was(lake: Path, store_events: Store) -> None:
    store_events([liked(0)])
    then = DeltaTables(lake).version("engagement")
    store_events([liked(1, days_ago=1)])
    assert ids(lake, "engagement", then) == ["e0"]
    pinned = open_table(lake, "engagement", version=then)
    assert pinned is not None and (pinned.version, dict(pinned.rows)) == (then, {TODAY: 1})


def test_a_vacuum_leaves_what_the_last_hours_need_and_takes_what_is_older(lake: Path, store_events: Store) -> None:
    store_events([liked(0), liked(1)])
    then = DeltaTables(lake).version("engagement")
    expire(lake, keep_days=1, today=TODAY)
    store_events([liked(2, days_ago=-1)])
    expire(lake, keep_days=1, today=TODAY + timedelta(days=1))
    assert vacuum(lake, keep_hours=168) == {"engagement": 0}
    assert ids(lake, "engagement", then) == ["e0", "e1"]
    assert vacuum(lake, keep_hours=0) == {"engagement": 1}
    with pytest.raises(VersionGone, match=r"version 1 of the table engagement cannot be read .* the versions 3 to"):
        DeltaTables(lake).read("engagement", version=then)
    assert ids(lake, "engagement") == ["e2"]


def test_a_version_that_never_was_is_refused(lake: Path, store_events: Store) -> None:
    store_events([liked(0)])
    with pytest.raises(VersionGone, match=r"version 99 .* the versions 0 to 1 can"):
        DeltaTables(lake).read("engagement", version=99)
    with pytest.raises(NoTable):
        need_table(lake, "samples", made_by="nobody")


def test_a_vacuum_takes_old_files_of_killed_writers_and_leaves_those_being_written(
    lake: Path, store_events: Store
) -> None:
    store_events([liked(0)])
    (used,) = (lake / "engagement").rglob("*.parquet")
    old, young = used.with_name("part-old.parquet"), used.with_name("part-young.parquet")
    for path in (old, young):
        path.write_bytes(used.read_bytes())
    os.utime(old, (0, 0))
    assert vacuum(lake, keep_hours=168) == {"engagement": 1}
    assert (used.exists(), old.exists(), young.exists()) == (True, False, True)


def test_compaction_is_skipped_while_other_upkeep_is_under_way(lake: Path, store_events: Store) -> None:
    store_events([liked(0)])
    store_events([liked(1)])
    tables = DeltaTables(lake)
    with upkeep(lake, "vacuum"):
        assert (tables.compact("engagement"), tables.files("engagement")) == (False, 2)
        with pytest.raises(LockHeld, match="vacuum"):
            expire(lake, keep_days=7, today=TODAY)
    assert (tables.compact("engagement"), tables.files("engagement")) == (True, 1)


def test_versions_says_what_can_be_read(lake: Path, store_events: Store) -> None:
    store_events([liked(0), published(0)])
    found = {one.table: one for one in versions(lake)}
    assert set(found) == {"engagement", "media"}
    one = found["engagement"]
    assert (one.newest, one.oldest, one.files) == (1, 0, 1)
    assert one.bytes == sum(path.stat().st_size for path in (lake / "engagement").rglob("*.parquet"))
