"""Measures trained models on the test period, which lies wholly after training, against baselines that need no model.

Ranking: AUC by objective beside running user-plus-item means. Retrieval: recall@100 over the whole catalogue, for the
viewer as she was at each test positive, beside the most popular items of training. Nothing the viewer has seen is taken
out of either list. Positives of drawn places are measured alone where there are enough of them: on the others popularity
is helped by having chosen what was shown (docs/adr/0008).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Tensor
from registry.evaluation import Evaluation, Floats, RankingRows, RetrievalRows
from training.catalogue import Catalogue
from training.data import Prepared, Rows
from training.progress import Report, silent

K = 100
ENOUGH_DRAWN = 100  # positives of drawn places in the test period from which retrieval is measured on them alone
SHRINK = 10.0  # pseudo-impressions at the global mean; of 1, 2, 5 and 10 the strongest baseline on MovieLens-100K
BATCH = 4096
Answer = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Scorers:
    """The three functions a release serves: tensors by name to unit vectors [n, d], or to probabilities [n, objectives]."""

    embed_user: Answer
    embed_item: Answer
    rank: Answer


def evaluate(
    data: Prepared, catalogue: Catalogue, scorers: Scorers, *, curves: Mapping[str, Floats] | None = None,
    report: Report = silent,
) -> Evaluation:  # fmt: skip
    """Every array and figure of one candidate."""
    report("evaluate", 0, 2, f"ranking {len(data.test)} test impressions")
    ranking = measure_ranking(data, scorers.rank)
    report("evaluate", 1, 2, f"retrieving from {len(catalogue.keys)} items")
    retrieval = measure_retrieval(data, catalogue, scorers)
    report("evaluate", 2, 2)
    return Evaluation(retrieval, ranking, dict(curves or {}))


def measure_ranking(data: Prepared, rank: Answer) -> dict[str, RankingRows]:
    """Labels, probabilities and baseline of every test impression, by objective."""
    scores = in_batches(rank, data.tensors, data.test, (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS))
    out = {}
    for column, objective in enumerate(data.objectives):
        label = data.labels[:, column]
        baseline = running_means(data.event_at, data.user_id, data.item_key, label)
        out[objective] = RankingRows(
            y=label[data.test].astype(np.int8), score=scores[:, column].astype(np.float64),
            baseline=baseline[data.test], user=data.user_id[data.test],
        )  # fmt: skip
    return out


def running_means(event_at: Floats, user: Tensor, item: Tensor, label: Tensor, *, shrink: float = SHRINK) -> Floats:
    """User mean plus item mean less the global mean of all labels strictly earlier than each row, shrunk to the global.

    Rows are in time order; rows of one instant do not see each other. Before any label the global mean is 0.5.
    """
    sums: dict[tuple[str, Any], list[float]] = {}
    total, count, known = 0.0, 0, 0
    out = np.zeros(len(label), np.float64)
    for row in range(len(label)):
        while event_at[known] < event_at[row]:
            for who in (("user", user[known]), ("item", item[known])):
                held = sums.setdefault(who, [0.0, 0.0])
                held[0] += float(label[known])
                held[1] += 1.0
            total, count, known = total + float(label[known]), count + 1, known + 1
        mean = total / count if count else 0.5
        pair = (sums.get(("user", user[row]), (0.0, 0.0)), sums.get(("item", item[row]), (0.0, 0.0)))
        out[row] = sum((positives + shrink * mean) / (seen + shrink) for positives, seen in pair) - mean
    return out


def measure_retrieval(data: Prepared, catalogue: Catalogue, scorers: Scorers, *, k: int = K) -> RetrievalRows:
    """Positives found among the first `k`, by viewer; ties are settled by the catalogue's order for both lists."""
    place = {key: row for row, key in enumerate(catalogue.keys.tolist())}
    test = data.test[data.positive[data.test]]
    drawn = test[data.drawn[test]]
    explored = len(drawn) >= ENOUGH_DRAWN
    test = drawn if explored else test
    target = np.array([place[key] for key in data.item_key[test].tolist()], np.int64)
    items = in_batches(scorers.embed_item, catalogue.tensors(data.encoder), np.arange(len(place)), ITEM_TENSORS)
    users = in_batches(scorers.embed_user, data.tensors, test, USER_TENSORS)
    trained = data.train[data.positive[data.train]]
    popularity = np.zeros(len(place), np.float64)
    np.add.at(popularity, [place[key] for key in data.item_key[trained].tolist()], 1.0)
    found = np.zeros(len(test), np.bool_)
    for start in range(0, len(test), BATCH):
        part = slice(start, start + BATCH)
        found[part] = within(users[part] @ items.T, target[part], k)
    popular = within(np.broadcast_to(popularity, (1, len(place))), np.arange(len(place)), k)[target]
    rows = _by_viewer(data.user_id[test], set(data.user_id[trained].tolist()), found, popular, k)
    return replace(rows, explored=explored)


def within(scores: Tensor, target: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
    """Whether column `target[i]` is among the first `k` of row i (or of the only row), equal scores in column order."""
    own = scores[np.arange(len(target)) % len(scores), target][:, None]
    before = np.arange(scores.shape[1])[None, :] < target[:, None]
    ahead: npt.NDArray[np.int64] = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return ahead < k


def _by_viewer(user: Tensor, warm: set[str], found: Tensor, popular: Tensor, k: int) -> RetrievalRows:
    viewers, row = np.unique(user, return_inverse=True)
    counts = [
        np.bincount(row, weights=weights, minlength=len(viewers)).astype(np.int64) for weights in (found, popular)
    ]
    return RetrievalRows(
        user=viewers.astype(np.str_), warm=np.array([one in warm for one in viewers.tolist()], np.bool_),
        positives=np.bincount(row, minlength=len(viewers)).astype(np.int64), hits=counts[0], popularity_hits=counts[1], k=k,
    )  # fmt: skip


def in_batches(answer: Answer, tensors: Mapping[str, Tensor], rows: Rows, names: tuple[str, ...]) -> Tensor:
    """Answers for those rows, stacked, a few thousand at a time."""
    parts = [
        np.asarray(answer({name: tensors[name][rows[start : start + BATCH]] for name in names}))
        for start in range(0, max(len(rows), 1), BATCH)
    ]
    return np.concatenate(parts)
