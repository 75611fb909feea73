"""A release is used whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from registry.manifest import ENCODER, INDEX, MANIFEST, point_live
from serving.errors import ReleaseRefused
from serving.release_store import ReleaseStore, load_release
from tests.serving.small_world import SmallWorld


def test_what_live_json_names_is_loaded_when_it_changes(world: SmallWorld) -> None:
    said: list[str] = []
    store = ReleaseStore(world.folder / "releases", report=said.append)
    assert store.poll() == {}
    world.release(1)
    first = store.poll()["stable"]
    assert (first.name, len(first.item_ids), first.index.rows) == ("demo-1", 30, 30)
    assert store.poll()["stable"] is first
    world.release(2)
    assert store.poll()["stable"].name == "demo-2"
    assert said[-1] == "in traffic: demo-2 as stable"


def test_a_canary_is_loaded_beside_the_stable_release_and_one_that_is_broken_harms_nothing(world: SmallWorld) -> None:
    store = ReleaseStore(world.folder / "releases", report=lambda _: None)
    world.release(1)
    stable = store.poll()["stable"]
    canary = world.release(2, live=False)
    point_live(world.folder / "releases", {"stable": "demo-1", "canary": "demo-2"})
    assert {label: one.name for label, one in store.poll().items()} == {"stable": "demo-1", "canary": "demo-2"}
    assert store.current["stable"] is stable
    spoil(world.release(3, live=False), "encoder")
    point_live(world.folder / "releases", {"stable": "demo-1", "canary": "demo-3"})
    assert store.poll()["canary"].name == canary.name
    assert "demo-3" in store.refused
    point_live(world.folder / "releases", {"stable": "demo-2"})
    assert {label: one.name for label, one in store.poll().items()} == {"stable": "demo-2"}


@pytest.mark.parametrize("broken", ["missing", "index", "encoder", "formula", "ids"])
def test_a_release_that_cannot_be_loaded_whole_leaves_the_old_one(world: SmallWorld, broken: str) -> None:
    store = ReleaseStore(world.folder / "releases", report=lambda _: None)
    world.release(1)
    store.poll()
    folder = world.release(2, live=False)
    spoil(folder, broken)
    point_live(world.folder / "releases", {"stable": "demo-2" if broken != "missing" else "demo-9"})
    assert store.poll()["stable"].name == "demo-1"
    assert store.refused
    with pytest.raises(ReleaseRefused):
        load_release(folder if broken != "missing" else world.folder / "releases" / "demo-9")
    world.release(3)
    assert store.poll()["stable"].name == "demo-3"
    assert store.refused == ""


def spoil(folder: Path, what: str) -> None:
    if what == "index":
        (folder / INDEX).write_bytes(b"not a zip")
    elif what == "encoder":
        (folder / ENCODER).unlink()
    elif what == "formula":
        body = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(body | {"formula": {"gifts": 1.0}}))
    elif what == "ids":
        np.savez(folder / INDEX, item_ids=np.array(["a", "b"]), embeddings=np.zeros((3, 8), np.float32))
