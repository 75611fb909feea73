"""Before a release gets a label, its own copy of the viewer's side must be the model server's."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import BadUserTower
from features.packing import USER_IDS, packing_of
from release.errors import NotServed
from release.served import smoke
from serving.models import Matrix, Tensors
from serving.release_store import LoadedRelease, load_release
from tests.serving.small_world import SmallWorld


@dataclass
class Answers:
    """A model server, and a user tower, that embed everybody alike."""

    embedding: Matrix
    broken: bool = False

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """The same whoever it is."""
        return self.embedding

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """Three items, three objectives."""
        return np.full((3, 3), 0.5, np.float32)

    def embed(self, viewer: Tensors) -> Matrix:
        """The same whoever it is, packed."""
        assert viewer[USER_IDS].shape[0] == 1
        if self.broken:
            raise BadUserTower("user tower x gives no embedding: gather index out of bounds")
        return self.embedding[0]


def brings(world: SmallWorld, tower: Answers) -> LoadedRelease:
    """A release that packs and has that tower."""
    loaded = load_release(world.release(1))
    return replace(loaded, packing=packing_of(loaded.encoder.config), user_tower=tower)  # type: ignore[arg-type]


def test_a_copy_that_embeds_as_the_server_does_passes_and_another_models_does_not(tmp_path: Path) -> None:
    world = SmallWorld(tmp_path).fill()
    here, there = np.eye(8, dtype=np.float32)[:1], np.eye(8, dtype=np.float32)[1:2]
    smoke(Answers(here), brings(world, Answers(here + np.float32(1e-6))))  # type: ignore[arg-type]
    with pytest.raises(NotServed, match="demo-1 brings a user tower that embeds viewers otherwise"):
        smoke(Answers(here), brings(world, Answers(there)))  # type: ignore[arg-type]
    with pytest.raises(NotServed, match="gather index out of bounds"):
        smoke(Answers(here), brings(world, Answers(here, broken=True)))  # type: ignore[arg-type]
