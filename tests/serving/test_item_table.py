"""The numbers in process: equal to the packed vectors of the store whenever a minute has begun, whatever happened."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.state import touched
from features.store import MemoryStore
from features.vectors import NAMES, packed, unpack
from serving.catalogue import Catalogue
from serving.item_table import TICK_S, ItemTable, Schedule
from tests.serving.small_world import NOW, SmallWorld

PLAYS, MADE_PLAYS = NAMES.index("item.plays"), NAMES.index("creator.plays")
VIEWS = NAMES.index("item.views_1h")


def tell(store: MemoryStore, event: s.Event) -> None:
    store.apply(event, event.event_at.timestamp())
    ids = {entity: [one for kind, one in touched(event) if kind is entity] for entity in Entity}
    store.announce(items=ids[Entity.ITEM], creators=ids[Entity.CREATOR])


def published(item_id: str, creator: str) -> s.Event:
    return s.MediaPublished(
        event_id=item_id, event_at=utc(NOW), item_id=item_id, creator_id=creator, content_type="VIDEO", category="music"
    )


def entered(item_id: str, creator: str, at: float, *, user: str = "u") -> s.Event:
    """An entry counts in every window and, until its lease ends, as a viewer present."""
    return s.RoomEntered(event_id=f"{at}", event_at=utc(at), user_id=user, room_id=item_id, streamer_id=creator)


def assert_equal_to_the_store(catalogue: Catalogue, store: MemoryStore, now: float) -> None:
    table, ids = catalogue.view.table, sorted(catalogue.view.items)
    items = store.read(Entity.ITEM, ids)
    makers = store.read(Entity.CREATOR, [catalogue.view.items[one].creator_id for one in ids])
    wanted = unpack([packed(item, maker, now=now) for item, maker in zip(items, makers, strict=True)])
    found = table.take(table.rows(ids))
    np.testing.assert_array_equal(found.numbers.astype(np.float32), wanted.numbers)
    np.testing.assert_array_equal(found.published_at, wanted.published_at)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(60, 20_000), st.lists(st.tuples(st.sampled_from("abc"), st.floats(-3000, 90)), max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_rows_equal_the_packed_vectors_as_time_passes(steps: list[tuple[float, list[tuple[str, float]]]]) -> None:
    store, now = MemoryStore(), NOW
    for item, creator in (("a", "h1"), ("b", "h1"), ("c", "h2")):
        tell(store, published(item, creator))
    catalogue = Catalogue(store)
    for passed, starts in steps:
        now += passed
        for item, after in starts:  # some of them lie in the future
            tell(store, entered(item, "h1", now + after))
        catalogue.refresh(now)
        assert_equal_to_the_store(catalogue, store, now)
    for _ in range(4):  # nothing more happens: every window runs empty
        now += 30_000
        catalogue.refresh(now)
        assert_equal_to_the_store(catalogue, store, now)


def test_a_start_leaves_the_hours_window_before_the_days(world: SmallWorld) -> None:
    world.plays("u1", "m3", at=NOW - 3000)
    catalogue = Catalogue(world.store)
    seen = []
    for passed in (0, 540, 660):  # NOW is a full hour: no hour ends meanwhile
        catalogue.refresh(NOW + passed)
        row = catalogue.view.table.take(catalogue.view.table.rows(["m3"])).numbers[0].tolist()
        seen.append((row[VIEWS], row[NAMES.index("item.play_count_24h")]))
    assert seen == [(1, 1), (1, 1), (0, 1)]


def test_a_clock_set_back_computes_everything_again(world: SmallWorld) -> None:
    world.plays("u1", "m3", at=NOW)
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW + 90_000)
    row = catalogue.view.table.rows(["m3"])
    assert catalogue.view.table.take(row).numbers[0, VIEWS] == 0
    catalogue.refresh(NOW)
    assert catalogue.view.table.take(row).numbers[0, VIEWS] == 1


def test_an_event_to_a_creator_shows_in_all_the_creators_items() -> None:
    store = MemoryStore()
    for item, creator in (("a", "h1"), ("b", "h1"), ("c", "h2")):
        tell(store, published(item, creator))
    catalogue = Catalogue(store)
    catalogue.refresh(NOW)
    tell(store, entered("a", "h1", NOW))
    catalogue.refresh(NOW)
    numbers = catalogue.view.table.take(catalogue.view.table.rows(["a", "b", "c"])).numbers
    assert numbers[:, PLAYS].tolist() == [1, 0, 0]
    assert numbers[:, MADE_PLAYS].tolist() == [1, 1, 0]


def test_rows_stay_where_they_are_while_the_table_grows_and_unknown_items_are_nan() -> None:
    table = ItemTable()
    first = [f"i{n}" for n in range(1500)]
    for n, one in enumerate(first):
        table.put(one, {"plays": {0: n}}, creator_id=f"c{n}", now=NOW)
    rows = table.rows(first)
    for n in range(1500, 5000):
        table.put(f"i{n}", {"plays": {0: n}}, creator_id=f"c{n}", now=NOW)
    assert table.rows(first).tolist() == rows.tolist()
    assert table.take(rows).numbers[:, PLAYS].tolist() == list(range(1500))
    unknown = table.take(table.rows(["nobody knows"]))
    assert np.isnan(unknown.numbers).all()
    assert np.isnan(unknown.published_at).all()


def test_the_row_of_an_item_that_went_is_given_away_only_when_no_request_can_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall = [1000.0]
    monkeypatch.setattr("serving.item_table.time.monotonic", lambda: wall[0])
    table = ItemTable()
    table.put("a", {}, creator_id="c", now=NOW)
    row = table.row_of["a"]
    table.drop("a")
    wall[0] += 1
    table.put("b", {}, creator_id="c", now=NOW)
    assert table.row_of["b"] != row
    wall[0] += 61
    table.put("d", {}, creator_id="c", now=NOW)
    assert table.row_of == {"b": table.row_of["b"], "d": row}


def test_no_more_than_the_limit_is_due_at_once_and_the_rest_stays_due() -> None:
    schedule, tick = Schedule(), int(NOW // TICK_S)
    for n in range(5):
        schedule.put(f"i{n}", tick)
    schedule.put("later", tick + 1)
    due = schedule.due(NOW, (), limit=3)
    assert len(due) == 3
    for one in due:
        schedule.put(one, None)
    assert {*due, *schedule.due(NOW, (), limit=3)} == {f"i{n}" for n in range(5)}
