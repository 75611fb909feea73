"""The online store filled from the offline tables alone equals the one the collector kept; a new feature gets its past."""

import copy
from pathlib import Path

import pytest

from collector import rebuild as r
from collector.errors import CannotRebuild
from features.definitions import Entity
from features.snapshot import look_in
from features.state import values
from features.store import MemoryStore
from tests.collector.stories import EVENING, Evening, busy_evening, published, started

LATER = EVENING + 4 * 3600.0


def everything(store: MemoryStore) -> dict[tuple[Entity, str], dict[str, object]]:
    """Every value of every entity as of an evening's end."""
    out = {}
    for entity, one in store.records:
        state = store.read(entity, [one])[0]
        out[entity, one] = values(entity, state, LATER, look_in(store, state))
    return out


@pytest.fixture
def evening(tmp_path: Path) -> Evening:
    told = Evening(tmp_path)
    busy_evening(told)
    told.collect()
    return told


@pytest.mark.parametrize("rows_a_pass", [2_000_000, 40])
def test_a_lost_online_store_is_rebuilt_from_the_tables(
    evening: Evening, rows_a_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r, "ROWS_A_PASS", rows_a_pass)
    fresh = MemoryStore()
    r.rebuild(evening.lake, fresh, report=lambda _: None)
    before = everything(evening.store)
    assert len(before) > 20 and everything(fresh) == before
    assert fresh.progress() == evening.store.progress()
    assert fresh.watermark() == evening.store.watermark()
    assert fresh.leases_of == evening.store.leases_of


def test_the_collector_goes_on_from_a_rebuilt_store(evening: Evening) -> None:
    untouched = copy.deepcopy(evening.store)
    evening.store.records.clear()
    evening.store.offsets.clear()
    r.rebuild(evening.lake, evening.store, report=lambda _: None)
    evening.send(started("after", "u1", "v1", 9_100))
    evening.collect()
    rebuilt = everything(evening.store)
    evening.store = untouched
    evening.collect()
    assert everything(evening.store) == rebuilt
    assert rebuilt[Entity.USER, "u1"]["recent_media_7d"][0] == "v1"  # type: ignore[index]


def test_a_store_in_use_is_not_rebuilt(evening: Evening) -> None:
    with pytest.raises(CannotRebuild, match="holds progress"):
        r.rebuild(evening.lake, evening.store, report=lambda _: None)


def test_a_new_feature_gets_its_past_and_leaves_the_others_alone(evening: Evening) -> None:
    before = everything(evening.store)
    for (entity, _), lanes in evening.store.records.items():
        for record in lanes.values():
            if entity is Entity.USER:
                record.state.pop("avg_session_duration", None)
    assert everything(evening.store) != before
    assert r.backfill(evening.lake, evening.store, "user.avg_session_duration", report=lambda _: None) > 0
    assert everything(evening.store) == before


def test_backfill_waits_until_both_stores_have_the_same(evening: Evening) -> None:
    evening.send(published("new", 9_200))
    work = evening.collector()
    work.take(work.poll() or work.poll())
    work.flush()
    with pytest.raises(CannotRebuild, match="start the collector and stop it"):
        r.backfill(evening.lake, evening.store, "item.plays", report=lambda _: None)


def test_an_unknown_feature_is_refused_by_name(evening: Evening) -> None:
    with pytest.raises(CannotRebuild, match=r"no feature 'item\.play'; allowed are .*item\.plays"):
        r.backfill(evening.lake, evening.store, "item.play", report=lambda _: None)
