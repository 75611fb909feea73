"""`livefeed bench memory --json`: what Redis holds an active viewer, item, room, creator and pair; what a write costs.

A simulated world plays for a week into a log in memory; the definitions fold its events into records, a lane a partition, as
the collector does; each kind of entity is written to an empty Redis of the benchmark's own and the server's memory is read
before and after: keys, expiries and every overhead are in. The baseline keeps the same states in the same Redis, a key a
record, a text field a state. The CPU of a guarded write, of client and server together, stands beside that of a plain HSET of
the same bytes.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import redis

from benchmarks.own_parts import Say, cpu_s, own_parts, process_of
from benchmarks.result import Result, bar
from events.log import MemoryLog, MemoryWriter, Place
from events.schema import ContentType
from events.topics import IMPRESSIONS, decode
from features.definitions import DAY, Entity
from features.redis import RedisStore
from features.redis_keys import field_of, hash_key, pack
from features.state import EntityState, fold
from features.store import OnlineRecord, RecordKey
from features.vectors import packed
from settings import Settings
from simulator.config import WorldConfig
from simulator.feed import RandomFeed
from simulator.world import World

VIEWERS, HOSTS, CREATORS, ITEMS = 600, 24, 150, 3_000
SESSIONS_PER_DAY, DAYS, HOURS_A_STEP = 4.0, 7.0, 4.0
PARTITIONS = 4
USERS_PROJECTED, ITEMS_PROJECTED = 10_000_000, 3_000_000
KEPT_S = 90 * DAY
ROUNDS = 3  # of writes whose CPU is taken
AT_ONCE = 1_000  # commands a round trip
Records = dict[RecordKey, OnlineRecord]
Sizes = dict[str, float]


def played(seed: int, say: Say) -> tuple[Records, int, float]:
    """The records that a week of a small world leaves, how many events they are of, and the last event time."""
    log = MemoryLog(PARTITIONS)
    dials = WorldConfig(
        seed=seed, viewers=VIEWERS, hosts=HOSTS, creators=CREATORS, items=ITEMS, sessions_per_day=SESSIONS_PER_DAY
    )
    world, writer = World(dials), MemoryWriter(log)
    feed = RandomFeed(world.on, seed=seed, writer=writer)
    records: Records = {}
    events, last = 0, 0.0
    for _ in range(int(DAYS * 24 / HOURS_A_STEP)):
        world.advance(HOURS_A_STEP, writer, feed)
        for place, lane in log.records.items():
            for record in lane if place.topic != IMPRESSIONS else ():
                event = decode(place.topic, record.value)
                at, events = event.event_at.timestamp(), events + 1
                fold(event, at, _states(records, place, offset=events))
                last = max(at, last)
        log.records.clear()
    say(f"{events:,} events, {len(records):,} records")
    return records, events, last


def _states(records: Records, place: Place, *, offset: int) -> Callable[[Entity, str], EntityState]:
    def state_of(entity: Entity, one: str) -> EntityState:
        held = records.setdefault(RecordKey(entity, one, place), OnlineRecord(0, {}, KEPT_S))
        held.offset = offset
        return held.state

    return state_of


def by_kind(records: Records) -> dict[str, Records]:
    """The records by what they are of: viewers who started something, media, rooms, creators, pairs."""
    rooms, active = set(), set()
    for key, record in records.items():
        if key.entity is Entity.ITEM and record.state.get("content_type", (0, ""))[1] == ContentType.LIVE:
            rooms.add(key.entity_id)
        if key.entity is Entity.USER and "plays" in record.state:
            active.add(key.entity_id)
    kinds: dict[str, Records] = {name: {} for name in ("user", "item", "room", "creator", "pair")}
    for key, record in records.items():
        if key.entity is Entity.ITEM:
            kinds["room" if key.entity_id in rooms else "item"][key] = record
        elif key.entity is not Entity.USER or key.entity_id in active:
            kinds[str(key.entity)][key] = record
    return kinds


def grown(client: Any, write: Callable[[], object]) -> int:
    """Bytes by which the memory of a server grows that was empty, without its buffers."""

    def now() -> int:
        info = client.info("memory")
        return int(info["used_memory"]) - int(info["mem_aof_buffer"]) - int(info["mem_clients_normal"])

    client.flushall()
    before = now()
    write()
    return now() - before


def as_text(client: Any, records: Records) -> None:
    """The baseline: a key a record, a text field a state."""
    pipe = client.pipeline(transaction=False)
    for number, (key, record) in enumerate(records.items(), 1):
        name = f"f:{key.entity}:{key.entity_id}:{key.place.topic}/{key.place.partition}"
        fields = {state: json.dumps(held) for state, held in record.state.items()}
        pipe.hset(name, mapping=fields | {"offset": str(record.offset)})
        pipe.expire(name, int(KEPT_S))
        if number % AT_ONCE == 0:
            pipe.execute()
    pipe.execute()


def plain_hset(client: Any, records: Records) -> None:
    """The same bytes in the same places, with no look at what stands there."""
    pipe = client.pipeline(transaction=False)
    for number, (key, record) in enumerate(records.items(), 1):
        pipe.hset(hash_key(key.entity, key.entity_id), field_of(key), pack(record))
        if number % AT_ONCE == 0:
            pipe.execute()
    pipe.execute()


def cpu_us(server: psutil.Process, write: Callable[[], object], *, writes: int) -> float:
    """CPU microseconds a write, of this process and the server."""
    theirs, ours = cpu_s(server), time.process_time()
    for _ in range(ROUNDS):
        write()
    return (cpu_s(server) - theirs + time.process_time() - ours) / (ROUNDS * writes) * 1e6


def projected_gb(each: Mapping[str, float], *, pairs_per_user: float, creators_per_item: float) -> float:
    """GB for the viewers and items projected; rooms end, and are few."""
    users = USERS_PROJECTED * (each["user"] + pairs_per_user * each["pair"])
    items = ITEMS_PROJECTED * (each["item"] + each.get("vector", 0.0) + creators_per_item * each["creator"])
    return (users + items) / 1e9


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Bytes an entity of each kind, the whole projected, and the CPU of a write."""
    records, events, now = played(seed, say)
    kinds = by_kind(records)
    count = {name: len({key.entity_id for key in some}) for name, some in kinds.items()}
    ours, text = Sizes(), Sizes()
    with own_parts(settings, ["redis"], say=say) as (parts, own):
        client, store = redis.Redis.from_url(own.redis), RedisStore(own.redis)
        for name, some in kinds.items():
            ours[name] = grown(client, lambda some=some: store.save(some)) / count[name]  # type: ignore[misc]
            text[name] = grown(client, lambda some=some: as_text(client, some)) / count[name]  # type: ignore[misc]
        vectors = {key.entity_id: packed(record.state, {}, now=now) for key, record in kinds["item"].items()}
        ours["vector"] = grown(client, lambda: store.set_vectors(vectors)) / len(vectors)
        server = process_of(parts, "redis")
        plain = cpu_us(server, lambda: plain_hset(client, records), writes=len(records))
        guarded = cpu_us(server, lambda: store.save(records), writes=len(records))
        store.close()
    shares = {"pairs_per_user": count["pair"] / count["user"], "creators_per_item": count["creator"] / count["item"]}
    whole, whole_text = projected_gb(ours, **shares), projected_gb(text, **shares)
    figures: dict[str, float | None] = {f"bytes_per_{name}": size for name, size in ours.items()}
    figures |= {"projected_gb": whole, "share_of_text": whole / whole_text, "save_cpu_us": guarded, "events": events}
    figures |= {"largest_record_bytes": max(map(len, map(pack, records.values()))), **shares}
    figures |= {f"{name}s": number for name, number in count.items()}
    baseline: dict[str, float | None] = {f"bytes_per_{name}": size for name, size in text.items()}
    baseline |= {"projected_gb": whole_text, "hset_cpu_us": plain}
    bars = (bar(figures, "share_of_text", "<", 0.5),)
    return Result(bench="memory", figures=figures, baseline=baseline, bars=bars, seed=seed)
