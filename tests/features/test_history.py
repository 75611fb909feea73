"""The past replayed: a store as of a moment, and features that no later event can have reached."""

from pathlib import Path

import pytest

import features.history as history
from events import schema as s
from features.definitions import Entity
from features.history import Ask, chunks, hydrate, store_as_of
from features.offline_tables import open_table
from features.state import values
from tests.features.conftest import Store, at


def published(item_id: str = "i1", minutes: float = -600) -> s.MediaPublished:
    return s.MediaPublished(
        event_id=f"m-{item_id}", event_at=at(minutes), item_id=item_id, creator_id="c1", content_type="VIDEO", category="jazz"
    )  # fmt: skip


def started(event_id: str, minutes: float, *, day: int = 0) -> s.MediaStarted:
    return s.MediaStarted(event_id=event_id, event_at=at(minutes, day=day), user_id="u1", item_id="i1")


def ask(event_id: str, minutes: float, *, day: int = 0) -> Ask:
    return Ask(event_id, at(minutes, day=day).timestamp(), "u1", "i1", "home", 4)


def plays(lake: Path, until: float | None) -> float:
    store = store_as_of(lake, until=until)
    return float(values(Entity.USER, store.read(Entity.USER, ["u1"])[0], at(0, day=9).timestamp())["plays"])


def test_a_store_as_of_a_moment_has_applied_only_what_came_strictly_before(lake: Path, store_events: Store) -> None:
    store_events([published(), started("a", 0), started("b", 10), started("c", 0, day=2)])
    assert plays(lake, at(10).timestamp()) == 1.0
    assert plays(lake, at(10.01).timestamp()) == 2.0
    assert plays(lake, None) == 3.0


def test_copies_count_once_and_late_events_not_at_all(lake: Path, store_events: Store) -> None:
    store_events([published(), started("a", 0), started("a", 0)])
    store_events([started("a", 0)])
    store_events([started("late", 5)], late=True)
    assert plays(lake, None) == 1.0


def test_an_empty_lake_gives_an_empty_store(lake: Path) -> None:
    assert store_as_of(lake).ids(Entity.ITEM) == []


def test_rooms_are_live_while_their_lease_runs(lake: Path, store_events: Store) -> None:
    one, two = {"streamer_id": "h1", "room_id": "r1"}, {"streamer_id": "h2", "room_id": "r2"}
    store_events([
        s.RoomOpened(event_id="o1", event_at=at(0), category="song", **one),
        s.RoomOpened(event_id="o2", event_at=at(0), category="song", **two),
        s.RoomClosed(event_id="x2", event_at=at(0.5), **two),
    ])  # fmt: skip
    store = store_as_of(lake)
    assert store.live_rooms(at(1).timestamp()) == ["r1"]
    assert store.live_rooms(at(1.5).timestamp()) == []  # 90 s and no heartbeat


def test_hydration_sees_nothing_of_the_impressions_own_instant_or_later(lake: Path, store_events: Store) -> None:
    store_events([published(), started("a", 0), started("b", 10), started("c", 20)])
    found = dict(hydrate(lake, [ask("late", 30), ask("same", 10), ask("first", -900)]))
    assert [one["user.plays"] for one in (found["first"], found["same"], found["late"])] == [0.0, 1.0, 3.0]
    assert found["first"]["item.category"] == "unknown"  # not yet published
    assert found["same"]["item.category"] == "jazz" and found["same"]["context.position"] == 4.0


def test_hydration_is_the_same_however_history_is_cut_into_chunks(
    lake: Path, store_events: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_events([published(), *(started(f"e{n}", n % 7, day=n % 5) for n in range(40))])
    asks = [ask(f"i{day}", 3, day=day) for day in range(5)]
    whole = dict(hydrate(lake, asks))
    table = open_table(lake, "engagement")
    assert table is not None and len(list(chunks([table], last=None))) == 1
    monkeypatch.setattr(history.chunks, "__kwdefaults__", {"rows": 1})
    assert len(list(chunks([table], last=None))) == 5
    assert dict(hydrate(lake, asks)) == whole
    assert whole["i4"]["user.plays"] == 40 - sum(1 for n in range(40) if n % 5 == 4 and n % 7 >= 3)


def test_a_later_event_never_changes_an_earlier_snapshot(lake: Path, store_events: Store) -> None:
    store_events([published(), started("a", 0)])
    before = dict(hydrate(lake, [ask("i", 10)]))
    store_events([started("b", 10), started("c", 11), published("i1", 60)])
    assert dict(hydrate(lake, [ask("i", 10)])) == before
