"""Item-to-item recall of one release: what is near the items somebody chose lately, and which hosts are like hers.

    neighbours = Neighbours.open(folder / NEIGHBOURS)
    rows, scores = neighbours.of_many(recent_rows, weights)    # rows of the release's item index

The lists are mapped into memory, so all workers share one copy and only pages that are asked for are read. A release without
lists, an item without a list and a row that is not of the index are all empty answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from registry.errors import RegistryError
from registry.neighbours import HOSTS, MEDIA, NeighbourLists, ids_checksum
from serving.errors import ReleaseRefused

Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """The lists of media and of hosts; scores are above 0 and at most 1 for one seed of weight 1."""

    media: NeighbourLists
    hosts: NeighbourLists

    @staticmethod
    def open(folder: Path, *, item_ids: Sequence[str] | None = None) -> "Neighbours":
        """Map a release's lists; empty where the folder is missing.

        ReleaseRefused when files do not agree with each other, or with `item_ids`, the index whose rows they speak of.
        """
        try:
            media, hosts = NeighbourLists.open(folder / MEDIA), NeighbourLists.open(folder / HOSTS)
        except RegistryError as error:
            raise ReleaseRefused(str(error)) from None
        if item_ids is not None and len(media.of) and ids_checksum(item_ids) != media.ids_crc32:
            raise ReleaseRefused(
                f"neighbours in {folder} are of an index of {len(media.of)} items, not of this one with {len(item_ids)}"
            )
        return Neighbours(media, hosts)

    def of(self, row: int) -> tuple[Rows, Scores]:
        """Neighbours of one index row, best first."""
        return self.of_many([row])

    def of_many(
        self, rows: Sequence[int] | npt.NDArray[np.integer], weights: Sequence[float] | Scores | None = None
    ) -> tuple[Rows, Scores]:
        """Neighbours of several index rows, best first: each once, its score the weighted sum, the seeds left out."""
        return near(self.media, np.asarray(rows, np.int64), weights)

    def hosts_like(
        self, creator_ids: Sequence[str], weights: Sequence[float] | Scores | None = None
    ) -> tuple[tuple[str, ...], Scores]:
        """Hosts whose viewers also watched these ones, best first, and their scores; the hosts asked for are left out."""
        seeds = np.array([self._host_row.get(one, -1) for one in creator_ids], np.int64)
        rows, scores = near(self.hosts, seeds, weights)
        return tuple(self.hosts.ids[row] for row in rows), scores

    @cached_property
    def _host_row(self) -> dict[str, int]:
        return {one: row for row, one in enumerate(self.hosts.ids)}


def near(
    lists: NeighbourLists, seeds: npt.NDArray[np.int64], weights: Sequence[float] | Scores | None = None
) -> tuple[Rows, Scores]:
    """The merged lists of the seeds; equal scores in row order. Rows that have no list say nothing."""
    said = np.ones(len(seeds), np.float32) if weights is None else np.asarray(weights, np.float32)
    known = (seeds >= 0) & (seeds < len(lists.of))
    place = np.full(len(seeds), -1, np.int64)
    place[known] = lists.of[seeds[known]]
    listed = place >= 0
    rows = lists.rows[place[listed]].ravel()
    scores = (lists.scores[place[listed]].astype(np.float32) * said[listed, None]).ravel()
    kept = rows >= 0
    found, again = np.unique(rows[kept], return_inverse=True)
    total = np.bincount(again, weights=scores[kept], minlength=len(found)).astype(np.float32)
    new = np.isin(found, seeds, invert=True)
    found, total = found[new], total[new]
    best = np.lexsort((found, -total))
    return found[best], total[best]
