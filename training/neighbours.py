"""Item-to-item neighbours of a release: who watched this also watched that (item-CF), and near by factors (MF), in one list.

Media have media as neighbours; a room lives for hours, so hosts have hosts, and a live room of a neighbouring host can be
recalled at once. Only the training period is read.

Privacy: an item-CF pair is kept only when `min_common` distinct viewers chose both, and an item is compared by factors only
when it has `min_viewers` of its own (training/factors.py): no list can tell what fewer than that many people chose. So there
is nothing to remove from it when a person is forgotten; the next training is without her.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from registry.manifest import NEIGHBOURS
from registry.neighbours import HOSTS, ITEM_CF, MEDIA, MF, NeighbourLists, ids_checksum
from training.data import Mask, Prepared, Rows, SampleColumns
from training.dials import require
from training.factors import FactorsConfig, item_factors, near_by_factors
from training.interactions import Histories, HistoryConfig, chosen_in_training, histories_of, rank_within

PRODUCTS = 4_000_000  # pairs of a slice before equal ones are added: about 100 MB
SMALLEST = float(np.finfo(np.float16).tiny)  # a neighbour's score is above 0 after rounding too
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NeighboursConfig:
    """Dials of the lists."""

    k: int = 50  # neighbours an item
    min_common: int = 3  # distinct viewers who chose both: for privacy, and because two are chance
    damping: float = 0.5  # exponent of both items' weight under a pair's: 0.5 is the cosine, more damps what all watch
    shrink: float = 10.0  # common viewers at which a pair counts half
    mf_share: float = 0.5  # of a merged score; each method's scores are scaled to a mean of 1 first

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        require(self, positive=("k", "min_common", "shrink"), shares=("damping", "mf_share"))


class Pairs(NamedTuple):
    """Neighbours as rows of (item, neighbour, score, method bits), [pairs] each, best first within an item."""

    item: Rows
    near: Rows
    score: Scores
    method: npt.NDArray[np.uint8]

    def where(self, kept: Mask | Rows) -> "Pairs":
        """Those pairs, in the order given."""
        return Pairs(self.item[kept], self.near[kept], self.score[kept], self.method[kept])


def write_neighbours(
    folder: Path, samples: SampleColumns, data: Prepared, indexed: npt.NDArray[Any], *, config: NeighboursConfig,
    history: HistoryConfig, factors: FactorsConfig, seed: int,
) -> list[Path]:  # fmt: skip
    """Write the lists of media (rows of the index, whose ids are `indexed`) and of hosts; returns the files' paths."""
    hosts = np.unique(chosen_in_training(samples, data, history, rooms=True).item)
    written = []
    for kind, ids in ((MEDIA, indexed), (HOSTS, hosts)):
        chosen = chosen_in_training(samples, data, history, rooms=kind == HOSTS)
        pairs = neighbours_of(histories_of(chosen, ids, history), config, factors, seed=seed)
        names = tuple(ids.tolist())
        lists = to_lists(pairs, len(names), ids=names if kind == HOSTS else (), ids_crc32=ids_checksum(names))
        written += lists.save(folder / NEIGHBOURS / kind)
    return written


def neighbours_of(histories: Histories, config: NeighboursConfig, factors: FactorsConfig, *, seed: int) -> Pairs:
    """The merged lists of both methods; empty where too few viewers met."""
    watched = co_watched(histories, config)
    model = item_factors(histories.weights, factors, seed=seed)
    return merged(watched, by_factors(histories, model, config, factors), config)


def co_watched(histories: Histories, config: NeighboursConfig) -> Pairs:
    """Item-CF: the damped cosine of the weights of all who chose both, shrunk by how few they are.

    Linden, Smith and York, "Amazon.com Recommendations", IEEE Internet Computing 2003; damping as in Deshpande and Karypis,
    "Item-Based Top-N Recommendation Algorithms", TOIS 2004.
    """
    weights = histories.weights.astype(np.float64)
    chose = weights.copy()
    chose.data[:] = 1.0
    weights_of, chose_of = weights.T.tocsr(), chose.T.tocsr()
    size = np.asarray(weights.multiply(weights).sum(axis=0)).ravel() ** config.damping
    parts = [_none()]
    for part in _slices(chose_of @ np.diff(weights.indptr)):
        both, sums = _sorted(chose_of[part] @ chose), _sorted(weights_of[part] @ weights)
        item, near, common = both.row.astype(np.int64) + part.start, both.col.astype(np.int64), both.data
        kept = (common >= config.min_common) & (item != near)
        item, near, common = item[kept], near[kept], common[kept]
        score = sums.data[kept] / (size[item] * size[near]) * common / (common + config.shrink)
        parts.append(best_of(item, near, score.astype(np.float32), method=ITEM_CF, k=config.k))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def by_factors(histories: Histories, model: Scores, config: NeighboursConfig, factors: FactorsConfig) -> Pairs:
    """MF: the cosine of the items' factors."""
    item, near, cosine = near_by_factors(model, histories.viewers_of, k=config.k, config=factors)
    return best_of(item, near, cosine, method=MF, k=config.k)


def merged(watched: Pairs, near: Pairs, config: NeighboursConfig) -> Pairs:
    """One list an item: the weighted sum of both scores, each scaled so that its mean is 1."""
    shares = ((watched, 1.0 - config.mf_share), (near, config.mf_share))
    scores = [share * pairs.score / pairs.score.mean() if len(pairs.score) else pairs.score for pairs, share in shares]
    item, other, bits = (
        np.concatenate([getattr(one, name) for one, _ in shares]) for name in ("item", "near", "method")
    )
    span = int(other.max(initial=0)) + 1
    found, pair = np.unique(item * span + other, return_inverse=True)
    score = np.bincount(pair, weights=np.concatenate(scores), minlength=len(found)).astype(np.float32)
    method = np.zeros(len(found), np.uint8)
    np.bitwise_or.at(method, pair, bits)
    return best_of(found // span, found % span, score, method=method, k=config.k)


def best_of(item: Rows, near: Rows, score: Scores, *, method: int | npt.NDArray[np.uint8], k: int) -> Pairs:
    """At most `k` neighbours an item, best first; equal scores in the order of their rows."""
    bits = np.broadcast_to(np.asarray(method, np.uint8), item.shape)
    pairs = Pairs(item, near, score, bits)
    pairs = pairs.where(np.lexsort((near, -score, item)))
    return pairs.where(rank_within(pairs.item) < k)


def to_lists(pairs: Pairs, items: int, *, ids: tuple[str, ...] = (), ids_crc32: int = 0) -> NeighbourLists:
    """The pairs as padded arrays, one row a listed item; scores are scaled so that the best is 1 (float16 holds them)."""
    listed, row = np.unique(pairs.item, return_inverse=True)
    place, width = rank_within(pairs.item), int(rank_within(pairs.item).max(initial=-1)) + 1
    of = np.full(items, -1, np.int32)
    of[listed] = np.arange(len(listed), dtype=np.int32)
    shape = (len(listed), width)
    rows, scores, method = np.full(shape, -1, np.int32), np.zeros(shape, np.float16), np.zeros(shape, np.uint8)
    rows[row, place], method[row, place] = pairs.near, pairs.method
    scores[row, place] = np.maximum(pairs.score / pairs.score.max(initial=1e-9), SMALLEST)
    return NeighbourLists(of, rows, scores, method, ids, ids_crc32)


def _slices(cost: npt.NDArray[Any]) -> Iterator[slice]:
    """Ranges of items whose pairs, before equal ones are added, stay near PRODUCTS."""
    part = np.cumsum(cost) // PRODUCTS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(cost)]
    return (slice(start, end) for start, end in itertools.pairwise(edges) if end > start)


def _sorted(product: Any) -> Any:
    """A sparse product in row and column order, so that two of equal pattern agree place by place."""
    product.sort_indices()
    return product.tocoo()


def _none() -> Pairs:
    none = np.zeros(0, np.int64)
    return Pairs(none, none, np.zeros(0, np.float32), np.zeros(0, np.uint8))
