"""What is embedded when, and which item rows a search gives."""

import functools

import numpy as np
import pytest

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from registry.manifest import INDEX
from serving import retrieval as retrieval_of
from serving.delta import Delta
from tests.serving.small_world import NOW, SmallWorld


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
    assert (retrieval.media.index.rows, len(retrieval.media.added), retrieval.rooms.rows) == (2, 0, 0)
    assert proxy.parts.background.model_trouble == "the model server does not answer"
    world.models.down = False
    proxy.parts.background.tick()
    assert proxy.parts.background.retrieval.rooms.rows == 3  # type: ignore[union-attr]


def test_an_index_with_too_much_beside_it_is_said_once_and_when_it_is_over(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval_of, "Delta", functools.partial(Delta, bound=1))
    world.release()
    proxy, said = world.proxy(), []
    background = proxy.parts.background
    monkeypatch.setattr(background, "_report", said.append)
    new = ["n1", "n2", "n3"]
    for name in new:
        world.publish(name, creator="c5", category="sport", at=NOW + 1)
        background.tick()
    crowded = "index: more than 1 media are searched one by one beside the index of"
    assert [one.startswith(crowded) for one in said] == [True]
    world.release(2, items=[*(f"m{n}" for n in range(world.media)), *new])
    background.tick()
    assert said[1:] == ["index: holds all but a few again"]


def test_embeddings_belong_to_their_release(world: SmallWorld) -> None:
    world.release(1, items=["m0"])
    proxy = world.proxy()
    before = world.models.calls
    proxy.parts.background.tick()
    assert world.models.calls == before
    world.release(2, items=["m0"])
    proxy.parts.background.tick()
    assert world.models.calls > before


def test_media_removed_is_no_longer_found_and_published_again_it_is(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    background, view = proxy.parts.background, proxy.parts.catalogue.view
    assert background.retrieval is not None
    vector = background.retrieval.embedding_of(view.table.row_of["m3"])
    assert vector is not None

    def near() -> set[str]:
        assert background.retrieval is not None
        return {view.table.id_of[row] for row in background.retrieval.nearest_media(vector, 30, None) if row}

    assert "m3" in near()
    world.tell(s.MediaRemoved(event_id=world.name(), event_at=utc(NOW), item_id="m3"))
    background.tick()
    assert "m3" not in near()
    world.publish("m3", creator="c3", category="music", at=NOW + 5)
    background.tick()
    assert "m3" in near()


def test_one_kind_can_be_asked_for(world: SmallWorld) -> None:
    folder = world.release(items=[f"m{n}" for n in range(20)])
    with np.load(folder / INDEX) as body:
        kinds = np.array([world.store.read(Entity.ITEM, [one])[0]["content_type"][1] for one in body["item_ids"]])
        np.savez(folder / INDEX, **body, content_type=kinds)
    proxy = world.proxy()
    view, retrieval = proxy.parts.catalogue.view, proxy.parts.background.retrieval
    assert retrieval is not None
    query = retrieval.embedding_of(view.table.row_of["m1"])
    assert query is not None
    found = {view.table.id_of[row] for row in retrieval.nearest_media(query, 30, s.ContentType.AUDIO)}
    assert found == {"m0", "m5", "m10", "m15"}
    fresh = {view.table.id_of[row] for row in retrieval.nearest_fresh(query, 30, s.ContentType.AUDIO)}
    assert fresh == {"m20", "m25"}
