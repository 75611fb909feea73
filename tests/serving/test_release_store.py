"""A release is used whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.encoder import DEFAULT_CONFIG
from features.packing import ITEM_IDS, PACKING, Columns, Packing, packing_of
from features.user_tower import USER_TOWER
from registry.manifest import ENCODER, INDEX, MANIFEST, point_live
from serving import release_store
from serving.catalogue_view import CatalogueView
from serving.errors import ReleaseRefused
from serving.release_store import ReleaseStore, load_release
from serving.retrieval import Embedder, Retrieval
from tests.serving.small_world import NOW, SmallWorld


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


@pytest.mark.parametrize(
    "broken",
    [
        "missing",
        "index",
        "truncated",
        "member",
        "encoder",
        "unknown",
        "packing",
        "misfit",
        "kinds",
        "formula",
        "ids",
        "tower",
        "changed",
        "lost",
    ],
)
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
    elif what == "truncated":
        whole = (folder / INDEX).read_bytes()
        (folder / INDEX).write_bytes(whole[: len(whole) // 2])
    elif what == "member":
        whole = bytearray((folder / INDEX).read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        (folder / INDEX).write_bytes(bytes(whole))
    elif what == "unknown":
        body = json.loads((folder / ENCODER).read_text())
        body["config"]["numbers"]["item_num"]["item.colour"] = "linear"
        body["mean"]["item.colour"] = body["scale"]["item.colour"] = 1.0
        (folder / ENCODER).write_text(json.dumps(body))
    elif what == "packing":
        packing = packing_of(DEFAULT_CONFIG)
        ids = {**packing.arrays[ITEM_IDS], "colour": Columns(90, 91, word=True)}
        Packing({**packing.arrays, ITEM_IDS: ids}).save(folder / PACKING)
    elif what == "misfit":  # a list in fewer columns than it has
        packing = packing_of(DEFAULT_CONFIG)
        ids = {name: at._replace(end=at.end - (not at.word)) for name, at in packing.arrays[ITEM_IDS].items()}
        Packing({**packing.arrays, ITEM_IDS: ids}).save(folder / PACKING)
    elif what == "tower":
        packing_of(DEFAULT_CONFIG).save(folder / PACKING)
        (folder / USER_TOWER).write_bytes(b"no model")
    elif what in ("changed", "lost"):  # the manifest vouches for another file, or for one that is not there
        body = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(body | {"artefacts": {USER_TOWER: "0" * 64}}))
        if what == "changed":
            (folder / USER_TOWER).write_bytes(b"bits have rotted")
    elif what == "kinds":
        with np.load(folder / INDEX) as held:
            np.savez(folder / INDEX, **held, content_type=np.array(["VIDEO"]))


def test_what_was_refused_is_tried_again_after_a_while_and_at_once_when_asked(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, said, read = [100.0], list[str](), list[Path]()
    monkeypatch.setattr(release_store.time, "monotonic", lambda: now[0])

    def counted(folder: Path) -> release_store.LoadedRelease:
        read.append(folder)
        return load_release(folder)

    monkeypatch.setattr(release_store, "load_release", counted)
    store = ReleaseStore(world.folder / "releases", report=said.append)
    folder = world.release(1)
    whole = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(whole[:100])
    for now[0] in (100.0, 100.4, 104.9):
        assert store.poll() == {}
    assert len(read) == 1
    for now[0] in (105.1, 105.5, 115.0):  # then after twice as long
        store.poll()
    assert (len(read), len(said)) == (2, 1)
    (folder / INDEX).write_bytes(whole)
    store.poll()
    assert store.refused and len(read) == 2
    store.look_again()
    assert store.poll()["stable"].name == "demo-1"
    assert store.refused == "" and said[-1] == "in traffic: demo-1 as stable"


@pytest.mark.parametrize("body", ["[]", '"demo-1"', '{"stable": null}', '{"stable"'])
def test_a_live_json_that_names_no_releases_is_refused_and_changes_nothing(world: SmallWorld, body: str) -> None:
    store = ReleaseStore(world.folder / "releases", report=lambda _: None)
    world.release(1)
    store.poll()
    (world.folder / "releases" / "live.json").write_text(body)
    assert store.poll()["stable"].name == "demo-1"
    assert "live.json cannot be read" in store.refused


def test_a_release_that_cannot_be_used_keeps_its_labels_old_one_and_no_other_from_what_is_new(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(1, items=["m0", "m1"])
    proxy = world.proxy()
    background = proxy.parts.background
    build = Embedder.build

    def fails(self: Embedder, view: CatalogueView, *, now: float) -> Retrieval:
        if self.release.name == "demo-2":
            raise ValueError("a fault of its own")
        return build(self, view, now=now)

    monkeypatch.setattr(Embedder, "build", fails)
    world.release(2, items=["m0"], live=False)
    point_live(world.folder / "releases", {"stable": "demo-1", "canary": "demo-2"})
    world.open_room("r9", host="h9", at=NOW + 1)
    background.tick()
    assert list(background.retrievals) == ["stable"]
    assert background.retrieval is not None and background.retrieval.rooms.rows == 4
    assert background.releases.refused == "release demo-2 cannot be used: ValueError('a fault of its own')"
    point_live(world.folder / "releases", {"stable": "demo-2"})
    world.open_room("r8", host="h8", at=NOW + 2)
    background.tick()
    assert background.retrieval.release.name == "demo-1" and background.retrieval.rooms.rows == 5
    monkeypatch.setattr(Embedder, "build", build)
    background.reload()
    assert background.retrieval.release.name == "demo-2" and background.releases.refused == ""
