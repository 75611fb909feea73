"""`livefeed bench recall --json`: approximate search over 3 million items beside exact search, in time, recall and memory.

Embeddings are made (`benchmarks.recall_data`: kind to inverted lists; the hard kind stands beside). An index is built, tuned
on queries of its own and written as for a release; two processes open the folder as proxies do and search it with one thread
each; recall is that of other queries against exact search by numpy, which is also the baseline. How long a publication takes
until it is found is measured on real parts (benchmarks/published.py). `python -m benchmarks.recall --items 200000` runs it
smaller.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from benchmarks.published import publish_to_found
from benchmarks.recall_data import Matrix, drifted, mixture
from benchmarks.recall_reader import AUDIO_EVERY, K
from benchmarks.result import Bar, BenchError, Result, bar
from serving.ann import IvfIndex
from serving.index import Rows
from serving.index_file import IndexDials, make_index, nearest, recall_of, remake_index, write_index
from settings import Settings

ITEMS, TUNED_ON, ASKED = 3_000_000, 256, 300
Figures = dict[str, float | None]
Say = Callable[[str], None]


@contextmanager
def _taken(figures: Figures, name: str) -> Iterator[None]:
    """Wall and CPU seconds of what is done inside."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures[f"{name}_s"], figures[f"{name}_cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu


def exact(matrix: Matrix, queries: Matrix) -> tuple[Rows, list[float], list[float]]:
    """The K best rows of each query by a matrix product, one BLAS thread; wall and thread CPU milliseconds of each."""
    rows, wall, cpu = [], [], []
    with threadpool_limits(1):
        for query in queries:
            begun, used = time.perf_counter(), time.thread_time()
            scores = matrix @ query
            top = np.argpartition(scores, len(scores) - K)[-K:]
            rows.append(top[np.argsort(-scores[top])])
            cpu.append((time.thread_time() - used) * 1e3)
            wall.append((time.perf_counter() - begun) * 1e3)
    return np.stack(rows).astype(np.int32), wall, cpu


def _recall(found: Rows, truth: Rows) -> float:
    return float(np.mean([np.isin(one, true).mean() for one, true in zip(truth, found, strict=True)]))


def _readers(folder: Path, queries: Matrix, count: int) -> tuple[dict[str, float], dict[str, Rows]]:
    """What the first of `count` processes measures; memory of all is read while all are there."""
    work = folder.parent / f"{folder.name}-read"
    work.mkdir()
    np.save(work / "queries.npy", queries)
    files = map(str, (folder, work / "queries.npy", work / "found.npz"))
    command = [sys.executable, "-m", "benchmarks.recall_reader", *files]
    pinned = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    started: list[subprocess.Popen[str]] = []
    try:
        figures: list[dict[str, float]] = []
        for _ in range(count):  # one after the other: each has the machine to itself
            one = subprocess.Popen(command, env=pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.append(one)
            figures.append(_line(one))
        for one, some in zip(started, figures, strict=True):
            print(file=one.stdin, flush=True)
            some.update(_line(one))
    finally:
        for one in started:
            one.communicate("\n")
    with np.load(work / "found.npz") as body:
        return figures[0], dict(body.items())


def _line(process: "subprocess.Popen[str]") -> dict[str, float]:
    said = process.stdout.readline() if process.stdout else ""
    if not said:
        raise BenchError(f"a reading process ended with {process.wait()} before it had measured")
    found: dict[str, float] = json.loads(said)
    return found


def _easy(rng: np.random.Generator, work: Path, items: int, *, asked: int, say: Say) -> tuple[Figures, Figures]:
    """Figures and baseline on the mixture."""
    shape, figures = mixture(rng), Figures()
    matrix, tuned_on, queries = (
        shape.points(rng, items),
        shape.queries(rng, TUNED_ON),
        shape.queries(rng, asked),
    )
    say(f"{items} items; exact search of {asked} queries")
    truth, wall, cpu = exact(matrix, queries)
    baseline: Figures = {
        "exact_p50_ms": float(np.median(wall)),
        "exact_p99_ms": float(np.percentile(wall, 99, method="inverted_cdf")),
        "exact_cpu_p50_ms": float(np.median(cpu)),
        "exact_mb": matrix.nbytes / 1e6,
    }
    index = _written(matrix, tuned_on, work / "index", figures=figures, say=say)
    read, found = _readers(work / "index", queries, 2)
    figures.update(read)
    figures["recall_at_500"] = _recall(found["all"], truth)
    audio = np.ascontiguousarray(matrix[::AUDIO_EVERY])
    of_audio = nearest(audio, queries, K)
    figures["audio_recall_at_500"] = _recall(found["audio"], of_audio * AUDIO_EVERY)
    live = found["live_matrix"].astype(np.float32)
    figures["live_recall_at_500"] = _recall(found["live"], exact(live, queries)[0])
    alone: Figures = {}
    _written(audio, tuned_on, work / "audio", figures=alone, say=say)
    read, found = _readers(work / "audio", queries, 1)
    baseline["audio_alone_recall_at_500"] = _recall(found["all"], of_audio)
    baseline |= {f"audio_alone_{name}": read[f"search_{name}"] for name in ("p50_ms", "p99_ms", "cpu_p50_ms")}
    _increment(rng, index, matrix, tuned_on, queries, figures=figures, say=say)
    return figures, baseline


def _written(matrix: Matrix, tuned_on: Matrix, folder: Path, *, figures: Figures, say: Say) -> IvfIndex:
    """Build, tune and write an index as a release carries it."""
    folder.mkdir()
    dials = IndexDials(exact_up_to=0, threads=os.cpu_count() or 1)
    with _taken(figures, "build"):
        index, card = make_index(matrix, tuned_on, dials)
    if not isinstance(index, IvfIndex):
        raise BenchError("the benchmark needs inverted lists; ask for more items")
    with _taken(figures, "write"):
        card = write_index(folder, index, card)
    figures |= {"nlist": card.nlist, "nprobe": card.nprobe, "widening": card.widening, "tuned_recall": card.recall}
    figures["file_mb"] = sum(file.bytes for file in card.files) / 1e6
    say(f"{folder.name}: {card.nlist} lists, {card.nprobe} probed, recall {card.recall:.3f} where tuned")
    return index


def _increment(
    rng: np.random.Generator,
    index: IvfIndex,
    matrix: Matrix,
    tuned_on: Matrix,
    queries: Matrix,
    *,
    figures: Figures,
    say: Say,
) -> None:
    """Every embedding moves, as after 15 minutes of training; the lists are kept. One item in a thousand is new."""
    drifted(rng, matrix, tuned_on, queries)
    truth, lists, threads = nearest(matrix, queries, K), index.lists, os.cpu_count() or 1
    lists[::1_000] = -1
    with _taken(figures, "reencode"):
        again = index.rebuilt_with(matrix, lists, threads=threads)
    figures["reencoded_recall_at_500"] = recall_of(again, queries, truth)
    with _taken(figures, "remake"):
        remade, card = remake_index(
            index, matrix, lists, queries=tuned_on, dials=IndexDials(exact_up_to=0, threads=threads)
        )
    figures |= {"remade_nprobe": card.nprobe, "remade_recall_at_500": recall_of(remade, queries, truth)}
    say(f"increment: recall {figures['reencoded_recall_at_500']:.3f} as probed before, {card.nprobe} probed when tuned")


def _hard(rng: np.random.Generator, work: Path, items: int, *, asked: int, say: Say) -> Figures:
    """The same where the embeddings spread alike in every direction; tuned as far as the dials go."""
    shape, some = mixture(rng, hard=True), Figures()
    matrix, tuned_on, queries = shape.points(rng, items), shape.queries(rng, TUNED_ON), shape.queries(rng, asked)
    _written(matrix, tuned_on, work / "hard", figures=some, say=say)
    read, found = _readers(work / "hard", queries, 1)
    of_audio = nearest(np.ascontiguousarray(matrix[::AUDIO_EVERY]), queries, K) * AUDIO_EVERY
    return {
        "hard_items": items,
        "hard_nprobe": some["nprobe"],
        "hard_recall_at_500": _recall(found["all"], nearest(matrix, queries, K)),
        "hard_audio_recall_at_500": _recall(found["audio"], of_audio),
        "hard_audio_p99_ms": read["audio_p99_ms"],
    } | {f"hard_{name}": read[f"search_{name}"] for name in ("p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms")}


def measured(items: int, seed: int, say: Say, *, asked: int = ASKED, published: Figures | None = None) -> Result:
    """All of it for so many items, held against `asked` queries; the hard kind for a third of the items.

    `published` are figures of the way from a publication to its being found, which real parts tell.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="livefeed-recall-") as work:
        figures, baseline = _easy(rng, Path(work), items, asked=asked, say=say)
        figures |= _hard(rng, Path(work), items // 3, asked=asked, say=say)
    figures["peak_build_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    figures["items"] = items
    bars: tuple[Bar, ...] = (
        bar(figures, "recall_at_500", ">=", 0.95),
        bar(figures, "search_p99_ms", "<", 10.0),
        bar(figures, "live_recall_at_500", ">=", 1.0),
        bar(figures, "add_to_found_p99_ms", "<", 1_000.0),
        bar(figures, "audio_recall_at_500", ">=", 0.95),
    )
    if published is not None:
        figures |= published
        bars = (*bars, bar(figures, "publish_to_found_max_ms", "<", 5_000.0))
    return Result(bench="recall", figures=figures, baseline=baseline, bars=bars, seed=seed)


def measure(settings: Settings, seed: int, say: Say, *, items: int = ITEMS) -> Result:
    """The benchmark at 3 million items, and publications on real parts."""
    return measured(items, seed, say, published=publish_to_found(settings, seed, say))


def _command(
    items: Annotated[int, typer.Option(min=20_000, help="How many items.")] = ITEMS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the load.")] = 7,
) -> None:
    """Measure, and print one JSON line."""
    print(measure(Settings(), seed, lambda line: print(line, file=sys.stderr), items=items).line())


if __name__ == "__main__":
    typer.run(_command)
