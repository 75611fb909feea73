"""What is embedded when, and which item rows a search gives."""

import functools
import threading
from typing import Any

import numpy as np
import pytest

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from registry.manifest import INDEX
from serving import retrieval as retrieval_of
from serving.delta import Delta
from serving.index import Matrix
from serving.wiring import Proxy
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


def searched(proxy: Proxy, vector: Matrix, k: int, kind: s.ContentType | None = None) -> list[str]:
    """Ids near a vector, first among the index's own rows, then beside it; an empty one for what is gone."""
    view, retrieval = proxy.parts.catalogue.view, proxy.parts.background.retrieval
    assert retrieval is not None
    rows = [*retrieval.nearest_media(vector, k, kind), *retrieval.nearest_fresh(vector, k, kind)]
    return [view.table.id_of[row] if row else "" for row in rows]


def vector_of(proxy: Proxy, item_id: str) -> Matrix:
    retrieval = proxy.parts.background.retrieval
    assert retrieval is not None
    vector = retrieval.embedding_of(proxy.parts.catalogue.view.table.row_of[item_id])
    assert vector is not None
    return vector


def test_media_beside_the_index_that_were_hidden_are_near_again_once_published_again(world: SmallWorld) -> None:
    world.release(items=["m0"])
    proxy = world.proxy()
    background, vector = proxy.parts.background, vector_of(proxy, "m3")
    world.tell(s.MediaHidden(event_id="hide", event_at=utc(NOW + 1), item_id="m3"))
    background.tick()
    assert "m3" not in searched(proxy, vector, 50)
    world.publish("m3", creator="c3", category="music", at=NOW + 2)
    background.tick()
    assert searched(proxy, vector, 50).count("m3") == 1
    world.tell(s.MediaHidden(event_id="again", event_at=utc(NOW + 3), item_id="m3"))
    proxy.parts.catalogue.refresh(NOW)
    world.publish("m3", creator="c3", category="music", at=NOW + 4)
    background.tick()  # both between two looks at what is new
    assert searched(proxy, vector, 50).count("m3") == 1


def test_media_beside_the_index_that_went_or_changed_take_no_place_among_the_nearest(world: SmallWorld) -> None:
    world.release(items=["m0"])
    proxy = world.proxy()
    background, vector = proxy.parts.background, vector_of(proxy, "m3")
    world.tell(s.MediaRemoved(event_id="gone", event_at=utc(NOW + 1), item_id="m3"))
    world.publish("m6", creator="c6", category="sport", kind="VIDEO", at=NOW + 1)  # it was music
    background.tick()
    assert background.retrieval is not None
    beside = [one for one in searched(proxy, vector, 50) if one != "m0"]
    assert "" not in beside and len(beside) == len(set(beside)) == 28
    assert "m6" not in searched(proxy, vector, 9)


def test_an_index_of_which_much_is_gone_is_searched_without_it_until_it_is_back(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    background, vector = proxy.parts.background, vector_of(proxy, "m0")
    world.tell(s.MediaRemoved(event_id="one", event_at=utc(NOW + 1), item_id="m3"))
    background.tick()
    assert background.retrieval is not None and background.retrieval.media.left[""] is None  # as fast as ever
    for n in (6, 9, 12):
        world.tell(s.MediaRemoved(event_id=f"gone{n}", event_at=utc(NOW + 1), item_id=f"m{n}"))
    background.tick()
    assert "" not in searched(proxy, vector, 30)
    assert len(searched(proxy, vector, 5)) == 5
    for n in (3, 6, 9, 12):
        world.publish(f"m{n}", creator=f"c{n % 10}", category="music", at=NOW + 2)
    background.tick()
    assert {f"m{n}" for n in range(30)} == set(searched(proxy, vector, 30))
    assert background.retrieval.media.left[""] is None


def test_media_that_go_while_they_are_embedded_are_left_out_and_take_no_others_place(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(items=["m0"])
    proxy = world.proxy()
    background, catalogue, embed = proxy.parts.background, proxy.parts.catalogue, world.models.embed_item
    for name in ("a", "b", "c"):
        world.publish(name, creator="c1", category="sport", at=NOW + 1)

    def while_others_write(*given: Any, **more: Any) -> Matrix:
        found = embed(*given, **more)
        monkeypatch.setattr(world.models, "embed_item", embed)
        world.tell(s.MediaRemoved(event_id="gone", event_at=utc(NOW + 2), item_id="b"))
        catalogue.refresh(NOW)
        return found

    monkeypatch.setattr(world.models, "embed_item", while_others_write)
    background.tick()
    world.publish("d", creator="c1", category="talk", at=NOW + 3)
    background.tick()
    near = searched(proxy, vector_of(proxy, "a"), 60)
    assert {"a", "c", "d"} <= set(near) and "b" not in near and "" not in near
    assert len(near) == len(set(near))


def test_places_told_by_two_threads_at_once_end_as_the_catalogue_does(world: SmallWorld) -> None:
    world.release(items=["m0"])
    proxy = world.proxy()
    background, catalogue = proxy.parts.background, proxy.parts.catalogue
    names = [f"n{n}" for n in range(20)]
    done = threading.Event()

    def come_and_go() -> None:
        for turn in range(30):
            at = utc(NOW + 1 + turn)
            for n, name in enumerate(names):
                if (n + turn) % 3:
                    world.publish(name, creator="c1", category=("sport", "talk")[turn % 2], at=NOW + 1 + turn)
                else:
                    world.tell(s.MediaHidden(event_id=world.name(), event_at=at, item_id=name))
            background.follow()
        done.set()

    writer = threading.Thread(target=come_and_go)
    writer.start()
    while not done.is_set():
        background.embed()
    writer.join()
    background.tick()
    view, retrieval = catalogue.view, background.retrieval
    assert retrieval is not None and background.releases.refused == ""
    near = searched(proxy, vector_of(proxy, "m1"), 100)
    assert sorted(near) == sorted(one for one in view.items if one[0] in "mn")
    places = {row: retrieval.places.place_of(row) for row in view.table.row_of.values()}
    assert sum(place is not None for place in places.values()) == len(near)
    for row, place in places.items():
        assert place is None or retrieval.places.row_at.array[place] == row
