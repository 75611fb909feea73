"""The reading process of the recall benchmark: opens a published index as a proxy does and searches it with one thread.

`python -m benchmarks.recall_reader INDEX_FOLDER QUERIES.npy FOUND.npz` prints one JSON line of figures, waits for a line on
standard input, prints its memory beside the other readers' and ends. BLAS and OpenMP are pinned by the environment.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from serving.delta import Delta
from serving.exact import Exact
from serving.index import Found, Matrix, Rows
from serving.index_file import open_index

K, ROUNDS, AUDIO_EVERY = 500, 5, 5  # every fifth item is AUDIO, in whatever list it is
LIVE, ADDED, REMOVED, PROBES = 5_000, 10_000, 1_000, 200


def timed(search: Callable[[Matrix], Found], queries: Matrix) -> tuple[dict[str, float], list[Rows]]:
    """Wall and thread CPU milliseconds of each search, after one warm round; and the rows found."""
    found = [search(query).rows for query in queries]
    wall, cpu = [], []
    for query in np.tile(queries, (ROUNDS, 1)):
        begun, used = time.perf_counter(), time.thread_time()
        search(query)
        cpu.append(time.thread_time() - used)
        wall.append(time.perf_counter() - begun)
    return {
        f"{kind}p{share}_ms": float(np.percentile(some, share, method="inverted_cdf")) * 1e3
        for kind, some in (("", wall), ("cpu_", cpu))
        for share in (50, 99)
    }, found


def memory_mb() -> tuple[float, float]:
    """Resident megabytes of this process, and its share of them when pages are split among those who map them."""
    held = psutil.Process().memory_full_info()
    return held.rss / 1e6, held.pss / 1e6


def published(delta: Delta, queries: Matrix) -> list[float]:
    """Milliseconds from handing in a new item to finding it; an item that is not found is a failure."""
    took = []
    for vector in queries[:PROBES]:
        begun = time.perf_counter()
        row = delta.add(vector[np.newaxis], ["VIDEO"])[0]
        if row not in delta.view.search(vector, K).rows:
            raise SystemExit(f"row {row} was added and is not found")
        took.append((time.perf_counter() - begun) * 1e3)
    return took


def read(folder: Path, queries: Matrix, out: Path) -> tuple[dict[str, float], Delta]:
    """Every measurement that a reader makes, by name of the figure; and what holds the index."""
    rng = np.random.default_rng(len(queries))
    before = memory_mb()[0]
    begun = time.perf_counter()
    index = open_index(folder)
    audio = np.arange(index.rows) % AUDIO_EVERY == 0
    live = rng.standard_normal((LIVE, index.width), np.float32)
    delta, rooms = Delta(index, labels={"VIDEO": ~audio, "AUDIO": audio}), Exact(live)
    view = delta.view  # published by assignment, as the proxy does
    figures = {"rss_before_mb": before, "open_and_swap_ms": (time.perf_counter() - begun) * 1e3}

    def of(name: str, search: Callable[[Matrix], Found]) -> list[Rows]:
        some, rows = timed(search, queries)
        figures.update((f"{name}_{figure}", value) for figure, value in some.items())
        return rows

    found = {"all": of("search", lambda query: view.search(query, K))}
    found["audio"] = of("audio", lambda query: view.search(query, K, only="AUDIO"))
    found["live"] = of("live", lambda query: rooms.search(query, K))
    delta.remove(rng.choice(index.rows, REMOVED, replace=False).tolist())
    gone = delta.view
    of("removed", lambda query: gone.search(query, K))
    figures["add_to_found_p99_ms"] = float(np.percentile(published(delta, queries), 99))
    new = rng.standard_normal((ADDED, index.width), np.float32)
    delta.add(new / np.linalg.norm(new, axis=1, keepdims=True), ["AUDIO"] * ADDED)
    full = delta.view
    of("added", lambda query: full.search(query, K))
    arrays: dict[str, Any] = {name: np.stack(rows) for name, rows in found.items()}
    np.savez(out, live_matrix=live, **arrays)
    return figures, delta


if __name__ == "__main__":
    index_folder, query_file, found_file = map(Path, sys.argv[1:])
    measured, kept = read(index_folder, np.load(query_file), found_file)  # what is kept stays mapped
    print(json.dumps(measured), flush=True)
    sys.stdin.readline()
    print(json.dumps(dict(zip(("rss_mb", "pss_mb"), memory_mb(), strict=True))), flush=True)
    sys.stdin.readline()
