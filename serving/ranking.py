"""Scores candidates: by the ranker over the formula, or by what trends when no model answers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.errors import BadScores
from serving.candidates import CODE
from serving.errors import ModelRefused
from serving.item_columns import LIVE
from serving.models import Matrix, Models, Tensors
from serving.release_store import LoadedRelease
from serving.sides import Pool
from serving.trend import Trend

Floats = npt.NDArray[np.float64]
# Merit without a model: a followed host who is live, then what trends, then other rooms, then new media.
FOLLOWED, TRENDS, ROOM, FRESH = 1.0, 0.2, 0.15, 0.1
COLD_TRENDING = 0.5  # share of what trends in the merit for a viewer of whom nothing is known


@dataclass(frozen=True)
class Scores:
    """n candidates: the formula's value or the trending score, merit in 0..1, the ranker's answers (None: not asked)."""

    total: Floats
    merit: Floats
    objectives: tuple[str, ...] = ()
    by_objective: Matrix | None = None  # [n, objectives]

    def of(self, place: int) -> dict[str, float]:
        """One candidate's answer by objective."""
        if self.by_objective is None:
            return {}
        return dict(zip(self.objectives, self.by_objective[place].tolist(), strict=True))


def ask_ranker(models: Models, release: LoadedRelease, inputs: Tensors, rows: int, *, timeout_s: float) -> Matrix:
    """Probabilities [rows, objectives]; ModelRefused when the answer has another shape."""
    scores = models.rank(release.manifest.version, inputs, timeout_s=timeout_s)
    wanted = (rows, len(release.manifest.objectives))
    if scores.shape != wanted:
        raise ModelRefused(f"release {release.name}: the ranker gave scores of shape {scores.shape}, not {wanted}")
    return scores


def by_model(pool: Pool, answers: Matrix, release: LoadedRelease, trend: Trend, *, cold: bool) -> Scores:
    """The formula's score; a cold viewer's merit is half what the model says and half what trends."""
    try:
        total = release.formula.score(answers, release.manifest.objectives)
    except BadScores as error:
        raise ModelRefused(f"release {release.name}: {error}") from None
    low, span = float(total.min()), float(total.max() - total.min()) or 1.0
    merit = (total - low) / span
    if cold:
        merit = (1.0 - COLD_TRENDING) * merit + COLD_TRENDING * np.nan_to_num(trend.of(pool.rows)) / trend.top
    return Scores(total, merit, release.manifest.objectives, answers)


def by_trend(pool: Pool, trend: Trend) -> Scores:
    """Without a model: the trending score, in the order of the merits above."""
    score = trend.of(pool.rows)
    place = np.arange(len(pool.rows)) / max(len(pool.rows), 1)
    merit = np.where(pool.kinds == LIVE, ROOM, FRESH * (1.0 - place))
    merit = np.where(np.isnan(score), merit, TRENDS + (0.9 - TRENDS) * np.nan_to_num(score) / trend.top)
    merit = np.where(pool.sources == CODE["followed"], FOLLOWED, merit)
    return Scores(np.nan_to_num(score), merit)
