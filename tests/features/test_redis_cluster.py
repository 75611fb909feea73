"""A cluster of three real servers: shards that lose their last writes, keys that move, primaries without marks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from collector.run import Collector
from events.log import Place
from events.topics import ENGAGEMENT
from features import redis_keys as k
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.redis import RedisStore
from features.snapshot import look_in
from features.state import values
from features.store import MemoryStore, OnlineRecord, OnlineStore, RecordKey
from tests.collector.stories import EVENING, Evening, busy_evening, started
from tests.redis_servers import Cluster, Server

P0 = Place(ENGAGEMENT, 0)
LATER = EVENING + 4 * 3600.0
LAST = started("last", "u1", "v1", 9_100.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    three = Cluster(tmp_path_factory.mktemp("cluster")).start()
    yield three
    three.stop()


@pytest.fixture
def store(cluster: Cluster) -> Iterator[RedisStore]:
    cluster.flush()
    online = RedisStore(cluster.url)
    yield online
    online.close()


def everything(store: OnlineStore, truth: MemoryStore) -> dict[tuple[Entity, str], dict[str, object]]:
    """Every value of every entity that the truth knows, as of the evening's end."""
    out = {}
    for entity in Entity:
        ids = truth.ids(entity)
        for one, state in zip(ids, store.read(entity, ids), strict=True):
            out[entity, one] = values(entity, state, LATER, look_in(store, state))
    return out


@pytest.fixture
def undisturbed(tmp_path: Path) -> MemoryStore:
    """What a store holds after the evening when nothing fails."""
    told = Evening(tmp_path / "undisturbed")
    busy_evening(told)
    told.send(LAST)
    told.collect()
    return told.store


@pytest.fixture
def evening(tmp_path: Path, store: RedisStore) -> Evening:
    """The same evening, its collectors on the cluster."""
    told = Evening(tmp_path / "disturbed")
    told.store = store  # type: ignore[assignment]
    busy_evening(told)
    return told


def half(evening: Evening) -> Collector:
    """A collector that has read and written about half."""
    work = evening.collector()
    work.poll()
    for _ in range(4):
        work.take(work.poll())
        work.flush()
    work.commit()
    return work


def set_back(cluster: Cluster, server: Server, log: Path) -> None:
    """kill -9 of a primary, which starts again on an earlier state of its append-only file."""
    server.kill()
    shutil.copy(log, server.log)
    server.start()
    cluster.await_whole()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_shard_that_lost_its_last_writes_gets_them_again_exactly(
    number: int, cluster: Cluster, evening: Evening, undisturbed: MemoryStore, tmp_path: Path
) -> None:
    half(evening)
    evening.send(LAST)
    server, copy = cluster.servers[number], tmp_path / "copy.aof"
    before = evening.store.progress()
    shutil.copy(server.log, copy)
    evening.collect()
    reached = evening.store.progress()
    set_back(cluster, server, copy)
    assert evening.store.progress() == {place: before.get(place, 0) for place in reached} != reached
    evening.collect()
    assert evening.store.progress() == reached
    assert everything(evening.store, undisturbed) == everything(undisturbed, undisturbed)
    assert evening.store.ids(Entity.ITEM) == undisturbed.ids(Entity.ITEM)


def test_a_collector_that_runs_on_notices_that_a_shard_was_set_back(
    cluster: Cluster, evening: Evening, undisturbed: MemoryStore, tmp_path: Path
) -> None:
    server, copy = cluster.servers[1], tmp_path / "copy.aof"
    work = half(evening)
    shutil.copy(server.log, copy)
    work.take(work.poll())
    work.flush()
    set_back(cluster, server, copy)
    evening.send(LAST)
    evening.collect(work)
    assert everything(evening.store, undisturbed) == everything(undisturbed, undisturbed)


def test_a_shard_set_back_between_records_and_progress_is_noticed(
    cluster: Cluster, evening: Evening, undisturbed: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retried flush must not write over the loss: the records went out, the shard falls back, the progress follows."""
    server, copy = cluster.servers[2], tmp_path / "copy.aof"
    shutil.copy(server.log, copy)
    work = evening.collect()
    evening.send(LAST)
    lost, announce = list[bool](), evening.store.announce

    def lose_once(**what: list[str]) -> None:
        announce(**what)
        if not lost:
            set_back(cluster, server, copy)
            lost.append(True)

    monkeypatch.setattr(evening.store, "announce", lose_once)
    evening.collect(work)
    assert lost == [True]
    assert everything(evening.store, undisturbed) == everything(undisturbed, undisturbed)


def test_a_primary_that_keeps_no_marks_is_refused_by_name(
    cluster: Cluster, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k, "MARKS", k.MARKS[:1])
    ports = "|".join(str(one.port) for one in cluster.servers[1:])
    for ask in (store.progress, lambda: store.advance({P0: 1})):
        with pytest.raises(StoreUnavailable, match=rf"the primary 127\.0\.0\.1:({ports}) holds none of the 64 slots"):
            ask()


def test_a_cluster_is_found_at_a_plain_address(cluster: Cluster, store: RedisStore) -> None:
    plain = RedisStore(f"redis://127.0.0.1:{cluster.servers[1].port}/0")
    plain.save({RecordKey(Entity.USER, f"u{n}", P0): OnlineRecord(n, {}) for n in range(50)})
    plain.close()
    assert len(store.ids(Entity.USER)) == 50


def test_clearing_leaves_no_server_anything_and_the_store_usable(cluster: Cluster, store: RedisStore) -> None:
    store.save({RecordKey(Entity.USER, f"u{n}", P0): OnlineRecord(n, {}) for n in range(50)})
    store.advance({P0: 50})
    store.announce(items=["film"])
    store.clear()
    assert [one.client.dbsize() for one in cluster.servers] == [0, 0, 0]
    store.advance({P0: 3})
    assert store.progress() == {P0: 3}


def move(cluster: Cluster, slot: int, *, half_way: bool = False) -> None:
    """A slot of the first server moves to the second; half way: one key is there, the slot is not."""
    source, target = (one.client for one in cluster.servers[:2])
    ids = [one.execute_command("CLUSTER MYID") for one in (source, target)]
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    for key in source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        source.execute_command("MIGRATE", "127.0.0.1", cluster.servers[1].port, key, 0, 5000)
    if not half_way:
        for one in (target, source, cluster.servers[2].client):
            one.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])


def settle(cluster: Cluster, slot: int) -> None:
    """The slot belongs to the second server."""
    target = cluster.servers[1].client.execute_command("CLUSTER MYID")
    for one in (cluster.servers[1], cluster.servers[0], cluster.servers[2]):
        one.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target)


def test_keys_are_found_while_their_slot_moves_and_after(cluster: Cluster, store: RedisStore) -> None:
    users = [n for n in range(2000) if key_slot(k.hash_key(Entity.USER, f"u{n}").encode()) < 5000]
    one = RecordKey(Entity.USER, f"u{users[0]}", P0)
    slot = key_slot(k.hash_key(one.entity, one.entity_id).encode())
    others = {RecordKey(Entity.USER, f"u{n}", P0): OnlineRecord(n, {}) for n in users[1:20]}
    store.save({one: OnlineRecord(1, {"plays": {0: 1}})} | others)
    move(cluster, slot, half_way=True)
    assert store.load([one, *others])[0] == OnlineRecord(1, {"plays": {0: 1}})
    assert store.save({one: OnlineRecord(0, {})}) == [one]
    assert store.save({one: OnlineRecord(2, {"plays": {0: 2}})} | others) == []
    settle(cluster, slot)
    assert store.load([one]) == [OnlineRecord(2, {"plays": {0: 2}})]
    assert store.save({one: OnlineRecord(1, {})}) == [one]
    assert store.load(list(others)) == list(others.values())
