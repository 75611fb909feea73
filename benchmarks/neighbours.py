"""`livefeed bench neighbours --json`: whether item-CF and MF find what viewers choose next, and the cost of their lists.

Each log is split by time at four fifths: the lists are built from the choices before, and every later choice of an item
that is new to the viewer is looked for among the first K that her last 20 choices strictly before it bring, as serving asks.
What she has watched is left out of every list. Beside them: the items that most viewers chose in training, and a null
control, lists built after the items of all training choices were shuffled. Rooms are counted by host, whether or not one was
live. Choices of viewers without an earlier one are counted apart: item-to-item has no answer there. Intervals: paired
bootstrap by viewer.

The world plays for 18 days. After 6 there is too little to tell: item-CF of media less popularity is then -0.011 to
0.019 (seed 7). Hosts by MF alone stay worse than popularity; their bar is kept because that is what was asked of each method.

The cost is that of a made log of 1 million choices among 100,000 items, built in a process of its own.
"""

import multiprocessing
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.neighbours_data import Ints, WatchLog, made_log, movielens_log, world_logs
from benchmarks.result import Bar, BenchError, Result, bar
from events.errors import EventsError
from monitoring.stats import bootstrap, recall_difference
from registry.neighbours import MEDIA, NeighbourLists
from serving.neighbours import Neighbours, near
from settings import Settings
from training.factors import FactorsConfig, item_factors
from training.interactions import Histories, HistoryConfig, bounded
from training.neighbours import NeighboursConfig, by_factors, co_watched, merged, to_lists

DATA = Path(__file__).parents[2] / "shared" / "data" / "ml-100k"  # where `make movielens` looks too
TRAIN_SHARE, SEEDS, RESAMPLES = 0.8, 20, 1000
ROWS, ITEMS, ASKED = 1_000_000, 100_000, 2_000
HISTORY, LISTS, FACTORS = HistoryConfig(), NeighboursConfig(), FactorsConfig()
POPULAR = "popular"
METHODS = ("item_cf", "mf", "merged", "null")
Say = Callable[[str], None]
Figures = dict[str, float | None]


class Found(NamedTuple):
    """Hits by method and viewer, [viewers] each; `positives` are the choices that could be found."""

    positives: Ints
    hits: dict[str, Ints]
    without_seed: int  # further choices, of viewers who had chosen nothing before
    length: float  # mean length of the merged list, at most K


def lists_of(histories: Histories, *, seed: int) -> dict[str, NeighbourLists]:
    """The lists of each method alone and merged."""
    watched = co_watched(histories, LISTS)
    near_by = by_factors(histories, item_factors(histories.weights, FACTORS, seed=seed), LISTS, FACTORS)
    pairs = {"item_cf": watched, "mf": near_by, "merged": merged(watched, near_by, LISTS)}
    return {name: to_lists(one, histories.weights.shape[1]) for name, one in pairs.items()}


def trained(log: WatchLog, until: float, *, seed: int) -> tuple[dict[str, NeighbourLists], Ints]:
    """Lists by method and the items by falling popularity, from choices before `until` (epoch seconds)."""
    rows = np.flatnonzero(log.liked & (log.at < until))

    def histories(item: Ints) -> Histories:
        ones = np.ones(len(rows))
        return bounded(
            log.viewer[rows], item, at=log.at[rows], strength=ones, shape=(log.viewers, log.items), config=HISTORY
        )

    lists = lists_of(histories(log.item[rows]), seed=seed)
    shuffled = np.random.default_rng(seed).permutation(log.item[rows])
    lists["null"] = lists_of(histories(shuffled), seed=seed)["merged"]
    choices = np.unique(log.viewer[rows] * log.items + log.item[rows])  # each viewer once
    popularity = np.bincount(choices % log.items, minlength=log.items)
    return lists, np.argsort(-popularity, kind="stable")


def found_in(log: WatchLog, *, k: int, seed: int) -> Found:
    """What each method finds of the last fifth; choices of one instant do not see each other."""
    until = float(log.at[int(len(log.at) * TRAIN_SHARE)])
    lists, popular = trained(log, until, seed=seed)
    seen: dict[int, set[int]] = defaultdict(set)
    chosen: dict[int, list[int]] = defaultdict(list)
    positives = np.zeros(log.viewers, np.int64)
    hits = {name: np.zeros(log.viewers, np.int64) for name in (*lists, POPULAR)}
    without, noted, lengths = 0, 0, []
    for row, (viewer, item) in enumerate(zip(log.viewer.tolist(), log.item.tolist(), strict=True)):
        while log.at[noted] < log.at[row]:
            _note(log, noted, seen, chosen)
            noted += 1
        if log.at[row] < until or not log.liked[row] or item in seen[viewer]:
            continue
        seeds = np.array(chosen[viewer][-SEEDS:], np.int64)
        if not len(seeds):
            without += 1
            continue
        positives[viewer] += 1
        for name, one in lists.items():
            first = _new(near(one, seeds)[0], seen[viewer], k)
            hits[name][viewer] += item in first
            if name == "merged":
                lengths.append(len(first))
        hits[POPULAR][viewer] += item in _new(popular[: k + len(seen[viewer])], seen[viewer], k)
    return Found(positives, hits, without, float(np.mean(lengths)) if lengths else 0.0)


def _note(log: WatchLog, row: int, seen: dict[int, set[int]], chosen: dict[int, list[int]]) -> None:
    viewer, item = int(log.viewer[row]), int(log.item[row])
    seen[viewer].add(item)
    if log.liked[row]:
        chosen[viewer].append(item)


def _new(rows: npt.NDArray[np.integer], seen: set[int], k: int) -> list[int]:
    """The first `k` rows that the viewer has not watched."""
    return [row for row in rows.tolist() if row not in seen][:k]


def judged(name: str, log: WatchLog, *, k: int, seed: int, say: Say) -> tuple[Figures, Figures]:
    """Recall at k of each method with its gain over popularity; and popularity's own, as the baseline."""
    found = found_in(log, k=k, seed=seed)
    kept = found.positives > 0
    total = int(found.positives.sum())
    if not total:
        raise BenchError(f"the log {name} has no choice to look for in its last fifth")
    figures: Figures = {
        f"{name}_choices": float(total), f"{name}_viewers": float(kept.sum()),
        f"{name}_choices_without_seed": float(found.without_seed), f"{name}_merged_length": found.length,
    }  # fmt: skip
    for method in METHODS:
        statistic = recall_difference(found.positives[kept], found.hits[method][kept], found.hits[POPULAR][kept])
        gain = bootstrap(statistic, int(kept.sum()), resamples=RESAMPLES, seed=seed)
        figures |= {
            f"{name}_{method}_recall_at_{k}": float(found.hits[method].sum()) / total,
            f"{name}_{method}_gain_low": gain.low, f"{name}_{method}_gain_high": gain.high,
        }  # fmt: skip
    baseline: Figures = {f"{name}_popular_recall_at_{k}": float(found.hits[POPULAR].sum()) / total}
    recalls = {one: value for one, value in (figures | baseline).items() if "recall" in one}
    say(", ".join(f"{one} {value:.3f}" for one, value in recalls.items()))
    return figures, baseline


def cost(rows: int, items: int, seed: int) -> dict[str, float]:
    """What building, writing and asking cost in this process; `peak_mb` is what the build added to its memory."""
    log = made_log(rows, items, seed=seed)
    histories = bounded(
        log.viewer, log.item, at=log.at, strength=np.ones(rows), shape=(log.viewers, log.items), config=HISTORY
    )
    before, began, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    watched = co_watched(histories, LISTS)
    half = time.perf_counter()
    near_by = by_factors(histories, item_factors(histories.weights, FACTORS, seed=seed), LISTS, FACTORS)
    lists = to_lists(merged(watched, near_by, LISTS), items)
    done = time.perf_counter()
    out = {
        "item_cf_s": half - began, "mf_s": done - half, "cpu_s": time.process_time() - cpu,
        "peak_mb": _peak_mb() - before, "lists": float(len(lists.rows)),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = lists.save(Path(folder) / MEDIA)
        out["files_mb"] = sum(one.stat().st_size for one in files) / 1e6
        took = _asked(Neighbours.open(Path(folder)), log, seed=seed)
    return out | {"of_20_p50_ms": float(np.quantile(took, 0.5)), "of_20_p99_ms": float(np.quantile(took, 0.99))}


def _asked(neighbours: Neighbours, log: WatchLog, *, seed: int) -> list[float]:
    """Milliseconds a question of 20 seeds, drawn by popularity."""
    draw, took = np.random.default_rng(seed), []
    for _ in range(ASKED):
        seeds = log.item[draw.integers(len(log.item), size=SEEDS)]
        began = time.perf_counter()
        neighbours.of_many(seeds)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """MovieLens where it is there, the world's media and hosts, and the made log's cost."""
    figures: Figures = {}
    baseline: Figures = {}
    media, hosts = world_logs(seed)
    logs = [("world_media", media, 100), ("world_hosts", hosts, 20)]
    try:
        logs.insert(0, ("movielens", movielens_log(DATA), 100))
    except EventsError as error:
        say(f"MovieLens is left out: {error}")
    for name, log, k in logs:
        found, beside = judged(name, log, k=k, seed=seed, say=say)
        figures, baseline = figures | found, baseline | beside
    say(f"building the lists of {ITEMS:,} items from {ROWS:,} choices")
    with multiprocessing.get_context("spawn").Pool(1) as own:
        figures |= {f"made_{name}": value for name, value in own.apply(cost, (ROWS, ITEMS, seed)).items()}
    bars: tuple[Bar, ...] = ()
    for name, *_ in logs:
        bars += tuple(bar(figures, f"{name}_{method}_gain_low", ">", 0.0) for method in ("item_cf", "mf", "merged"))
        bars += (bar(figures, f"{name}_null_gain_low", "<=", 0.0),)
    return Result(bench="neighbours", figures=figures, baseline=baseline, bars=bars, seed=seed)
