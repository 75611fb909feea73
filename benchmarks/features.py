"""`livefeed bench features --json`: the features of one viewer and 500 items, from Redis and from the serving process.

From Redis: the viewer's record in one read and the items' packed vectors in one MGET, unpacked to a matrix, on 100,000 items.
In process: the same numbers out of the item table of three million items, by row number and by id. The baseline is the layout
that feature stores commonly have, a hash of text fields an item, read with a pipeline of HGETALL by the same client, on the
same items, in the same run.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import redis

from benchmarks.feed import percentile
from benchmarks.own_parts import Say, own_parts
from benchmarks.result import Result, bar
from events import schema as s
from events.clock import utc
from events.log import Place
from features.definitions import Entity
from features.garbage import seldom_pass_over_everything
from features.redis import RedisStore
from features.state import EntityState
from features.store import MemoryStore, RecordKey
from features.vectors import CREATOR, ITEM, NAMES, pack, unpack
from serving.item_table import ItemTable
from settings import Settings

ITEMS, IN_PROCESS, CREATORS, VIEWERS = 100_000, 3_000_000, 300_000, 200
CANDIDATES, STARTS = 500, 120  # items a request; events in a viewer's record
WARM, ASKED, ASKED_NAIVE = 200, 2_000, 200
NOW = 1_800_000_000.0
AT_ONCE = 5_000
Row = dict[str, float | None]
Figures = dict[str, float | None]


def item_id(number: int) -> str:
    """The id of an item."""
    return f"media-{number:07d}"


def row_of(pick: random.Random) -> tuple[Row, Row]:
    """Numbers of an item and of its creator, as a busy catalogue has them."""
    item: Row = {name: float(round(pick.expovariate(0.1))) for name in ITEM}
    item |= {"satisfaction": pick.random(), "like_ratio": pick.random(), "published_at": NOW - pick.random() * 1e7}
    return item, {name: float(round(pick.expovariate(0.01))) for name in CREATOR}


def fill(store: RedisStore, naive: Any, pick: random.Random) -> None:
    """Packed vectors and text hashes of every item, and the viewers' records."""
    for start in range(0, ITEMS, AT_ONCE):
        rows = {item_id(number): row_of(pick) for number in range(start, start + AT_ONCE)}
        store.set_vectors({one: pack(*row) for one, row in rows.items()})
        pipe = naive.pipeline(transaction=False)
        for one, (item, creator) in rows.items():
            fields = dict(zip(NAMES, (*item.values(), *creator.values()), strict=True))
            pipe.hset(f"naive:{one}", mapping={name: repr(number) for name, number in fields.items()})
        pipe.execute()
    for number in range(VIEWERS):
        store.save(viewer_records(f"viewer-{number}", pick))


def viewer_records(viewer: str, pick: random.Random) -> dict[RecordKey, Any]:
    """A viewer's record after STARTS starts and completions in a week."""
    memory, place = MemoryStore(), Place("user.engagement.events", 0)
    for number in range(STARTS):
        at = NOW - pick.random() * 6e5
        one = item_id(pick.randrange(ITEMS))
        for kind in (s.MediaStarted, s.MediaCompleted):
            memory.apply(kind(event_id=f"{number}", event_at=utc(at), user_id=viewer, item_id=one), at, place=place)
    return {RecordKey(Entity.USER, viewer, place): memory.records[Entity.USER, viewer][place]}


def big_table(say: Say) -> ItemTable:
    """An item table of three million items, each with plays and a publish time."""
    table, begun = ItemTable(), time.perf_counter()
    for number in range(CREATORS):
        table.put_creator(f"creator-{number}", {"plays": {0: number}}, NOW)
    for number in range(IN_PROCESS):
        state: EntityState = {"plays": {0: number}, "published_at": [NOW, NOW - number]}
        table.put(item_id(number), state, creator_id=f"creator-{number % CREATORS}", now=NOW)
    say(f"{IN_PROCESS} items in process after {time.perf_counter() - begun:.0f} s")
    return table


def requests(pick: random.Random, *, among: int, times: int) -> Iterator[tuple[list[str], str]]:
    """WARM + `times` requests: the ids of 500 random items, and a viewer."""
    for _ in range(WARM + times):
        yield [item_id(pick.randrange(among)) for _ in range(CANDIDATES)], f"viewer-{pick.randrange(VIEWERS)}"


def timed(name: str, ask: Callable[..., object], asked: Iterable[tuple[Any, ...]]) -> Figures:
    """Milliseconds of each call without the first WARM: wall p50 and p99, and this thread's CPU."""
    wall, cpu = [], []
    for words in asked:
        begun, used = time.perf_counter(), time.thread_time()
        ask(*words)
        cpu.append((time.thread_time() - used) * 1e3)
        wall.append((time.perf_counter() - begun) * 1e3)
    wall, cpu = wall[WARM:], cpu[WARM:]
    return {
        f"{name}_p50_ms": percentile(wall, 0.5),
        f"{name}_p99_ms": percentile(wall, 0.99),
        f"{name}_cpu_ms": sum(cpu) / len(cpu),
    }


def read_naive(client: Any, ids: Sequence[str], viewer: str) -> Any:
    """The matrix [500, F] from a hash of text fields an item, and the viewer's record."""
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(f"naive:{viewer}")
    for one in ids:
        pipe.hgetall(f"naive:{one}")
    _, *found = pipe.execute()
    names = [name.encode() for name in NAMES]
    return np.array([[float(row.get(name, math.nan)) for name in names] for row in found], np.float32)


def from_redis(address: str, pick: random.Random, say: Say) -> tuple[Figures, Figures]:
    """What a request costs when every number comes from Redis; figures and baseline."""
    store, naive = RedisStore(address), redis.Redis.from_url(address)
    fill(store, naive, pick)
    say(f"{ITEMS} items and {VIEWERS} viewers in Redis")

    def packed(ids: list[str], viewer: str) -> object:
        state, vectors = store.of_request(viewer, ids)
        return state, unpack(vectors)

    figures = timed("features_redis", packed, requests(pick, among=ITEMS, times=ASKED))
    figures |= timed("items_redis", lambda ids, _: unpack(store.vectors(ids)), requests(pick, among=ITEMS, times=ASKED))
    asked = requests(pick, among=ITEMS, times=ASKED_NAIVE)
    baseline = timed("naive_hgetall", lambda *words: read_naive(naive, *words), asked)
    store.close()
    naive.close()
    return figures, baseline


def in_process(pick: random.Random, say: Say) -> Figures:
    """What 500 items cost out of the item table, by row number and by id."""
    table = big_table(say)
    rows = ((np.array([pick.randrange(1, IN_PROCESS) for _ in range(CANDIDATES)]),) for _ in range(WARM + ASKED))
    asked = requests(pick, among=IN_PROCESS, times=ASKED)
    return timed("features_in_process", table.take, rows) | timed(
        "features_in_process_by_id", lambda ids, _: table.take(table.rows(ids)), asked
    )


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Both ways of getting the features of a request, beside the naive one."""
    pick = random.Random(seed)
    seldom_pass_over_everything()  # as the proxy does
    with own_parts(settings, ["redis"], say=say) as (_, own):
        figures, baseline = from_redis(own.redis, pick, say)
    figures |= in_process(pick, say)
    bars = (
        bar(figures, "features_redis_p50_ms", "<", 1.0),
        bar(figures, "features_redis_p99_ms", "<", 1.0),
        bar(figures, "features_in_process_p50_ms", "<", 0.1),
        bar(figures, "features_in_process_p99_ms", "<", 0.1),
    )
    return Result(bench="features", figures=figures, baseline=baseline, bars=bars, seed=seed)
