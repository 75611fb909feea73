"""Embeddings for the recall benchmark: a mixture of 1,000 Gaussians on the sphere, easy for inverted lists by construction.

Cluster sizes fall as rank^-0.6; within a cluster the spread falls along its own random axes as axis^-0.5, 0.7 in all, against
centres of length 1. Half of the queries blend two interests. Real embeddings are less kind: the hard kind has the same spread
in every direction, 1.3 in all, so that lists hardly follow the data. Figures on real embeddings lie between the two.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
WIDTH, CLUSTERS, CHUNK = 64, 1_000, 1 << 16


@dataclass(frozen=True)
class Mixture:
    """Where the clusters lie and how they spread."""

    centres: Matrix  # [c, D]
    axes: Matrix  # [c, D, D]: each cluster's directions, as long as its spread along them
    shares: npt.NDArray[np.float64]  # [c]

    def points(self, rng: np.random.Generator, count: int) -> Matrix:
        """Unit embeddings f32[count, D] in random order of clusters."""
        out = np.empty((count, WIDTH), np.float32)
        for start in range(0, count, CHUNK):
            part = out[start : start + CHUNK]
            of = rng.choice(CLUSTERS, len(part), p=self.shares)
            order = np.argsort(of, kind="stable")
            ends = np.searchsorted(of[order], np.arange(1, CLUSTERS + 1))
            noise = rng.standard_normal((len(part), WIDTH), np.float32)
            for cluster, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                part[order[begin:end]] = noise[begin:end] @ self.axes[cluster] + self.centres[cluster]
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return out

    def queries(self, rng: np.random.Generator, count: int) -> Matrix:
        """Unit queries f32[count, D]; every other one lies between two points."""
        one, other = self.points(rng, count), self.points(rng, count)
        one[::2] += other[::2]
        return np.asarray(one / np.linalg.norm(one, axis=1, keepdims=True), np.float32)


def mixture(rng: np.random.Generator, *, hard: bool = False) -> Mixture:
    """Draw a mixture."""
    centres = rng.standard_normal((CLUSTERS, WIDTH), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    turned = np.linalg.qr(rng.standard_normal((CLUSTERS, WIDTH, WIDTH)))[0].astype(np.float32)
    spread = np.arange(1, WIDTH + 1) ** (0.0 if hard else -0.5)
    spread *= (1.3 if hard else 0.7) / np.linalg.norm(spread)
    shares = np.arange(1, CLUSTERS + 1) ** -0.6
    return Mixture(centres, turned * spread[:, np.newaxis].astype(np.float32), shares / shares.sum())


def drifted(rng: np.random.Generator, *some: Matrix) -> None:
    """Move embeddings in place as a model that learned for a while does: turn all a little, shift each by 0.1 at random."""
    turned, upper = np.linalg.qr(np.eye(WIDTH) + 0.02 * rng.standard_normal((WIDTH, WIDTH)))
    turn = (turned * np.sign(np.diag(upper))).astype(np.float32)
    for matrix in some:
        for start in range(0, len(matrix), CHUNK):
            part = matrix[start : start + CHUNK]
            moved = part @ turn + rng.standard_normal(part.shape, np.float32) * np.float32(0.1 / np.sqrt(WIDTH))
            part[:] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
