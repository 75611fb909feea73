"""The catalogue kept in process: equal to the store at every time, and brought up to date in turns."""

from hypothesis import given, settings
from hypothesis import strategies as st

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.state import updates, values
from features.store import MemoryStore
from serving.catalogue import Catalogue, HeldState
from tests.serving.small_world import NOW, SmallWorld


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(["enter", "beat", "leave", "play"]), st.floats(0, 7200)), max_size=25),
    asked=st.lists(st.floats(0, 3 * 86_400), min_size=1, max_size=8),
)
def test_held_values_equal_computed_ones_at_any_time(events: list[tuple[str, float]], asked: list[float]) -> None:
    store = MemoryStore()
    for n, (what, after) in enumerate(sorted(events, key=lambda one: one[1])):
        for update in updates(event_of(what, n, NOW + after), store):
            store.apply(update)
    for entity, one in ((Entity.ITEM, "x"), (Entity.USER, "u1"), (Entity.CREATOR, "h")):
        state = store.read(entity, [one])[0]
        held = HeldState(entity, state)
        for after in asked:
            assert dict(held.values(NOW + after)) == values(entity, state, NOW + after)


def event_of(what: str, n: int, at: float) -> s.Event:
    who = {"event_id": str(n), "event_at": utc(at), "user_id": f"u{n % 4}"}
    if what == "play":
        return s.MediaStarted(**who, item_id="x")
    if what == "leave":
        return s.RoomLeft(**who, room_id="x", streamer_id="h", watched_s=5.0)
    kind = s.RoomEntered if what == "enter" else s.WatchHeartbeat
    return kind(**who, room_id="x", streamer_id="h")


def test_new_items_and_live_rooms_are_seen_at_the_next_refresh_and_the_rest_in_turns(world: SmallWorld) -> None:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    assert len(catalogue.view.items) == 33
    assert catalogue.view.newest[0] == "m0"
    world.publish("new", creator="c1")
    world.tell(s.RoomStatusChanged(event_id="x", event_at=utc(NOW + 1), streamer_id="h0", room_id="r0", status="song"))
    world.tell(s.MediaHidden(event_id="y", event_at=utc(NOW + 1), item_id="m7"))
    catalogue.refresh(NOW)
    assert catalogue.view.items["r0"].status == "song"
    assert catalogue.view.items["new"].creator_id == "c1"
    assert not catalogue.view.items["m7"].shown
    assert "m7" not in catalogue.view.newest


def test_a_surface_without_a_trending_list_has_the_home_pages(world: SmallWorld) -> None:
    catalogue = Catalogue(world.store)
    catalogue.refresh(NOW)
    assert catalogue.view.trending_for(s.Surface.COMMENT, None)[0] == ("m0", 100.0)
    assert catalogue.view.trending_for(s.Surface.HOME, s.ContentType.AUDIO) == ()
