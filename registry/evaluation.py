"""What was measured of a candidate: the arrays behind every number, so that a gate can resample them, and point figures.

On disk: `evaluation.npz` (arrays) and `evaluation.json` (figures) in the candidate's folder. A figure that cannot be
computed (one class only, no viewer of that kind) is None, never a default.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.errors import RegistryError

ARRAYS, FIGURES = "evaluation.npz", "evaluation.json"
Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


class BadEvaluation(RegistryError):
    """An evaluation is missing, unreadable, or its arrays do not fit together."""


def auc(y: Array, score: Array) -> float | None:
    """Probability that a positive outscores a negative, ties counting half (Mann-Whitney); None for one class only."""
    positive = np.asarray(y) > 0
    n_pos = int(positive.sum())
    n_neg = positive.size - n_pos
    if n_pos == 0 or n_neg == 0:
        return None
    _, inverse, counts = np.unique(np.asarray(score, np.float64), return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2.0  # mean rank of each distinct score, from 1
    rank_sum = float(mid_rank[inverse][positive].sum())
    return (rank_sum - n_pos * (n_pos + 1) / 2.0) / (n_pos * n_neg)


def _aligned(kind: str, arrays: Mapping[str, Array]) -> None:
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise BadEvaluation(f"the {kind} arrays of an evaluation must be equally long, these are {sizes}")


@dataclass(frozen=True)
class RetrievalRows:
    """One row a viewer with positives in the test period, [u] each; `warm` viewers had a positive in training.

    `hits` are the positives found among the model's first `k` of the whole catalogue, `popularity_hits` among popularity's.
    """

    user: Array
    warm: Array
    positives: Array
    hits: Array
    popularity_hits: Array
    k: int = 100
    explored: bool = False  # only positives of drawn places are in it, so the feed's own choice is not

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths."""
        _aligned("retrieval", {name: getattr(self, name) for name in _RETRIEVAL})

    def recall(self, *, warm: bool | None = None) -> float | None:
        """Positives found over positives, of all viewers or of the warm or cold ones; None when they have no positives."""
        return self._over_positives(self.hits, warm)

    def popularity_recall(self, *, warm: bool | None = None) -> float | None:
        """The same for the popularity list."""
        return self._over_positives(self.popularity_hits, warm)

    def viewers(self, *, warm: bool | None = None) -> int:
        """How many viewers the recall is over."""
        return int(self._chosen(warm).sum())

    def _chosen(self, warm: bool | None) -> npt.NDArray[np.bool_]:
        return np.ones(len(self.user), np.bool_) if warm is None else self.warm.astype(np.bool_) == warm

    def _over_positives(self, found: Array, warm: bool | None) -> float | None:
        chosen = self._chosen(warm)
        positives = int(self.positives[chosen].sum())
        return float(found[chosen].sum()) / positives if positives else None


_RETRIEVAL = ("user", "warm", "positives", "hits", "popularity_hits")
_RANKING = ("y", "score", "baseline", "user")


@dataclass(frozen=True)
class RankingRows:
    """One row a test impression, [n] each: label, the ranker's probability, the baseline's score, the viewer."""

    y: Array
    score: Array
    baseline: Array
    user: Array

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths."""
        _aligned("ranking", {name: getattr(self, name) for name in _RANKING})

    def auc(self) -> float | None:
        """The ranker's AUC."""
        return auc(self.y, self.score)

    def baseline_auc(self) -> float | None:
        """The AUC of running user-plus-item means."""
        return auc(self.y, self.baseline)

    def logloss(self) -> float | None:
        """Mean negative log likelihood in nats; None without rows."""
        if not len(self.y):
            return None
        p = np.clip(self.score.astype(np.float64), 1e-7, 1 - 1e-7)
        return float(-np.mean(np.where(self.y > 0, np.log(p), np.log1p(-p))))

    def calibration(self) -> float | None:
        """Sum of probabilities over sum of positives (1 is right); None without positives."""
        positives = float(self.y.sum())
        return float(self.score.sum()) / positives if positives else None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one candidate; `curves` are loss by round of steps, e.g. `two_tower.loss`."""

    retrieval: RetrievalRows
    ranking: Mapping[str, RankingRows]
    curves: Mapping[str, Floats] = field(default_factory=dict)

    def figures(self) -> dict[str, float | None]:
        """Flat point figures by name, None where one could not be computed."""
        out: dict[str, float | None] = {}
        for suffix, warm in (("", None), ("_warm", True), ("_cold", False)):
            out[f"recall_at_{self.retrieval.k}{suffix}"] = self.retrieval.recall(warm=warm)
            out[f"popularity_recall_at_{self.retrieval.k}{suffix}"] = self.retrieval.popularity_recall(warm=warm)
            out[f"retrieval_viewers{suffix}"] = float(self.retrieval.viewers(warm=warm))
        out["retrieval_explored"] = float(self.retrieval.explored)
        for objective, rows in self.ranking.items():
            out[f"auc_{objective}"] = rows.auc()
            out[f"baseline_auc_{objective}"] = rows.baseline_auc()
            out[f"logloss_{objective}"] = rows.logloss()
            out[f"calibration_{objective}"] = rows.calibration()
        out["ranking_rows"] = float(max((len(rows.y) for rows in self.ranking.values()), default=0))
        return out

    def measured(self) -> dict[str, float]:
        """The figures that could be computed."""
        return {name: value for name, value in self.figures().items() if value is not None}

    def save(self, folder: Path) -> None:
        """Write evaluation.npz and evaluation.json into a candidate's folder."""
        arrays: dict[str, Any] = {f"retrieval.{name}": getattr(self.retrieval, name) for name in _RETRIEVAL}
        for objective, rows in self.ranking.items():
            arrays |= {f"ranking.{objective}.{name}": getattr(rows, name) for name in _RANKING}
        arrays |= {f"curve.{name}": values for name, values in self.curves.items()}
        np.savez_compressed(folder / ARRAYS, **arrays)
        retrieval = {"k": self.retrieval.k, "explored": self.retrieval.explored}
        body = {**retrieval, "objectives": list(self.ranking), "figures": self.figures()}
        (folder / FIGURES).write_text(json.dumps(body, indent=2), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Evaluation":
        """Read what `save` wrote; BadEvaluation names the folder."""
        try:
            body = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
            with np.load(folder / ARRAYS, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            retrieval = RetrievalRows(
                **{name: arrays[f"retrieval.{name}"] for name in _RETRIEVAL},
                k=int(body["k"]),
                explored=bool(body["explored"]),
            )
            ranking = {
                objective: RankingRows(**{name: arrays[f"ranking.{objective}.{name}"] for name in _RANKING})
                for objective in body["objectives"]
            }
            curves = {name[6:]: values for name, values in arrays.items() if name.startswith("curve.")}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise BadEvaluation(f"the evaluation in {folder} cannot be read: {error}") from None
        return Evaluation(retrieval, ranking, curves)
