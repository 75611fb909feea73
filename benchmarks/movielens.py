"""`livefeed bench movielens --json`: both models on MovieLens-100K as it came through Kafka, with seeds and a null control.

Reads the samples that `make movielens DATA=...` left under var/movielens: rated rows only, positive = rating of 4 or more,
the last fifth by time is the test. Baselines: running user-plus-item means of the same labels, and the most popular items.
Intervals are paired bootstraps by viewer; the worst of the seeds is quoted. The null control learns shuffled labels.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.result import Bar, Result, bar
from monitoring.stats import auc_difference, bootstrap, recall_difference
from registry.evaluation import Evaluation, RankingRows, RetrievalRows
from settings import Settings
from stack.demo.run import demo_settings

if TYPE_CHECKING:
    from features.store import OnlineStore
    from features.training_input import Samples

SEEDS = 3
RESAMPLES = 1000
Say = Callable[[str], None]
Figures = dict[str, float | None]
NAMES = (
    "ranker_auc", "ranker_auc_worst_seed", "ranker_auc_gain_low", "ranker_auc_gain_high", "recall_at_100_warm",
    "recall_at_100_warm_gain_low", "recall_at_100_cold", "recall_at_100_cold_gain_low", "null_auc",
)  # fmt: skip
BASELINES = ("running_means_auc", "popularity_recall_at_100_warm", "popularity_recall_at_100_cold")


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Train and measure once a seed; without the samples every figure is None and no bar holds."""
    settings = demo_settings(settings, "movielens")
    if not (settings.lake / "samples").is_dir():
        say(f"no samples under {settings.lake}: run make movielens DATA=... first")
        empty: Figures = dict.fromkeys(NAMES)
        return _result(empty, dict.fromkeys(BASELINES), seed)
    from features.history import store_as_of
    from features.training_input import read_samples

    samples, store = read_samples(settings.lake), store_as_of(settings.lake)
    runs = []
    for one in range(seed, seed + SEEDS):
        say(f"seed {one}: training both models")
        runs.append(_trained(samples, store, seed=one))
        say(f"seed {one}: ranker AUC {runs[-1].ranking['like'].auc():.4f}")
    say("null control: shuffled labels")
    figures = _figures(runs, seed) | {"null_auc": _null(samples, seed)}
    first = runs[0]
    baseline: Figures = {
        "running_means_auc": first.ranking["like"].baseline_auc(),
        "popularity_recall_at_100_warm": first.retrieval.popularity_recall(warm=True),
        "popularity_recall_at_100_cold": first.retrieval.popularity_recall(warm=False),
    }
    return _result(figures, baseline, seed)


def _trained(samples: "Samples", store: "OnlineStore", *, seed: int) -> Evaluation:
    from training.pipeline import train_candidate

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "movielens-1"
        train_candidate(samples, store, folder, line="movielens", version=1, seed=seed)
        return Evaluation.load(folder)


def _null(samples: "Samples", seed: int) -> float | None:
    """AUC on the true labels of a ranker that learned shuffled ones: 0.5 unless something leaks."""
    from training.data import prepare
    from training.evaluate import measure_ranking
    from training.ranking import RankerConfig, train_ranker

    data = prepare(samples, train_share=0.8, objectives=("like",))
    labels = data.labels.copy()
    labels[data.train] = np.random.default_rng(seed).permutation(labels[data.train])
    ranker = train_ranker(replace(data, labels=labels), RankerConfig(), seed=seed).model
    return measure_ranking(data, lambda tensors: np.asarray(ranker.probabilities(dict(tensors))))["like"].auc()


def _figures(runs: Sequence[Evaluation], seed: int) -> Figures:
    likes = [run.ranking["like"] for run in runs]
    gains = [_auc_gain(rows, seed) for rows in likes]
    aucs = [rows.auc() or float("nan") for rows in likes]
    out: Figures = {
        "ranker_auc": float(np.mean(aucs)),
        "ranker_auc_worst_seed": float(np.min(aucs)),
        "ranker_auc_gain_low": min(low for low, _ in gains),
        "ranker_auc_gain_high": max(high for _, high in gains),
    }
    for name, warm in (("warm", True), ("cold", False)):
        found = [run.retrieval.recall(warm=warm) for run in runs]
        out[f"recall_at_100_{name}"] = (
            None if None in found else float(np.mean([one for one in found if one is not None]))
        )
        out[f"recall_at_100_{name}_gain_low"] = min(_recall_gain(run.retrieval, seed, warm=warm) for run in runs)
    return out


def _auc_gain(rows: RankingRows, seed: int) -> tuple[float, float]:
    statistic, viewers = auc_difference(rows.user, np.asarray(rows.y) > 0, rows.score, rows.baseline)
    interval = bootstrap(statistic, viewers, resamples=RESAMPLES, seed=seed)
    return interval.low, interval.high


def _recall_gain(rows: RetrievalRows, seed: int, *, warm: bool) -> float:
    of = rows.warm.astype(bool) == warm
    statistic = recall_difference(rows.positives[of], rows.hits[of], rows.popularity_hits[of])
    return bootstrap(statistic, int(of.sum()), resamples=RESAMPLES, seed=seed).low


def _result(figures: Figures, baseline: Mapping[str, float | None], seed: int) -> Result:
    above = ("ranker_auc_gain_low", "recall_at_100_warm_gain_low", "recall_at_100_cold_gain_low")
    bars: tuple[Bar, ...] = tuple(bar(figures, name, ">", 0.0) for name in above)
    return Result(bench="movielens", figures=figures, baseline=dict(baseline), bars=bars, seed=seed)
