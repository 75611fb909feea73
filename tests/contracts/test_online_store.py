"""The online store's contract: memory, Redis and a Redis Cluster give the same answers."""

import re
from collections import deque
from collections.abc import Iterator

import pytest

from events import schema as s
from events.log import Place
from events.topics import ENGAGEMENT
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.redis import RedisStore
from features.state import pair_id, values
from features.store import FORGOTTEN_ROOM_S, MemoryStore, OnlineRecord, OnlineStore, RecordKey
from tests.collector.stories import EVENING, at, liked, published, started
from tests.redis_servers import Server

P0, P1 = Place("user.engagement.events", 0), Place("user.engagement.events", 1)


@pytest.fixture(params=["memory", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "cluster":
        cluster = request.getfixturevalue("cluster")
        cluster.flush()
        url = cluster.url
    else:
        server: Server = request.getfixturevalue("one_redis")
        server.client.flushall()
        url = server.url
    online = RedisStore(url)
    yield online
    online.close()


def saved(store: OnlineStore, entity: Entity, *ids: str, place: Place = P0) -> None:
    """Records with nothing in them."""
    store.save({RecordKey(entity, one, place): OnlineRecord(0, {}) for one in ids})


def test_a_request_gets_its_viewer_and_its_vectors_at_once(store: OnlineStore) -> None:
    key = RecordKey(Entity.USER, "u1", Place(ENGAGEMENT, 0))
    store.save({key: OnlineRecord(3, {"plays": {0: 2}})})
    store.set_vectors({f"i{n}": bytes([n]) * 8 for n in range(40)})
    asked = ["i7", "none", "i3", "i7", *(f"i{n}" for n in range(40))]
    state, vectors = store.of_request("u1", asked)
    assert state == {"plays": {0: 2}}
    assert vectors == store.vectors(asked)
    assert vectors[:4] == [b"\x07" * 8, None, b"\x03" * 8, b"\x07" * 8]
    assert store.of_request("nobody", ["i1"]) == ({}, [b"\x01" * 8])


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


def test_partitions_are_summed_in_their_order_whichever_came_first(store: OnlineStore) -> None:
    """Floats: only from left to right, 1e16 and -1e16 leave the 1 as it was."""
    for partition, amount in ((2, 1.0), (0, 1e16), (1, -1e16)):
        key = RecordKey(Entity.ITEM, "film", P0._replace(partition=partition))
        store.save({key: OnlineRecord(1, {"gift_amount_60m": {7: amount}})})
    assert store.read(Entity.ITEM, ["film"]) == [{"gift_amount_60m": {7: 1.0}}]


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
        truth.apply(event, event.event_at.timestamp(), place=P0)
    for (entity, one), lanes in truth.records.items():
        store.save({RecordKey(entity, one, place): record for place, record in lanes.items()})
    for entity, one in truth.records:
        now = EVENING + 10
        assert values(entity, store.read(entity, [one])[0], now) == values(entity, truth.read(entity, [one])[0], now)


def test_an_earlier_record_than_the_one_held_is_refused_and_changes_nothing(store: OnlineStore) -> None:
    mine, hers = RecordKey(Entity.USER, "vera", P0), RecordKey(Entity.USER, "vera", P1)
    store.save({mine: OnlineRecord(300, {"plays": {0: 7}})})
    refused = store.save({mine: OnlineRecord(299, {"plays": {0: 6}}), hers: OnlineRecord(5, {"plays": {0: 1}})})
    assert refused == [mine]
    assert store.load([mine, hers]) == [OnlineRecord(300, {"plays": {0: 7}}), OnlineRecord(5, {"plays": {0: 1}})]


def test_a_record_of_the_same_offset_is_written_again(store: OnlineStore) -> None:
    key = RecordKey(Entity.ITEM, "film", P0)
    store.save({key: OnlineRecord(9, {"plays": {0: 1}})})
    assert store.save({key: OnlineRecord(9, {"plays": {0: 2}})}) == []
    assert store.load([key]) == [OnlineRecord(9, {"plays": {0: 2}})]


def test_pairs_of_one_viewer_are_records_of_their_own(store: OnlineStore) -> None:
    anna, bob = (RecordKey(Entity.PAIR, pair_id("vera", one), P0) for one in ("anna", "bob"))
    store.save({anna: OnlineRecord(2, {"watches": {0: 1}}), bob: OnlineRecord(8, {"watches": {0: 4}})})
    store.save({anna._replace(place=P1): OnlineRecord(1, {"watches": {0: 10}})})
    assert store.load([bob, anna]) == [OnlineRecord(8, {"watches": {0: 4}}), OnlineRecord(2, {"watches": {0: 1}})]
    pairs = [pair_id("vera", one) for one in ("bob", "carl", "anna")]
    assert store.read(Entity.PAIR, pairs) == [{"watches": {0: 4}}, {}, {"watches": {0: 11}}]
    assert store.ids(Entity.PAIR) == ["vera|anna", "vera|bob"]


def test_states_of_features_that_are_not_defined_here_are_kept(store: OnlineStore) -> None:
    key = RecordKey(Entity.USER, "vera", P0)
    store.save({key: OnlineRecord(1, {"of_tomorrow": [1, "two"], "plays": {0: 1}})})
    assert store.load([key]) == [OnlineRecord(1, {"of_tomorrow": [1, "two"], "plays": {0: 1}})]


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
    assert store.leases(["early", "nowhere", "late"]) == [EVENING + 0.5, None, EVENING + 90]
    store.set_room("late", lease_until=EVENING)
    assert store.live_rooms(EVENING) == ["early"]
    assert store.leases(["late"]) == [EVENING]
    assert store.leases([]) == []


def test_a_viewers_state_and_those_of_her_pairs_are_read_together(store: OnlineStore) -> None:
    pair = pair_id("ada", "jazz club")
    store.save(
        {
            RecordKey(Entity.USER, "ada", P0): OnlineRecord(1, {"plays": {0: 2}}),
            RecordKey(Entity.USER, "ada", P1): OnlineRecord(1, {"plays": {0: 3}}),
            RecordKey(Entity.PAIR, pair, P0): OnlineRecord(1, {"watches": {0: 1}}),
            RecordKey(Entity.PAIR, pair, P1): OnlineRecord(1, {"watches": {0: 4}}),
            RecordKey(Entity.PAIR, pair_id("adam", "jazz club"), P0): OnlineRecord(1, {"watches": {0: 9}}),
        }
    )
    read = store.of_viewer("ada")
    for one in (read, store.viewer_in(read.packed)):  # as read, and as whoever kept it reads it again
        assert one.state == {"plays": {0: 5}}
        assert dict(one.pairs) == {"jazz club": {"watches": {0: 5}}}
        assert one.packed == read.packed
    nobody = store.of_viewer("nobody")
    assert (nobody.state, dict(nobody.pairs)) == ({}, {})
    assert dict(store.viewer_in(nobody.packed).pairs) == {}


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


def test_rooms_that_ended_a_day_before_the_watermark_are_listed_nowhere(store: OnlineStore) -> None:
    saved(store, Entity.ITEM, "over", "running", "film")
    store.set_room("over", lease_until=EVENING)
    store.set_room("running", lease_until=EVENING + 60)
    store.set_watermark(EVENING + FORGOTTEN_ROOM_S + 30)
    assert store.ids(Entity.ITEM) == ["film", "running"]
    assert store.live_rooms(EVENING - 1) == ["running"]


def test_a_reader_is_told_what_changed_after_its_cursor(store: OnlineStore) -> None:
    store.announce(items=["before"])
    cursor = store.cursor()
    nothing = store.changed(cursor)
    assert nothing is not None and (nothing.items, nothing.creators) == (frozenset(), frozenset())
    store.announce(items=["film", "song"])
    store.announce(items=["film"], creators=["anna"])
    store.announce()
    found = store.changed(cursor)
    assert found is not None
    assert (set(found.items), set(found.creators)) == ({"film", "song"}, {"anna"})
    assert found.cursor == store.cursor()


def test_a_reader_goes_on_from_the_cursor_it_was_given(store: OnlineStore) -> None:
    store.announce(items=["first"])
    found = store.changed("0-0" if isinstance(store, RedisStore) else "0")
    assert found is not None and found.items == {"first"}
    store.announce(items=["second"])
    after = store.changed(found.cursor)
    assert after is not None and after.items == {"second"}


def test_a_reader_that_was_away_too_long_is_told_to_read_everything(
    store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.redis.ANNOUNCEMENTS", 100)
    if isinstance(store, MemoryStore):
        store.announced = deque(maxlen=100)
    store.announce(items=["seen"])
    cursor = store.cursor()
    for n in range(400):
        store.announce(items=[f"i{n}"])
    assert store.changed(cursor) is None


def test_vectors_come_back_in_the_order_asked_for(store: OnlineStore) -> None:
    store.set_vectors({"film": b"\x00film", "song": b"song"})
    store.set_vectors({"song": b"again"})
    assert store.vectors(["song", "none", "film", "song"]) == [b"again", None, b"\x00film", b"again"]
    assert store.vectors([]) == []
    store.set_vectors({})


def test_erasing_a_person_leaves_nothing_of_her_and_everything_of_others(store: OnlineStore) -> None:
    for entity in (Entity.USER, Entity.CREATOR):
        saved(store, entity, "vera", "verena")
    saved(store, Entity.USER, "vera", place=P1)
    saved(store, Entity.PAIR, "vera|anna", "bob|vera", "bob|anna", "verena|anna", "bob|verena")
    saved(store, Entity.ITEM, "vera")
    assert store.erase_user("vera") == 5
    assert store.ids(Entity.USER) == store.ids(Entity.CREATOR) == ["verena"]
    assert store.ids(Entity.PAIR) == ["bob|anna", "bob|verena", "verena|anna"]
    assert store.ids(Entity.ITEM) == ["vera"]
    assert store.erase_user("vera") == 0


def test_more_records_than_one_round_trip_carries(store: OnlineStore) -> None:
    keys = [RecordKey(Entity.USER, f"u{n}", P0) for n in range(2500)]
    store.save({key: OnlineRecord(n, {}) for n, key in enumerate(keys)})
    found = store.load(keys)
    assert [record.offset for record in found if record] == list(range(2500))


def test_a_redis_that_is_not_there_is_one_sentence() -> None:
    for url in ("redis://127.0.0.1:9/0", "redis+cluster://127.0.0.1:9"):
        store = RedisStore(url, timeout_s=0.2)
        asked = (store.progress, store.watermark, lambda s=store: s.read(Entity.USER, ["u"]), store.cursor)
        for ask in asked:
            with pytest.raises(StoreUnavailable, match=re.escape(f"the online store at {url} did not answer")):
                ask()
