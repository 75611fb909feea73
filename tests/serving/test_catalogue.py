"""The catalogue kept in process: equal to the store at every time, and brought up to date by what is announced."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.state import EntityState, values
from features.store import MemoryStore
from serving.catalogue import Catalogue
from serving.catalogue_view import CatalogueView
from serving.held import HeldState, Warm
from tests.serving.small_world import NOW, SmallWorld, ask

HAPPENINGS = ["enter", "beat", "leave", "play", "comment", "gift"]


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.floats(0, 7200)), max_size=25),
    asked=st.lists(st.floats(0, 8 * 86_400), min_size=1, max_size=8),
)
def test_held_values_equal_computed_ones_at_any_time(events: list[tuple[str, float]], asked: list[float]) -> None:
    store = MemoryStore()
    for n, (what, after) in enumerate(sorted(events, key=lambda one: one[1])):
        store.apply(event_of(what, n, NOW + after), NOW + after)
    for entity, one in ((Entity.ITEM, "x"), (Entity.USER, "u1"), (Entity.CREATOR, "h")):
        state = store.read(entity, [one])[0]
        held = HeldState(entity, state)
        for after in asked:
            assert dict(held.values(NOW + after)) == values(entity, state, NOW + after)


def event_of(what: str, n: int, at: float) -> s.Event:
    who = {"event_id": str(n), "event_at": utc(at), "user_id": f"u{n % 4}"}
    if what == "play":
        return s.MediaStarted(**who, item_id="x", creator_id="h")
    where = {"room_id": "x", "streamer_id": "h"}
    if what == "leave":
        return s.RoomLeft(**who, **where, watched_s=5.0)
    if what == "gift":
        return s.GiftSent(**who, **where, amount=3.0)
    kinds = {"enter": s.RoomEntered, "beat": s.WatchHeartbeat, "comment": s.CommentPosted}
    return kinds[what](**who, **where)


def test_what_leaves_its_window_within_a_minute_has_left_it_at_that_second() -> None:
    store, week = MemoryStore(), 7 * 86_400.0
    store.apply(event_of("play", 1, NOW + 10), NOW + 10)
    held = HeldState(Entity.USER, store.read(Entity.USER, ["u1"])[0])
    assert held.values(NOW + week + 5)["recent_media_7d"] == ["x"]
    assert held.values(NOW + week + 15)["recent_media_7d"] == []


def test_only_so_many_states_keep_their_computed_values(world: SmallWorld) -> None:
    warm = Warm(2)
    state = world.store.read(Entity.ITEM, ["m0"])[0]
    held = [HeldState(Entity.ITEM, state, warm) for _ in range(3)]
    first = held[0].values(NOW)
    assert held[0].values(NOW) is first
    for one in held[1:]:
        one.values(NOW)
    assert held[0].values(NOW) is not first
    assert held[0].values(NOW) == first


def view_of(world: SmallWorld) -> tuple[Catalogue, CatalogueView]:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    return catalogue, catalogue.view


def test_what_is_announced_is_seen_at_the_next_refresh(world: SmallWorld) -> None:
    catalogue, before = view_of(world)
    assert len(before.items) == 33
    assert before.newest[0] == "m0"
    world.publish("new", creator="c1", at=NOW + 1)
    world.tell(s.RoomStatusChanged(event_id="x", event_at=utc(NOW + 1), streamer_id="h0", room_id="r0", status="song"))
    catalogue.refresh(NOW)
    assert catalogue.view.items["r0"].status == "song"
    assert catalogue.view.items["new"].creator_id == "c1"
    assert catalogue.view.newest[0] == "new"
    assert catalogue.view.shape > before.shape


def test_only_what_is_announced_is_read_again(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, _ = view_of(world)
    asked: list[str] = []
    read = world.store.read
    monkeypatch.setattr(world.store, "read", lambda entity, ids: (asked.extend(ids), read(entity, ids))[1])
    catalogue.refresh(NOW)
    assert asked == []
    world.plays("u1", "m3", at=NOW)
    catalogue.refresh(NOW)
    assert asked == ["m3"]
    assert catalogue.view.items["m3"].held.values(NOW)["plays"] == 1.0


def test_a_room_that_is_listed_before_its_record_is_there_is_asked_for_until_it_is(world: SmallWorld) -> None:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    world.store.set_room("r9", lease_until=NOW + 30)
    for _ in range(3):  # the rooms are the same each time, and nothing else comes or goes
        catalogue.refresh(NOW)
        assert "r9" not in catalogue.view.items
    opened = s.RoomOpened(
        event_id="o9", event_at=utc(NOW), streamer_id="h9", room_id="r9", category="music", tags=("music",)
    )
    world.store.apply(opened, NOW)  # and is never announced
    catalogue.refresh(NOW)
    assert catalogue.view.items["r9"].creator_id == "h9"
    assert catalogue.view.live.tolist() == catalogue.view.table.rows(catalogue.view.rooms).tolist()
    assert 0 not in catalogue.view.live


@pytest.fixture
def every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at once a second is looked at in every refresh."""
    monkeypatch.setattr("serving.catalogue.SELDOM_S", 0.0)


@pytest.mark.usefixtures("every_time")
def test_rooms_let_go_of_while_they_are_still_listed_are_read_again(world: SmallWorld) -> None:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    world.store.set_watermark(NOW + 1_000.0)  # a client's clock goes fast: by it the rooms ended long ago
    for _ in range(3):
        catalogue.refresh(NOW)
    assert {"r0", "r1", "r2"} <= set(catalogue.view.items)
    assert 0 not in catalogue.view.live and len(catalogue.view.live) == 3


@pytest.mark.usefixtures("every_time")
def test_a_room_that_comes_back_after_a_refresh_that_failed_is_asked_for_again(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(world.store)
    world.store.set_room("r9", lease_until=NOW + 30)  # without a record
    catalogue.refresh(NOW)
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "live_rooms", lambda now: ["r0", "r1", "r2"])
        patch.setattr(world.store, "watermark", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            catalogue.refresh(NOW)
    opened = s.RoomOpened(event_id="o9", event_at=utc(NOW), streamer_id="h9", room_id="r9", category="music", tags=())
    world.store.apply(opened, NOW)  # never announced
    catalogue.refresh(NOW)
    assert "r9" in catalogue.view.items


def test_hidden_media_leaves_memory_and_comes_back_when_it_is_published_again(world: SmallWorld) -> None:
    catalogue, view = view_of(world)
    world.tell(s.MediaHidden(event_id="y", event_at=utc(NOW + 1), item_id="m7"))
    catalogue.refresh(NOW)
    assert "m7" not in view.items
    assert "m7" not in view.table.row_of
    assert "m7" not in catalogue.view.newest
    world.publish("m7", creator="c7", at=NOW + 2)
    catalogue.refresh(NOW)
    assert {"m7"} <= view.items.keys() & view.table.row_of.keys() & set(catalogue.view.newest)


@pytest.mark.usefixtures("every_time")
def test_a_room_leaves_memory_when_it_closes_or_ten_minutes_after_its_last_lease(world: SmallWorld) -> None:
    catalogue, view = view_of(world)
    world.tell(s.RoomClosed(event_id="z", event_at=utc(NOW + 1), streamer_id="h0", room_id="r0"))
    catalogue.refresh(NOW)
    assert "r0" not in view.items
    world.store.set_watermark(NOW + 90 + 599)
    catalogue.refresh(NOW)
    assert "r1" in view.items
    world.store.set_watermark(NOW + 90 + 660)
    catalogue.refresh(NOW)
    assert {"r1", "r2"}.isdisjoint(view.items)
    world.tell(s.RoomHeartbeat(event_id="b", event_at=utc(NOW + 700), streamer_id="h1", room_id="r1"))
    world.store.set_room("r1", lease_until=NOW + 790)
    catalogue.refresh(NOW + 700)
    assert "r1" in view.items
    assert catalogue.view.rooms == ("r1",)


def test_a_catalogue_that_missed_announcements_reads_everything_and_drops_what_is_gone(world: SmallWorld) -> None:
    catalogue, view = view_of(world)
    world.publish("new", creator="c77")
    del world.store.records[Entity.ITEM, "m5"]
    world.store.announced.clear()
    catalogue.refresh(NOW)
    assert "new" in view.items
    assert "m5" not in view.items
    assert "m6" in view.items


def test_a_whole_read_goes_on_slice_by_slice_beside_following(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, view = view_of(world)
    monkeypatch.setattr("serving.catalogue.SLICE", 10)
    del world.store.records[Entity.ITEM, "m5"]
    world.plays("u1", "m0")
    world.store.announced.clear()
    catalogue.refresh(NOW)
    assert len(view.items) == 33  # ten were read, nothing is dropped before the end
    world.publish("new", creator="c77")
    for _ in range(3):
        catalogue.refresh(NOW)
    assert view.items.keys() == {"new", *(f"m{n}" for n in range(30) if n != 5), "r0", "r1", "r2"}


def test_what_a_failing_store_kept_back_is_read_when_it_answers_again(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, _ = view_of(world)
    world.publish("new", creator="c1")

    def gone(entity: Entity, ids: object) -> None:
        raise StoreUnavailable("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "read", gone)
        with pytest.raises(StoreUnavailable):
            catalogue.refresh(NOW)
        assert "m0" in catalogue.view.items
    catalogue.refresh(NOW)
    assert "new" in catalogue.view.items


def test_a_surface_without_a_trending_list_has_the_home_pages(world: SmallWorld) -> None:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    trend, table = catalogue.view.trending_for(s.Surface.COMMENT, None), catalogue.view.table
    assert (table.id_of[trend.rows[0]], trend.scores[0]) == ("m0", 100.0)
    assert trend.of(table.rows(["m3", "m29"])).tolist() == [97.0, pytest.approx(float("nan"), nan_ok=True)]
    assert len(catalogue.view.trending_for(s.Surface.HOME, s.ContentType.AUDIO).rows) == 0


def test_what_trends_is_taken_over_while_the_lists_and_the_items_are_as_they_were(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store.set_trending("home:ALL", {"m3": 2.0, "late": 1.0})
    catalogue, before = view_of(world)
    world.publish("late", creator="c1")
    catalogue.refresh(NOW)
    assert catalogue.view.trending is before.trending  # it is not a second since it was read
    monkeypatch.setattr("serving.catalogue.SELDOM_S", 0.0)
    catalogue.refresh(NOW)
    found = catalogue.view.trending
    assert found["home:ALL"].rows.tolist() == catalogue.view.table.rows(["m3", "late"]).tolist()
    catalogue.refresh(NOW)
    assert catalogue.view.trending is found
    world.store.set_trending("home:ALL", {"m3": 2.0})
    catalogue.refresh(NOW)
    assert len(catalogue.view.trending["home:ALL"].rows) == 1


def test_which_rooms_hosts_have_is_taken_over_while_the_rooms_are_as_they_were(world: SmallWorld) -> None:
    catalogue, view = view_of(world)

    def rooms_of(host: str) -> list[int]:
        return catalogue.view.rooms_of(np.array([view.table.creator_row[host]], np.intp)).tolist()

    assert rooms_of("h1") == view.table.rows(["r1"]).tolist()
    before = catalogue.view
    catalogue.refresh(NOW)
    assert catalogue.view is not before and catalogue.view._by_host is before._by_host
    world.open_room("r9", host="h9")
    catalogue.refresh(NOW)
    assert rooms_of("h9") == view.table.rows(["r9"]).tolist()


def test_words_that_were_read_are_remembered_while_nothing_is_announced(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, _ = view_of(world)
    read = world.store.read

    def looks(entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        catalogue.refresh(NOW)
        return read(entity, ids)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "read", looks)
        catalogue.words._read(["gone"])
    assert "gone" in catalogue.words._found


def test_requests_go_on_while_items_come_and_go(world: SmallWorld) -> None:
    proxy, over, troubles = world.proxy(), threading.Event(), list[BaseException]()

    def answer() -> None:
        while not over.is_set():
            try:
                assert ask(proxy, limit=30).items
            except BaseException as error:  # noqa: BLE001  whatever a request fails with is this test's failure
                troubles.append(error)
                return

    threads = [threading.Thread(target=answer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(60):
        world.publish(f"new{n}", creator="c1", at=NOW + 1 + n)
        world.tell(s.MediaRemoved(event_id=f"gone{n}", event_at=utc(NOW + 1), item_id=f"m{n % 30}"))
        proxy.parts.background.tick()
    over.set()
    for thread in threads:
        thread.join(10.0)
    assert troubles == []


def test_a_request_of_an_earlier_time_finds_the_rooms_of_then(world: SmallWorld) -> None:
    proxy = world.proxy()
    background = proxy.parts.background
    assert len(proxy.parts.catalogue.view.live) == 3
    proxy.clock.saw(NOW + 5000)
    background.catch_up(NOW + 5000)
    assert len(proxy.parts.catalogue.view.live) == 0
    proxy.clock.saw(NOW)
    background.catch_up(NOW)
    assert len(proxy.parts.catalogue.view.live) == 3
