"""Tombstones: durable, recognised by whoever has the id, and no list of the ids themselves."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from features.erased import ASKED, ERASED, ErasedPeople
from features.mentions import about, mentions
from features.state import pair_id

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_a_tombstone_is_found_by_the_id_and_by_nobody_elses(lake: Path) -> None:
    ErasedPeople(lake).add("vera-17", ASKED, at=NOW)
    found = ErasedPeople(lake)
    found.refresh()
    assert ("vera-17" in found, "vera-1" in found, len(found)) == (True, False, 1)


def test_the_table_does_not_hold_the_id(lake: Path) -> None:
    ErasedPeople(lake).add("vera-17", ASKED, at=NOW)
    assert not [path for path in lake.rglob("*") if path.is_file() and b"vera-17" in path.read_bytes()]


def test_asking_twice_writes_one_tombstone_and_erased_is_never_taken_back(lake: Path) -> None:
    people = ErasedPeople(lake)
    assert [people.add("vera", state, at=NOW) for state in (ASKED, ASKED, ERASED, ERASED, ASKED)] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert people.state("vera") == ERASED


def test_another_process_s_tombstone_is_seen_at_the_next_look_and_not_before(lake: Path) -> None:
    here, there = ErasedPeople(lake), ErasedPeople(lake)
    assert (here.refresh(), here.state("vera")) == (False, None)
    there.add("vera", ASKED, at=NOW)
    assert here.state("vera") is None
    assert (here.refresh(), here.state("vera"), here.refresh()) == (True, ASKED, False)


def test_rows_that_name_her_as_viewer_creator_or_host_are_left_out(lake: Path) -> None:
    people = ErasedPeople(lake)
    people.add("vera", ASKED, at=NOW)
    rows = pa.table({
        "user_id": ["vera", "otto", "otto", None, "otto"],
        "creator_id": [None, "vera", None, None, "anna"],
        "streamer_id": [None, None, "vera", None, None],
        "n": [1, 2, 3, 4, 5],
    })  # fmt: skip
    assert people.without(rows)["n"].to_pylist() == [4, 5]


def test_a_pair_names_its_viewer_whatever_her_id_holds() -> None:
    def named(pair: str, user: str) -> bool:
        return mentions(pa.table({"pair_id": [pair]}), user)

    assert named(pair_id("u|x", "c"), "u|x") and named(pair_id("u|x", "c"), "c")
    assert not named(pair_id("u|x", "c"), "u")
    assert "starts_with(pair_id, 'u\x1f1x|')" in about(pa.schema({"pair_id": pa.string()}), "u|x")
