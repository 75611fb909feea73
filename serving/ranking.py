"""Scores candidates: by the ranker over the formula, or by what trends when no model answers."""

from collections.abc import Sequence

from events.schema import FeatureValue
from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
from serving.candidates import Candidate
from serving.errors import ModelRefused
from serving.feed import Scored
from serving.models import Matrix, Models
from serving.release_store import LoadedRelease

Rows = Sequence[dict[str, FeatureValue]]
# Merit without a model: a followed host who is live, then what trends, then other rooms, then new media.
FOLLOWED, TRENDS, LIVE, FRESH = 1.0, 0.2, 0.15, 0.1
COLD_TRENDING = 0.5  # share of what trends in the merit for a viewer of whom nothing is known


def score(models: Models, release: LoadedRelease, rows: Rows, *, timeout_s: float) -> Matrix:
    """Probabilities [n, objectives] of snapshot rows of one viewer, whose side is sent once."""
    tensors = release.encoder.encode(rows, (*ITEM_TENSORS, *STATS_TENSORS))
    tensors |= release.encoder.encode(rows[:1], USER_TENSORS)
    scores = models.rank(release.manifest.version, tensors, timeout_s=timeout_s)
    wanted = (len(rows), len(release.manifest.objectives))
    if scores.shape != wanted:
        raise ModelRefused(f"release {release.name}: the ranker gave scores of shape {scores.shape}, not {wanted}")
    return scores


def by_model(
    candidates: Sequence[Candidate], scores: Matrix, release: LoadedRelease, trending: dict[str, float], *, cold: bool
) -> list[Scored]:
    """Candidates with the formula's score; a cold viewer's merit is half what the model says and half what trends."""
    totals = (scores @ release.weights).tolist()
    low, span = min(totals), (max(totals) - min(totals)) or 1.0
    top = max(trending.values(), default=0.0) or 1.0
    names = release.manifest.objectives
    share = COLD_TRENDING if cold else 0.0
    return [
        _scored(
            candidate,
            score=total,
            merit=(1.0 - share) * (total - low) / span + share * trending.get(candidate.item.item_id, 0.0) / top,
            scores=dict(zip(names, row, strict=True)),
        )
        for candidate, total, row in zip(candidates, totals, scores.tolist(), strict=True)
    ]


def by_trend(candidates: Sequence[Candidate], trending: dict[str, float]) -> list[Scored]:
    """Candidates without a model: their trending score, in the order of the merits above."""
    top = max(trending.values(), default=0.0) or 1.0
    out = []
    for place, candidate in enumerate(candidates):
        trend = trending.get(candidate.item.item_id)
        if candidate.source == "followed":
            merit = FOLLOWED
        elif trend is not None:
            merit = TRENDS + (0.9 - TRENDS) * trend / top
        else:
            merit = LIVE if candidate.item.is_room else FRESH * (1.0 - place / len(candidates))
        out.append(_scored(candidate, score=trend or 0.0, merit=merit, scores={}))
    return out


def _scored(candidate: Candidate, *, score: float, merit: float, scores: dict[str, float]) -> Scored:
    item = candidate.item
    return Scored(
        item_id=item.item_id, content_type=item.content_type, creator_id=item.creator_id, source=candidate.source,
        score=score, merit=merit, scores=scores,
    )  # fmt: skip
