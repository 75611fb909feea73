"""`livefeed bench feed --json`: feeds per second and latency over HTTP on the demo's catalogue, beside the bare HTTP cost.

One client on loopback, one request at a time and then four at once; the baseline is `/healthz` of the same proxy in the
same run, so that the difference is the feed's own work. CPU is the proxy process's, from the operating system. A
stack that already runs over the demo's state is used as it is, with its own request budget.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from benchmarks.result import BenchError, Result, bar
from settings import Settings
from stack.demo.run import DemoConfig, demo_settings, run_demo
from stack.parts import Parts

WARM, SEQUENTIAL, CONCURRENT, CLIENTS = 50, 400, 400, 4
Say = Callable[[str], None]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the values lie (nearest rank); None of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else None


def _summary(settings: Settings, seed: int, say: Say) -> dict[str, object]:
    """The demo's summary, running the demo first where there is none."""
    path = settings.var / "summary.json"
    if not path.is_file():
        say("no demo under var/ yet: running it first")
        run_demo(settings, DemoConfig(seed=seed), say=say)
    found: dict[str, object] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def _ask(client: httpx.Client, path: str, params: dict[str, str], headers: dict[str, str]) -> tuple[float, bool, bool]:
    """Milliseconds, whether it was answered with items (or ok), whether it was degraded."""
    begun = time.perf_counter()
    answer = client.get(path, params=params, headers=headers)
    took = (time.perf_counter() - begun) * 1e3
    body = answer.json() if params else {}
    return took, answer.status_code == 200 and (not params or bool(body["items"])), bool(body.get("degraded"))


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Bring the demo's parts up, load the feed, and hold p99 against the request budget."""
    settings = demo_settings(settings)
    summary = _summary(settings, seed, say)
    viewers, now = summary["viewers"], str(summary["now"])
    if not isinstance(viewers, list) or not viewers:
        raise BenchError("the demo's summary names no viewers; run make demo again")
    pick = random.Random(seed)
    users = [str(pick.choice(viewers)) for _ in range(WARM + SEQUENTIAL + CONCURRENT)]
    parts = Parts(settings)
    ours = all(status.condition in ("stopped", "died") for status in parts.status())
    try:
        parts.up(["kafka", "redis", "model-server", "collector", "proxy"], report=say)
        proxy = next(status.pid for status in parts.status() if status.name == "proxy")
        return _load(settings, users, now, psutil.Process(proxy), seed)
    finally:
        if ours:  # a stack that was up before stays up
            parts.down(report=say)


def _load(settings: Settings, users: Sequence[str], now: str, proxy: psutil.Process, seed: int) -> Result:
    headers = {"X-Livefeed-Now": now}
    with httpx.Client(base_url=settings.proxy, timeout=10.0) as client:

        def feed(user: str) -> tuple[float, bool, bool]:
            return _ask(client, "/api/v1/content/feed", {"user_id": user, "limit": "20"}, headers)

        for user in users[:WARM]:
            feed(user)
        cpu = sum(proxy.cpu_times()[:2])
        one = [feed(user) for user in users[WARM : WARM + SEQUENTIAL]]
        cpu = sum(proxy.cpu_times()[:2]) - cpu
        begun = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            many = list(pool.map(feed, users[WARM + SEQUENTIAL :]))
        wall = time.perf_counter() - begun
        bare = [_ask(client, "/healthz", {}, {})[0] for _ in range(SEQUENTIAL)]
    answered = [took for took, _, _ in one]
    figures: dict[str, float | None] = {
        "feed_p50_ms": percentile(answered, 0.5),
        "feed_p99_ms": percentile(answered, 0.99),
        "feed_cpu_ms": cpu / len(one) * 1e3,
        "feed_p99_ms_4_clients": percentile([took for took, _, _ in many], 0.99),
        "feeds_per_s_4_clients": len(many) / wall,
        "feed_errors": float(sum(1 for _, fine, _ in (*one, *many) if not fine)),
        "feed_degraded": float(sum(1 for _, _, poorer in (*one, *many) if poorer)),
    }
    baseline = {"healthz_p50_ms": percentile(bare, 0.5), "healthz_p99_ms": percentile(bare, 0.99)}
    bars = (
        bar(figures, "feed_p99_ms", "<", 150.0),
        bar(figures, "feed_errors", "<=", 0.0),
    )
    return Result(bench="feed", figures=figures, baseline=baseline, bars=bars, seed=seed)
