"""What the pipeline asks of the served models, and the memory version; serving/tf_serving.py is the real one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.errors import ModelUnavailable

Tensors = Mapping[str, npt.NDArray[Any]]
Matrix = npt.NDArray[np.float32]


class Models(Protocol):
    """The two models of one release; ModelUnavailable and ModelRefused are the only errors."""

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """User tensors [n, ...] to embeddings [n, D] of length 1."""
        ...

    def embed_item(self, version: int, items: Tensors, *, timeout_s: float) -> Matrix:
        """Item tensors [n, ...] to embeddings [n, D] of length 1."""
        ...

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """User tensors [1, ...] with item and statistics tensors [n, ...] to scores [n, objectives]."""
        ...


@dataclass
class MemoryModels:
    """Models by arithmetic: an embedding points where `category` (users: the first of `user_categories`) says.

    Scores are 1 / (1 + vocabulary index of the item) for every objective, so that order is known by hand. `down` makes every
    call a ModelUnavailable.
    """

    dimensions: int = 8
    objectives: int = 3
    down: bool = False
    calls: int = 0

    def _answer(self) -> None:
        self.calls += 1
        if self.down:
            raise ModelUnavailable("the model server does not answer")

    def _unit(self, index: npt.NDArray[Any]) -> Matrix:
        return np.eye(self.dimensions, dtype=np.float32)[np.asarray(index, np.int64) % self.dimensions]

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """The unit vector of the viewer's first category."""
        self._answer()
        return self._unit(user["user_categories"][:, 0])

    def embed_item(self, version: int, items: Tensors, *, timeout_s: float) -> Matrix:
        """The unit vector of the item's category."""
        self._answer()
        return self._unit(items["category"])

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """Higher for items met earlier in the vocabulary."""
        self._answer()
        score = 1.0 / (1.0 + inputs["item_key"].astype(np.float32))
        return np.repeat(score[:, None], self.objectives, axis=1)
