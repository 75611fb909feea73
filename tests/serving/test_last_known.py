"""When the store is gone: viewers, pairs and items as last read, and how old they are; words of things no longer held."""

from pathlib import Path
from typing import Any

import pytest

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.snapshot import look_in, read_known
from features.state import values
from features.store import MemoryStore
from serving.feed import Age
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld, ask


class FailingStore(MemoryStore):
    """A store that can be switched off."""

    gone = False

    def __getattribute__(self, name: str) -> Any:
        asks = ("read", "live_rooms", "ids", "trending", "changed", "cursor", "watermark")
        if name in asks and object.__getattribute__(self, "gone"):
            raise StoreUnavailable("the store does not answer")
        return object.__getattribute__(self, name)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Monotonic seconds, set by hand."""
    at = [1000.0]
    for module in ("hydration", "catalogue", "background"):
        monkeypatch.setattr(f"serving.{module}.time.monotonic", lambda: at[0])
    return at


@pytest.fixture
def failing(tmp_path: Path) -> SmallWorld:
    """The small world on a store that can be switched off."""
    return SmallWorld(tmp_path, store=FailingStore()).fill()


def switch_off(world: SmallWorld) -> None:
    assert isinstance(world.store, FailingStore)
    world.store.gone = True


def gauge(proxy: Proxy, of: str) -> float:
    lines = proxy.parts.metrics.text().decode().splitlines()
    return next(
        float(line.split()[-1]) for line in lines if line.startswith(f'livefeed_features_age_seconds{{of="{of}"}}')
    )


def test_an_answer_from_the_store_has_no_age(failing: SmallWorld) -> None:
    proxy = failing.proxy()
    assert ask(proxy).features_age == {}
    assert (gauge(proxy, "viewer"), proxy.parts.background.store_trouble) == (0.0, "")


def test_an_answer_without_the_store_says_how_old_its_features_are(failing: SmallWorld, wall: list[float]) -> None:
    proxy = failing.proxy()
    wall[0] += 2
    ask(proxy, now=NOW + 5)
    switch_off(failing)
    wall[0] += 10
    proxy.parts.background.tick()
    age = ask(proxy, now=NOW + 60).features_age
    assert age == {"viewer": Age(event_s=55.0, wall_s=10.0), "items": Age(event_s=60.0, wall_s=12.0)}
    assert (gauge(proxy, "viewer"), gauge(proxy, "items")) == (10.0, 12.0)
    assert ask(proxy, user_id="never seen").features_age["viewer"] is None


def test_without_the_store_the_viewer_is_as_last_read_with_all_her_words(failing: SmallWorld) -> None:
    failing.plays("u1", "m0")
    failing.tell(s.MediaRemoved(event_id="x", event_at=utc(NOW), item_id="m0"))
    proxy = failing.proxy()
    hydration = proxy.parts.hydration
    before = hydration.viewer("u1", NOW)
    assert before.values["top_categories_7d"] == ["music"]
    switch_off(failing)
    assert hydration.last_known("u1", NOW).values == before.values


def test_without_the_store_what_she_has_with_creators_is_as_last_read(failing: SmallWorld) -> None:
    at = utc(NOW - 60)
    failing.tell(s.RoomEntered(event_id="x", event_at=at, user_id="u1", room_id="r0", streamer_id="h0"))
    hydration = failing.proxy().parts.hydration
    before = hydration.viewer("u1", NOW).pairs
    assert values(Entity.PAIR, before["h0"], NOW)["watches"] == 1.0
    switch_off(failing)
    assert dict(hydration.last_known("u1", NOW).pairs) == dict(before)


def test_a_viewers_words_are_the_stores_also_for_removed_media_and_rooms_that_ended(world: SmallWorld) -> None:
    world.plays("u1", "m1")
    world.plays("u1", "m2")
    world.tell(s.RoomEntered(event_id="x", event_at=utc(NOW - 9), user_id="u1", room_id="r0", streamer_id="h0"))
    world.tell(s.MediaRemoved(event_id="y", event_at=utc(NOW), item_id="m1"))
    world.tell(s.RoomClosed(event_id="z", event_at=utc(NOW + 1), streamer_id="h0", room_id="r0"))
    proxy = world.proxy()
    assert {"m1", "r0"}.isdisjoint(proxy.parts.catalogue.view.items)
    viewer = proxy.parts.hydration.viewer("u1", NOW)
    assert viewer.values == read_known(world.store, "u1", ["m3"], now=NOW)[0].user
    assert set(viewer.values["top_categories_7d"]) == {"music", "sport", "talk"}
    assert viewer.values["content_types_7d"] == ["VIDEO", "LIVE"]


def test_words_that_were_read_from_the_store_are_read_again_once_something_is_announced(world: SmallWorld) -> None:
    world.plays("u1", "ghost")
    proxy = world.proxy()
    hydration = proxy.parts.hydration
    assert hydration.viewer("u1", NOW).values["top_categories_7d"] == []
    world.publish("ghost", creator="c1", category="sport")
    world.tell(s.MediaRemoved(event_id="y", event_at=utc(NOW + 1), item_id="ghost"))
    proxy.parts.background.tick()
    assert hydration.viewer("u1", NOW).values["top_categories_7d"] == ["sport"]


def test_words_cost_one_read_however_often_the_viewer_comes(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.plays("u1", "m1")
    world.tell(s.MediaRemoved(event_id="y", event_at=utc(NOW), item_id="m1"))
    hydration = world.proxy().parts.hydration
    asked: list[Entity] = []
    read = world.store.read
    monkeypatch.setattr(world.store, "read", lambda entity, ids: (asked.append(entity), read(entity, ids))[1])
    state = read(Entity.USER, ["u1"])[0]
    look = look_in(MemoryStore(records=world.store.records), state)  # a reader of its own
    for _ in range(3):
        assert hydration.viewer("u1", NOW).values == values(Entity.USER, state, NOW, look)
    assert [one for one in asked if one not in (Entity.USER, Entity.PAIR)] == [Entity.ITEM, Entity.CREATOR]
