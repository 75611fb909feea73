"""`livefeed bench feed --json`: a feed out of 3 million items, 500 candidates ranked by the reference ranker, over HTTP.

Redis, Kafka, model server and proxy run as processes of their own, with features, impressions and exploration on. One client
on loopback, one request at a time in rounds, then several at once until nothing more goes. CPU is that of proxy and model
server, from the operating system; `feed_cpu_ms` is the median of the rounds, the least and the most of them stand beside, and
so do Redis's and the broker's. The baseline is `/healthz` of the same proxy in the same run. Two yardsticks tell how the
machine was: `loop_cpu_ms` is the CPU of a fixed loop of Python, `walk_cpu_ms` that of a fixed walk through 4 MB in random
order, which takes three times as long where neighbours have the caches.
`python -m benchmarks.feed --items 50000` runs it smaller.
"""

import http.client
import json
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import httpx
import psutil
import typer

from benchmarks.feed_ground import NOW, VIEWERS, fill, release
from benchmarks.own_parts import cpu_s, own_parts, process_of
from benchmarks.result import BenchError, Result, bar
from features.redis import RedisStore
from serving.metrics import STAGES
from settings import Settings
from stack.parts import Parts

ITEMS = 3_000_000
WARM, MANY_CLIENTS, CLIENTS = 200, 1_500, 8
ROUNDS, ROUND = 10, 150  # of one client, and of feeds in each
LOAD_TIMEOUT_S = 480.0
LOOP, WALK, STEPS = 200_000, 100_000, 200_000  # of the yardsticks, once a round
PEERS = {  # published or measured elsewhere, on other machines: for the record, not compared
    "easyrec_processor_150_items_feeds_per_s_per_core": 15.0, "gorse_uncached_cpu_ms": 53.0,
}  # fmt: skip
Say = Callable[[str], None]
Figures = dict[str, float | None]
Answered = tuple[float, bool, bool]  # milliseconds, whether it was a full page, whether it was degraded


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the values lie (nearest rank); None of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else None


class Client:
    """One connection that stays open; every answer is read whole."""

    def __init__(self, settings: Settings) -> None:
        self._connection = http.client.HTTPConnection(settings.host, settings.proxy_port, timeout=30.0)

    def feed(self, user: str) -> Answered:
        """Milliseconds, whether 20 items came, whether the answer was degraded or shed."""
        query = urlencode({"user_id": user, "limit": "20"})
        took, status, body = self._get(f"/api/v1/content/feed?{query}")
        answer = json.loads(body) if status == 200 else {"items": [], "degraded": ()}
        return took, status == 200 and len(answer["items"]) == 20, bool(answer["degraded"])

    def healthz(self) -> float:
        """Milliseconds of a request that does nothing."""
        return self._get("/healthz")[0]

    def _get(self, path: str) -> tuple[float, int, bytes]:
        begun = time.perf_counter()
        self._connection.request("GET", path, headers={"X-Livefeed-Now": str(NOW)})
        answer = self._connection.getresponse()
        body = answer.read()
        return (time.perf_counter() - begun) * 1e3, answer.status, body


def measure(settings: Settings, seed: int, say: Say, *, items: int = ITEMS) -> Result:
    """Fill, load, ask; hold latency and CPU against the bars."""
    with own_parts(settings.model_copy(update={"clock": "request"}), ["redis", "kafka"], say=say) as (parts, own):
        store = RedisStore(own.redis, timeout_s=30.0)
        fill(store, items, random.Random(seed), say)
        release(own.releases, own.models, items, seed, say)
        parts.up(["model-server", "proxy"], report=say)
        _wait_until_loaded(own, say)
        return _load(parts, own, items, seed, say)


def _wait_until_loaded(settings: Settings, say: Say) -> None:
    begun, said = time.monotonic(), ""
    while time.monotonic() - begun < LOAD_TIMEOUT_S:
        Client(settings).feed("viewer-0")  # in a time lapse the clock stands until somebody asks
        ready = httpx.get(f"{settings.proxy}/readyz", timeout=10.0).json()
        if ready["ready"]:
            say(f"the proxy is ready after {time.monotonic() - begun:.0f} s")
            return
        if str(ready["troubles"]) != said:
            said = str(ready["troubles"])
            say(said)
        time.sleep(1.0)
    raise BenchError(f"the proxy was not ready after {LOAD_TIMEOUT_S:.0f} s: {said}")


def _load(parts: Parts, settings: Settings, items: int, seed: int, say: Say) -> Result:
    pick = random.Random(seed)
    users = [f"viewer-{pick.randrange(VIEWERS)}" for _ in range(WARM + ROUNDS * ROUND + MANY_CLIENTS)]
    proxy, model = process_of(parts, "proxy"), process_of(parts, "model-server")
    beside = [process_of(parts, name) for name in ("redis", "kafka")]
    client = Client(settings)
    for user in users[:WARM]:
        client.feed(user)
    bare = [client.healthz() for _ in range(500)]
    before, used_beside = _stages(settings), [cpu_s(one) for one in beside]
    rounds = _rounds(client, (proxy, model), users[WARM : WARM + ROUNDS * ROUND], walk_of(pick))
    one, used = rounds.answers, rounds.used
    after = _stages(settings)
    used_beside = [(cpu_s(of) - was) / len(one) * 1e3 for of, was in zip(beside, used_beside, strict=True)]
    both = sorted(sum(spent) / ROUND * 1e3 for spent in used)
    cpu_ms = statistics.median(both)
    say("one client is done")
    busy = cpu_s(proxy) + cpu_s(model)
    many, wall = _at_once(settings, users[WARM + ROUNDS * ROUND :])
    busy = cpu_s(proxy) + cpu_s(model) - busy
    took = [ms for ms, _, _ in one]
    figures: Figures = {
        "items": float(items),
        "feed_p50_ms": percentile(took, 0.5),
        "feed_p99_ms": percentile(took, 0.99),
        "feed_cpu_ms": cpu_ms,
        "feed_cpu_least_ms": both[0],
        "feed_cpu_most_ms": both[-1],
        "proxy_cpu_ms": statistics.median(spent for spent, _ in used) / ROUND * 1e3,
        "model_server_cpu_ms": statistics.median(spent for _, spent in used) / ROUND * 1e3,
        "redis_cpu_ms": used_beside[0],
        "kafka_cpu_ms": used_beside[1],
        "feeds_per_s_per_core": 1e3 / cpu_ms,
        "candidates": _mean(before, after, "livefeed_feed_candidates", ""),
        "saturated_feeds_per_s": len(many) / wall,
        "saturated_p99_ms": percentile([ms for ms, _, _ in many], 0.99),
        "saturated_cpu_ms": busy / len(many) * 1e3,
        "feed_errors": float(sum(not fine for _, fine, _ in (*one, *many))),
        "feed_degraded": float(sum(poorer for _, _, poorer in one)),
        "saturated_degraded": float(sum(poorer for _, _, poorer in many)),
        "proxy_rss_mb": proxy.memory_info().rss / 1e6,
    }
    figures |= _by_stage(before, after)
    bars = (
        bar(figures, "feed_p50_ms", "<=", 8.0),
        bar(figures, "feed_p99_ms", "<=", 20.0),
        bar(figures, "feed_cpu_ms", "<=", 6.0),
        bar(figures, "feed_errors", "<=", 0.0),
        bar(figures, "feed_degraded", "<=", 0.0),
        bar(figures, "candidates", ">=", 490.0),
    )
    walk = statistics.median(rounds.walks)
    figures["feed_cpu_in_walks"] = cpu_ms / walk
    baseline = {
        "healthz_p50_ms": percentile(bare, 0.5), "healthz_p99_ms": percentile(bare, 0.99),
        "loop_cpu_ms": statistics.median(rounds.loops), "walk_cpu_ms": walk, "walk_cpu_least_ms": min(rounds.walks), **PEERS,
    }  # fmt: skip
    return Result(bench="feed", figures=figures, baseline=baseline, bars=bars, seed=seed)


class Rounds(NamedTuple):
    """What one client saw, and by round: CPU seconds of proxy and model server, CPU milliseconds of the two yardsticks."""

    answers: list[Answered]
    used: list[tuple[float, float]]
    loops: list[float]
    walks: list[float]


def _rounds(
    client: Client, parts: tuple[psutil.Process, psutil.Process], users: Sequence[str], chain: Sequence[int]
) -> Rounds:
    out = Rounds([], [], [], [])
    for start in range(0, len(users), ROUND):
        out.loops.append(cpu_ms_of(lambda: sum(number * number for number in range(LOOP))))
        out.walks.append(cpu_ms_of(lambda: walked(chain, STEPS)))
        proxy, model = (cpu_s(one) for one in parts)
        out.answers.extend(client.feed(user) for user in users[start : start + ROUND])
        out.used.append((cpu_s(parts[0]) - proxy, cpu_s(parts[1]) - model))
    return out


def cpu_ms_of(work: Callable[[], object]) -> float:
    """CPU milliseconds of a call."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e3


def walk_of(pick: random.Random, size: int = WALK) -> list[int]:
    """At each place the next one of a round through all places in random order."""
    order = list(range(size))
    pick.shuffle(order)
    chain = [0] * size
    for here, following in zip(order, [*order[1:], order[0]], strict=True):
        chain[here] = following
    return chain


def walked(chain: Sequence[int], steps: int) -> int:
    """Where a walk from place 0 ends: each step waits for the memory of the one before."""
    at = 0
    for _ in range(steps):
        at = chain[at]
    return at


def _at_once(settings: Settings, users: Sequence[str]) -> tuple[list[Answered], float]:
    """Answers to CLIENTS clients that never wait, and the seconds they took."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(lambda n: _all(settings, users[n::CLIENTS]), range(CLIENTS)))
    return [row for rows in found for row in rows], time.perf_counter() - begun


def _all(settings: Settings, users: Sequence[str]) -> list[Answered]:
    client = Client(settings)
    return [client.feed(user) for user in users]


def _stages(settings: Settings) -> Mapping[str, float]:
    """Sums and counts of the proxy's histograms."""
    text = httpx.get(f"{settings.proxy}/metrics", timeout=10.0).text
    found = re.findall(r"^(livefeed_feed_\w+?_(?:sum|count)(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.M)
    return {name: float(value) for name, value in found}


def _by_stage(before: Mapping[str, float], after: Mapping[str, float]) -> Figures:
    """Mean wall milliseconds."""
    means = {one: _mean(before, after, "livefeed_feed_stage_seconds", f'{{stage="{one}"}}') for one in STAGES}
    return {f"stage_{one}_ms": None if mean is None else mean * 1e3 for one, mean in means.items()}


def _mean(before: Mapping[str, float], after: Mapping[str, float], name: str, labels: str) -> float | None:
    total, count = (
        after.get(f"{name}_{of}{labels}", 0.0) - before.get(f"{name}_{of}{labels}", 0.0) for of in ("sum", "count")
    )
    return total / count if count else None


def main(items: Annotated[int, typer.Option(min=1_000)] = 50_000, seed: int = 7) -> None:
    """Run it smaller and print the line."""
    typer.echo(measure(Settings(), seed, lambda line: typer.echo(line, err=True), items=items).line())


if __name__ == "__main__":
    typer.run(main)
