"""The exact index against a full sort, and what is embedded when."""

import numpy as np

from serving.retrieval import Embedder, ExactIndex
from tests.serving.small_world import NOW, SmallWorld


def test_the_index_finds_what_a_full_sort_finds() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(200, 8)).astype(np.float32)
    index = ExactIndex([f"i{n}" for n in range(200)], matrix)
    query = rng.normal(size=8).astype(np.float32)
    allowed = rng.random(200) < 0.5
    by_hand = sorted(range(200), key=lambda row: -float(matrix[row] @ query))
    assert index.search(query, 10) == [f"i{n}" for n in by_hand[:10]]
    assert index.search(query, 10, allowed=allowed) == [f"i{n}" for n in by_hand if allowed[n]][:10]
    assert len(index.search(query, 999)) == 200
    assert index.search(query, 0) == []
    assert index.search(query, 5, allowed=np.zeros(200, bool)) == []


def test_an_embedding_is_asked_for_once_until_the_item_changes(world: SmallWorld) -> None:
    world.release(items=["m0"])
    proxy = world.proxy()
    calls = world.models.calls
    proxy.parts.background.tick()
    assert world.models.calls == calls
    world.publish("m5", creator="c5", category="sport", at=NOW + 1)
    proxy.parts.background.tick()
    assert world.models.calls == calls + 1


def test_a_model_server_that_is_gone_leaves_the_index_usable(world: SmallWorld) -> None:
    world.release(items=["m0", "m1"])
    world.models.down = True
    proxy = world.proxy()
    retrieval = proxy.parts.background.retrieval
    assert retrieval is not None
    assert (len(retrieval.index.ids), len(retrieval.fresh.ids), len(retrieval.rooms.ids)) == (2, 0, 0)
    assert proxy.parts.background.model_trouble == "the model server does not answer"
    world.models.down = False
    proxy.parts.background.tick()
    assert len(proxy.parts.background.retrieval.rooms.ids) == 3  # type: ignore[union-attr]


def test_embeddings_belong_to_their_release(world: SmallWorld) -> None:
    proxy = world.proxy()
    view, models = proxy.parts.catalogue.view, world.models
    world.release(1, items=["m0"])
    proxy.parts.background.tick()
    first = proxy.parts.background.releases.current
    assert first is not None
    embedder = Embedder(models)
    embedder.build(first, view, now=NOW)
    before = models.calls
    world.release(2, items=["m0"])
    proxy.parts.background.tick()
    second = proxy.parts.background.releases.current
    assert second is not None
    assert second.name == "demo-2"
    models.calls = before
    embedder.build(second, view, now=NOW)
    assert models.calls > before
