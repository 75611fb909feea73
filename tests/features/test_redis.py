"""What Redis adds to the store's contract: expiry, lists that shrink again, writers that find the store set back."""

import os
import signal
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from events.log import Place
from events.topics import ENGAGEMENT
from features import redis_keys as k
from features.definitions import DAY, FEATURES, Entity
from features.errors import StoreSetBack, StoreUnavailable
from features.redis import SWEEP_EVERY_S, RedisStore
from features.state import pair_id
from features.store import Changed, OnlineRecord, RecordKey
from tests.redis_servers import Server

P0, P1 = Place(ENGAGEMENT, 0), Place(ENGAGEMENT, 1)
NOON = 1_793_534_400.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("redis")).start()
    yield one
    one.stop()


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    server.client.flushall()
    online = RedisStore(server.url)
    yield online
    online.close()


def saved(store: RedisStore, entity: Entity, one: str, *, keep_s: float | None = None, offset: int = 0) -> str:
    """A record with nothing in it; returns its hash's key."""
    store.save({RecordKey(entity, one, P0): OnlineRecord(offset, {}, keep_s)})
    return k.hash_key(entity, one)


def days_left(server: Server, key: str) -> float:
    """Days until a key expires, rounded to tenths; -1 for never."""
    left = server.client.ttl(key)
    return -1 if left < 0 else round(left / DAY, 1)


# --- expiry ---


def test_a_record_is_kept_as_long_as_it_must_be_and_a_tenth_longer(server: Server, store: RedisStore) -> None:
    assert days_left(server, saved(store, Entity.USER, "vera", keep_s=90 * DAY)) == 99.0
    assert days_left(server, saved(store, Entity.CREATOR, "anna", keep_s=None)) == -1


def test_an_expiry_is_written_again_only_when_less_than_needed_is_left(server: Server, store: RedisStore) -> None:
    key = saved(store, Entity.USER, "vera", keep_s=90 * DAY)
    for left, then in ((95, 95.0), (89, 99.0)):
        server.client.expire(key, int(left * DAY))
        saved(store, Entity.USER, "vera", keep_s=90 * DAY)
        assert days_left(server, key) == then


def test_a_shorter_keep_takes_hold_and_none_leaves_it(server: Server, store: RedisStore) -> None:
    key = saved(store, Entity.ITEM, "film", keep_s=3650 * DAY)
    saved(store, Entity.ITEM, "film", keep_s=10 * DAY)
    assert days_left(server, key) == 11.0
    saved(store, Entity.ITEM, "film", keep_s=None)
    assert days_left(server, key) == 11.0


def test_a_refused_record_does_not_prolong_the_one_held(server: Server, store: RedisStore) -> None:
    key = saved(store, Entity.USER, "vera", keep_s=10 * DAY, offset=5)
    saved(store, Entity.USER, "vera", keep_s=90 * DAY, offset=4)
    assert days_left(server, key) == 11.0


def test_an_item_whose_record_expired_leaves_the_list_with_its_vector(
    server: Server, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k, "bucket_of", lambda item: 0)
    gone = saved(store, Entity.ITEM, "gone")
    saved(store, Entity.ITEM, "stays")
    store.set_vectors({"gone": b"1", "stays": b"2"})
    server.client.delete(gone)
    store.set_watermark(NOON)
    assert store.ids(Entity.ITEM) == ["gone", "stays"], "one look is not enough: it may be on its way in"
    store.set_watermark(NOON + SWEEP_EVERY_S)
    assert store.ids(Entity.ITEM) == ["stays"]
    assert store.vectors(["gone", "stays"]) == [None, b"2"]


def test_an_item_that_got_its_record_between_two_looks_stays(
    server: Server, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k, "bucket_of", lambda item: 0)
    server.client.delete(saved(store, Entity.ITEM, "new"))  # listed, as in the middle of a save
    store.set_watermark(NOON)
    saved(store, Entity.ITEM, "new")
    store.set_watermark(NOON + SWEEP_EVERY_S)
    assert store.ids(Entity.ITEM) == ["new"]


def test_of_too_many_creators_a_viewer_keeps_those_she_met_last(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.redis.MOST_PAIRS", 16)
    for n in range(17):
        saved(store, Entity.PAIR, pair_id("vera", f"c{n:02}"), offset=n)
    saved(store, Entity.PAIR, pair_id("bob", "c00"))
    assert store.ids(Entity.PAIR) == ["bob|c00", *(f"vera|c{n:02}" for n in range(2, 17))]


# --- bytes ---


def test_no_two_states_share_a_code() -> None:
    names = {feature.state for feature in FEATURES}
    assert len({k._code(name) for name in names}) == len(names)


def test_a_record_of_definitions_that_this_version_does_not_know_survives_a_write() -> None:
    unknown = k.unpack((4).to_bytes(8, "big") + b"\x81\xcd\x00\x00\x07")  # {0: 7}: no state has code 0
    assert unknown == OnlineRecord(3, {"#0": 7})
    assert k.pack(unknown) == (4).to_bytes(8, "big") + b"\x81\x00\x07"


def test_a_long_state_is_kept_in_less_and_comes_back_whole() -> None:
    state = {"seen": [[NOON + n, f"media-{n:06}"] for n in range(200)], "plays": {0: 200}}
    blob = k.pack(OnlineRecord(41, state))
    assert k.unpack(blob) == OnlineRecord(41, state)
    assert int.from_bytes(blob[:8], "big") == 42
    assert len(blob) < 3_000  # 24 bytes an entry before


def test_the_tags_lie_evenly_over_the_slots() -> None:
    width = k.SLOTS // k.BUCKETS
    assert [key_slot(tag.encode()) // width for tag in k.TAGS] == list(range(k.BUCKETS))


# --- writers ---


def test_announcing_an_item_lists_it_again(server: Server, store: RedisStore) -> None:
    saved(store, Entity.ITEM, "film")
    server.client.delete(k.ITEM_IDS[k.bucket_of("film")])  # as where the shard of the list was set back
    store.announce(items=["film"])
    assert store.ids(Entity.ITEM) == ["film"]


def test_an_offset_is_only_moved_from_where_this_writer_left_it(server: Server, store: RedisStore) -> None:
    store.progress()
    store.advance({P0: 5, P1: 5})
    rival = RedisStore(server.url)
    rival.advance({P0: 3})
    with pytest.raises(StoreSetBack, match=f"progress of {ENGAGEMENT}/0 is not what") as error:
        store.advance({P0: 6, P1: 6})
    assert error.value.places == {P0}
    assert store.progress() == {P0: 3, P1: 6}
    store.advance({P0: 4})
    assert rival.progress() == {P0: 4, P1: 6}


def test_an_advance_whose_answer_was_lost_may_be_said_again(server: Server, store: RedisStore) -> None:
    store.progress()
    RedisStore(server.url).advance({P0: 5})  # what the server did of it
    store.advance({P0: 5})
    assert store.progress() == {P0: 5}


def test_a_place_that_appeared_in_an_empty_store_is_a_rivals(server: Server, store: RedisStore) -> None:
    store.progress()
    RedisStore(server.url).advance({P0: 5})
    with pytest.raises(StoreSetBack):
        store.advance({P0: 9})


def test_a_server_that_forgot_the_scripts_is_told_them_again(server: Server, store: RedisStore) -> None:
    saved(store, Entity.USER, "vera")
    server.client.script_flush()
    saved(store, Entity.USER, "bob")
    assert store.ids(Entity.USER) == ["bob", "vera"]


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_ones(server: Server, store: RedisStore) -> None:
    for user, plays in (("vera", 1), ("bob", 2)):
        store.save({RecordKey(Entity.USER, user, P0): OnlineRecord(1, {"plays": {0: plays}})})
    hasty = RedisStore(server.url, timeout_s=0.2)
    assert hasty.read(Entity.USER, ["vera"]) == [{"plays": {0: 1}}]
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        hasty.read(Entity.USER, ["vera"])
    server.process.send_signal(signal.SIGCONT)
    assert hasty.read(Entity.USER, ["bob"]) == [{"plays": {0: 2}}]
    hasty.close()


def test_everything_comes_back_after_a_kill(server: Server, store: RedisStore) -> None:
    store.save({RecordKey(Entity.USER, "vera", P0): OnlineRecord(7, {"plays": {0: 2}}, DAY)})
    store.advance({P0: 8})
    store.announce(items=["film"])
    cursor = store.cursor()
    server.kill()
    server.start()
    assert store.read(Entity.USER, ["vera"]) == [{"plays": {0: 2}}]
    assert store.progress() == {P0: 8}
    found = store.changed("0-0")
    assert found == Changed(cursor, frozenset({"film"}), frozenset())
    assert days_left(server, k.hash_key(Entity.USER, "vera")) == 1.1


def test_announcements_that_were_set_back_are_not_followed(server: Server, store: RedisStore) -> None:
    store.announce(items=["kept"])
    size = server.log.stat().st_size
    store.announce(items=["lost"])
    cursor = store.cursor()
    server.kill()
    os.truncate(server.log, size)
    server.start()
    assert store.changed(cursor) is None
    store.announce(items=["new"])
    assert store.changed(cursor) is None
    found = store.changed("0-0")
    assert found is not None and found.items == {"kept", "new"}


def test_the_last_announcement_and_those_since_a_cursor_come_in_one_round_trip(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.announce(items=["film"])
    cursor, asked, ask = store.cursor(), list[int](), store._wire.ask
    monkeypatch.setattr(store._wire, "ask", lambda commands: (asked.append(1), ask(commands))[1])
    assert store.changed(cursor) == Changed(cursor, frozenset(), frozenset())
    assert len(asked) == 1


def test_a_trending_list_that_is_asked_for_again_is_the_askers_own_and_as_it_is_now(store: RedisStore) -> None:
    store.set_trending("home:ALL", {"a": 2.0, "b": 1.0})
    first = store.trending("home:ALL", 5)
    first.clear()
    assert store.trending("home:ALL", 5) == [("a", 2.0), ("b", 1.0)]
    assert store.trending("home:ALL", 1) == [("a", 2.0)]
    store.set_trending("home:ALL", {"a": 3.0, "b": 1.0})
    assert store.trending("home:ALL", 5) == [("a", 3.0), ("b", 1.0)]


def test_a_viewer_whose_id_holds_a_bar_has_her_own_pairs_and_they_go_with_her(store: RedisStore) -> None:
    viewers = ("u42", "u42|x", "auth0|u42")
    for user in viewers:
        saved(store, Entity.USER, user)
        saved(store, Entity.PAIR, pair_id(user, f"host of|{user}"))
    assert {user: list(store.of_viewer(user).pairs) for user in viewers} == {
        user: [f"host of|{user}"] for user in viewers
    }
    pairs = [pair_id(user, f"host of|{user}") for user in viewers]
    assert store.ids(Entity.PAIR) == sorted(pairs)
    assert store.erase_user("u42") == 2
    assert store.ids(Entity.PAIR) == sorted(pairs[1:])
    assert store.erase_user("u42|x") == 2
    assert store.ids(Entity.PAIR) == [pairs[2]]
    assert store.erase_user("host of|auth0|u42") == 1
    assert store.ids(Entity.PAIR) == []
