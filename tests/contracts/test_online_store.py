"""The online store's contract: the memory store and Redis give the same answers."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from events import schema as s
from events.log import Place
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.redis import RedisStore
from features.state import updates, values
from features.store import MemoryStore, OnlineRecord, OnlineStore, RecordKey
from stack.redis import server
from tests.collector.stories import EVENING, at, liked, published, started

P0, P1 = Place("user.engagement.events", 0), Place("user.engagement.events", 1)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this module's own on a free port."""
    home = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([shutil.which("redis-server") or server(), *words], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: str) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            redis.Redis.from_url(url).ping()
            return
        except redis.ConnectionError:
            time.sleep(0.02)
    raise AssertionError("redis-server did not answer within 10 s")


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("redis_url")
    redis.Redis.from_url(url).flushall()
    online = RedisStore(url)
    yield online
    online.close()


def test_an_unknown_entity_is_empty_and_an_unknown_record_is_none(store: OnlineStore) -> None:
    assert store.read(Entity.USER, ["nobody", "else"]) == [{}, {}]
    assert store.load([RecordKey(Entity.USER, "nobody", P0)]) == [None]
    assert store.load([]) == [] and store.read(Entity.USER, []) == []


def test_records_come_back_as_saved_and_a_later_save_replaces(store: OnlineStore) -> None:
    key = RecordKey(Entity.USER, "vera", P0)
    store.save(
        {key: OnlineRecord(3, {"plays": {0: 2.0}}), key._replace(place=P1): OnlineRecord(9, {"plays": {0: 5.0}})}
    )
    store.save({key: OnlineRecord(4, {"plays": {0: 3.0}})})
    assert store.load([key, key._replace(place=P1)]) == [
        OnlineRecord(4, {"plays": {0: 3.0}}),
        OnlineRecord(9, {"plays": {0: 5.0}}),
    ]


def test_reading_merges_the_partitions_of_an_entity_and_keeps_the_order_of_ids(store: OnlineStore) -> None:
    for place, plays in ((P0, 2.0), (P1, 5.0)):
        store.save({RecordKey(Entity.ITEM, "film", place): OnlineRecord(1, {"plays": {0: plays}})})
    store.save({RecordKey(Entity.ITEM, "song", P0): OnlineRecord(1, {"plays": {0: 1.0}})})
    assert store.read(Entity.ITEM, ["song", "none", "film"]) == [{"plays": {0: 1.0}}, {}, {"plays": {0: 7.0}}]


def test_every_kind_of_state_survives_the_store(store: OnlineStore) -> None:
    """What events really leave behind, in all aggregates, reads as it was written."""
    truth = MemoryStore()
    happened = (
        published("film", tags=("music", "live")),
        started("e1", "vera", "film", 1),
        liked("e2", "vera", "film", 2),
        s.RoomEntered(event_id="e3", event_at=at(3), user_id="vera", room_id="r", streamer_id="h"),
        s.ViewerProfile(event_id="e4", event_at=at(4), user_id="vera", language="de", blocked_creators=("bob",)),
    )
    for event in happened:
        for update in updates(event, truth):
            truth.apply(update, place=P0)
    for (entity, one), lanes in truth.records.items():
        store.save({RecordKey(entity, one, place): record for place, record in lanes.items()})
    for entity, one in truth.records:
        now = EVENING + 10
        assert values(entity, store.read(entity, [one])[0], now) == values(entity, truth.read(entity, [one])[0], now)


def test_progress_is_what_was_advanced_to_by_place(store: OnlineStore) -> None:
    assert store.progress() == {}
    store.advance({P0: 5, P1: 7})
    store.advance({P0: 6})
    store.advance({})
    assert store.progress() == {P0: 6, P1: 7}


def test_a_room_is_live_until_its_lease_ends(store: OnlineStore) -> None:
    store.set_room("late", lease_until=EVENING + 90)
    store.set_room("early", lease_until=EVENING + 0.5)
    assert store.live_rooms(EVENING) == ["early", "late"]
    assert store.live_rooms(EVENING + 0.5) == ["late"]
    store.set_room("late", lease_until=EVENING)
    assert store.live_rooms(EVENING) == ["early"]


def test_a_trending_list_is_replaced_whole_and_read_best_first_ties_by_id(store: OnlineStore) -> None:
    store.set_trending("home:ALL", {"old": 9.0})
    store.set_trending("home:ALL", {"b": 1.5, "a": 1.5, "top": 2.25, "last": 0.0})
    assert store.trending("home:ALL", 3) == [("top", 2.25), ("a", 1.5), ("b", 1.5)]
    assert store.trending("home:LIVE", 3) == []
    assert store.trending("home:ALL", 0) == []
    store.set_trending("home:ALL", {})
    assert store.trending("home:ALL", 3) == []


def test_ids_of_an_entity_are_those_with_a_record(store: OnlineStore) -> None:
    for entity, one in ((Entity.ITEM, "b"), (Entity.ITEM, "a:{x}"), (Entity.USER, "u"), (Entity.ITEM, "b")):
        store.save({RecordKey(entity, one, P0): OnlineRecord(0, {})})
    assert store.ids(Entity.ITEM) == ["a:{x}", "b"]
    assert store.ids(Entity.USER) == ["u"]
    assert store.ids(Entity.PAIR) == []


def test_the_watermark_only_rises(store: OnlineStore) -> None:
    assert store.watermark() is None
    for mark in (EVENING, EVENING + 0.25, EVENING - 100):
        store.set_watermark(mark)
    assert store.watermark() == EVENING + 0.25


def test_more_records_than_one_round_trip_carries(store: OnlineStore) -> None:
    keys = [RecordKey(Entity.USER, f"u{n}", P0) for n in range(2500)]
    store.save({key: OnlineRecord(n, {}) for n, key in enumerate(keys)})
    found = store.load(keys)
    assert [record.offset for record in found if record] == list(range(2500))


def test_a_redis_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    store = RedisStore("redis://127.0.0.1:9/0", timeout_s=0.2)
    for ask in (store.progress, store.watermark, lambda: store.read(Entity.USER, ["u"]), lambda: store.live_rooms(0.0)):
        with pytest.raises(StoreUnavailable, match=r"the online store at redis://127\.0\.0\.1:9/0 did not answer"):
            ask()
