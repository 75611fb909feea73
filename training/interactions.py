"""What viewers chose, as bounded and recency-weighted histories: the sparse matrix that item-to-item recall is made of.

Rows come from the training period alone. Of one viewer only her newest distinct items count, so that nobody, person or
robot, costs more than the square of that number or speaks louder than everybody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from events.schema import ContentType
from training.data import Mask, Prepared, Rows, SampleColumns
from training.dials import require

DAY_S = 86_400.0
FAINTEST = 2.0**-20  # of a weight: below it a pair's sum could be rounded to nothing
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HistoryConfig:
    """Dials of a viewer's history."""

    longest: int = 200  # distinct items a viewer; 200 x 200 pairs are the most that one viewer can cost
    half_life_d: float = 30.0  # days of event time after which a choice weighs half
    strong: float = 2.0  # weight of a completion or a like; a mere click weighs 1

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        require(self, positive=("longest", "half_life_d", "strong"))


class Chosen(NamedTuple):
    """Positive impressions in time order, [n] each: viewer, item key, epoch seconds, and 1 or the weight of a strong one."""

    viewer: npt.NDArray[Any]
    item: npt.NDArray[Any]
    at: Floats
    strength: Floats


class Histories(NamedTuple):
    """Weights [viewers, items], float32 CSR, at most `longest` in a row; columns in the order of the items asked for."""

    weights: sparse.csr_array

    @property
    def viewers_of(self) -> Rows:
        """Distinct viewers of every item, [items]."""
        return np.bincount(self.weights.indices, minlength=self.weights.shape[1]).astype(np.int64)


def chosen_in_training(samples: SampleColumns, data: Prepared, config: HistoryConfig, *, rooms: bool) -> Chosen:
    """The positives of the training period: of rooms, whose item is the host, or of media."""
    live: Mask = np.asarray(samples.content_type == ContentType.LIVE.value, np.bool_)
    rows = data.train[(data.positive & (live == rooms))[data.train]]
    strength = np.where(data.strong[rows], config.strong, 1.0)
    return Chosen(data.user_id[rows], data.item_key[rows], data.event_at[rows], strength)


def histories_of(chosen: Chosen, items: Sequence[str] | npt.NDArray[Any], config: HistoryConfig) -> Histories:
    """Each viewer's newest distinct items among `items`; what is chosen again counts once, at its newest and strongest."""
    place = {str(item): row for row, item in enumerate(items)}
    column = np.array([place.get(str(item), -1) for item in chosen.item], np.int64)
    known = column >= 0
    names, viewer = np.unique(chosen.viewer[known], return_inverse=True)
    return bounded(
        viewer.astype(np.int64), column[known], at=chosen.at[known], strength=chosen.strength[known],
        shape=(len(names), len(place)), config=config,
    )  # fmt: skip


def bounded(
    viewer: Rows, item: Rows, *, at: Floats, strength: Floats, shape: tuple[int, int], config: HistoryConfig
) -> Histories:
    """The same from numbers: `viewer` and `item` count from 0 within `shape`, `at` is epoch seconds."""
    newest_first = np.lexsort((item, -at, viewer))
    viewer, item, at, strength = viewer[newest_first], item[newest_first], at[newest_first], strength[newest_first]
    _, first, again = np.unique(viewer * shape[1] + item, return_index=True, return_inverse=True)
    strongest = np.zeros(len(first))
    np.maximum.at(strongest, again, strength)
    order = np.argsort(first)  # back to newest first within a viewer
    kept, strongest = first[order], strongest[order]
    near = rank_within(viewer[kept]) < config.longest
    kept, strongest = kept[near], strongest[near]
    last = float(at.max(initial=0.0))
    faded = np.maximum(2.0 ** ((at[kept] - last) / (config.half_life_d * DAY_S)), FAINTEST)
    weights = (strongest * faded).astype(np.float32)
    return Histories(sparse.csr_array((weights, (viewer[kept], item[kept])), shape=shape))


def rank_within(group: Rows) -> Rows:
    """Place of each row within its group, from 0; rows of a group stand together."""
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else np.zeros(0, np.int64)
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))
