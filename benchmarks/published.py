"""How long a publication takes until the nearest search finds it: broker, collector, Redis, embedding, index; all real.

Part of `livefeed bench recall`. The proxy's serving parts run in this process, so that a search can be asked for at any
moment; the model server embeds. Publications come one at a time, at odds with the steps of the threads that follow.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.drill_world import await_true
from benchmarks.feed_ground import LANGUAGES, item_id, media, release
from benchmarks.own_parts import own_parts
from events import schema as s
from events.clock import utc
from events.kafka import KafkaWriter
from events.log import Place
from features.definitions import Entity
from features.redis import RedisStore
from features.store import OnlineRecord, RecordKey
from serving.attempt import DEFAULT
from serving.wiring import BACKGROUND_TIMEOUT_S, Proxy, build
from settings import Settings

HELD, PROBES, PROBES_PER_S, K = 20_000, 60, 3.0, 60
PATIENCE_S, LOOK_S = 60.0, 0.005
Say = Callable[[str], None]


def publish_to_found(settings: Settings, seed: int, say: Say, *, probes: int = PROBES) -> dict[str, float | None]:
    """Milliseconds from handing a publication to the broker until a search beside the index finds the item."""
    pick = random.Random(seed)
    with own_parts(settings, ["redis", "kafka", "collector", "model-server"], say=say) as (_, own):
        _hold(RedisStore(own.redis, timeout_s=30.0))
        release(own.releases, own.models, HELD, seed, say)
        proxy = _proxy(own)
        proxy.start()
        writer = KafkaWriter(own.kafka)
        try:
            await_true(
                lambda: proxy.parts.background.retrieval is not None and proxy.parts.catalogue.view.loaded,
                "the proxy has its release and its items",
            )
            _found_after(proxy, writer, "warm")  # makes topics, and the first call of the signature
            took = [_found_after(proxy, writer, str(n), pick.random() / PROBES_PER_S) for n in range(probes)]
        finally:
            writer.close()
            proxy.close()
    return {f"publish_to_found_{name}_ms": float(np.percentile(took, share, method="inverted_cdf")) * 1e3
            for name, share in (("p50", 50), ("p99", 99), ("max", 100))}  # fmt: skip


def _hold(store: RedisStore) -> None:
    """What the release's index was made of, published before now."""
    for start in range(0, HELD, 5_000):
        keys = {RecordKey(Entity.ITEM, item_id(n), Place("media.events", 0)): n for n in range(start, start + 5_000)}
        store.save({key: OnlineRecord(1, media(n, at=time.time() - 1e6 + n)) for key, n in keys.items()})


def _proxy(own: Settings) -> Proxy:
    return build(
        RedisStore(own.redis, timeout_s=1.0), lambda: KafkaWriter(own.kafka), model_server=own.model_server,
        releases=own.releases, spool=Path(own.var) / "spool" / "impressions.jsonl", config=DEFAULT, follows_requests=False,
        background_store=RedisStore(own.redis, timeout_s=BACKGROUND_TIMEOUT_S),
        recheck_store=RedisStore(own.redis, timeout_s=1.0),
    )  # fmt: skip


def _found_after(proxy: Proxy, writer: KafkaWriter, name: str, pause_s: float = 0.0) -> float:
    """Seconds until the item is found; BenchError when it is not in time."""
    time.sleep(pause_s)
    one, number = f"published-{name}", len(name) + sum(map(ord, name))
    event = s.MediaPublished(
        event_id=one, event_at=utc(time.time()), item_id=one, creator_id="creator-1", content_type="VIDEO", title=one,
        category=f"category-{number % 100}", tags=(f"tag-{number}",), language=LANGUAGES[0], duration_s=60.0,
    )  # fmt: skip
    begun = time.perf_counter()
    writer.send(event)
    writer.flush()
    await_true(lambda: _is_found(proxy, one), f"{one} is found", within_s=PATIENCE_S, every_s=LOOK_S)
    return time.perf_counter() - begun


def _is_found(proxy: Proxy, one: str) -> bool:
    row, retrieval = proxy.parts.catalogue.view.table.row_of.get(one), proxy.parts.background.retrieval
    near = None if row is None or retrieval is None else retrieval.embedding_of(row)
    return retrieval is not None and near is not None and row in retrieval.nearest_fresh(near, K, None)
