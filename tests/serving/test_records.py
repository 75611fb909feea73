"""One record that cannot be read, or holds what no column can, keeps no other out and stops no proxy."""

from collections.abc import Sequence

import pytest

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.state import EntityState
from features.store import Changed, MemoryStore
from serving.item_columns import MOST_TAGS
from tests.serving.small_world import NOW, SmallWorld, ask


class Corrupt(MemoryStore):
    """A store some of whose records are not to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[str] = set()

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """As the memory store, but for what is bad."""
        if self.bad & set(ids):
            raise ValueError("bytes that are no record")
        return super().read(entity, ids)


@pytest.fixture
def corrupt(world: SmallWorld) -> SmallWorld:
    store = Corrupt()
    return SmallWorld(world.folder, store=store).fill()


def store_of(world: SmallWorld) -> Corrupt:
    assert isinstance(world.store, Corrupt)
    return world.store


def test_an_item_with_more_tags_than_a_column_can_count_is_held_like_any_other(world: SmallWorld) -> None:
    proxy = world.proxy()
    tags = tuple(f"t{n}" for n in range(40_000))
    world.tell(
        s.MediaPublished(
            event_id="many", event_at=utc(NOW + 1), item_id="many", creator_id="c1", content_type="VIDEO",
            category="music", tags=tags,
        )
    )  # fmt: skip
    world.publish("after", creator="c1", at=NOW + 2)
    proxy.parts.background.tick()
    view = proxy.parts.catalogue.view
    assert {"many", "after"} <= view.items.keys()
    assert len(view.columns.many_tags[view.table.row_of["many"]]) == MOST_TAGS
    assert ask(proxy).items


def test_a_record_that_cannot_be_read_is_left_out_and_said_and_what_comes_after_it_is_followed(
    corrupt: SmallWorld,
) -> None:
    proxy = corrupt.proxy()
    said: list[str] = []
    background, catalogue = proxy.parts.background, proxy.parts.catalogue
    background._report = said.append
    store_of(corrupt).bad = {"m3", "c5"}
    corrupt.plays("u1", "m3", at=NOW)
    corrupt.publish("new", creator="c1", at=NOW + 1)
    for _ in range(3):
        background.tick()
    assert (
        "new" in catalogue.view.items and "m3" not in catalogue.view.items and "m3" not in catalogue.view.table.row_of
    )
    assert catalogue.view.items["m5"].creator_id == "c5"
    assert said == [
        "records: 1 cannot be read and are left out, the last of them 'm3': ValueError('bytes that are no record')"
    ]
    store_of(corrupt).bad = set()
    corrupt.plays("u1", "m3", at=NOW + 2)
    background.tick()
    assert "m3" in catalogue.view.items
    assert said[1:] == ["records: all can be read again"]


def test_an_attribute_of_another_kind_than_it_should_be_is_that_items_own_matter(world: SmallWorld) -> None:
    proxy = world.proxy()
    for record in world.store.records[Entity.ITEM, "m4"].values():
        record.state["tags"] = [NOW, 7]
    world.store.announce(items=["m4"])
    world.publish("new", creator="c1", at=NOW + 1)
    proxy.parts.background.tick()
    assert "new" in proxy.parts.catalogue.view.items and "m4" not in proxy.parts.catalogue.view.items


def test_of_an_item_that_fails_half_way_nothing_is_held_in_its_row_either(world: SmallWorld) -> None:
    catalogue, rows = world.proxy().parts.catalogue, dict[str, int]()

    class Failing:
        """A learner that cannot take one item."""

        def item(self, item_id: str, row: int) -> None:
            rows[item_id] = row
            if item_id == "new":
                raise ValueError("no room")

        def gone(self, item_id: str, row: int) -> None: ...

        def creator(self, creator_id: str, row: int) -> None: ...

    catalogue.attach(Failing())
    for one in ("new", "other"):
        world.publish(one, creator="c1", at=NOW + 1)
    catalogue.refresh(NOW + 1)
    view = catalogue.view
    assert {item.item_id for item in view.items_at(rows.values()).values()} == {"other"}
    assert view.table.rows(["new", "other"]).tolist() == [0, rows["other"]]
    assert "new" not in view.items and "new" not in view.table.row_of


def test_a_proxy_starts_with_a_record_that_cannot_be_read_and_with_a_store_that_fails_otherwise(
    corrupt: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(corrupt).bad = {"m3"}
    proxy = corrupt.proxy()
    assert len(proxy.parts.catalogue.view.items) == 32

    def broken(now: float) -> list[str]:
        raise ValueError("no list of rooms")

    monkeypatch.setattr(corrupt.store, "live_rooms", broken)
    background = proxy.parts.background
    background.start()
    background.close()
    assert background.store_trouble == "the catalogue cannot follow the store: ValueError('no list of rooms')"


def test_a_store_of_which_hardly_anything_can_be_read_leaves_what_is_held(
    corrupt: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.records.MOST", 3)
    proxy = corrupt.proxy()
    names = [f"m{n}" for n in range(20)]
    store_of(corrupt).bad = set(names)
    corrupt.store.announce(items=names)
    with pytest.raises(ValueError, match="bytes that are no record"):
        proxy.parts.background.tick()
    assert len(proxy.parts.catalogue.view.items) == 30
    assert "cannot follow the store" in proxy.parts.background.store_trouble
    store_of(corrupt).bad = set()
    proxy.parts.background.tick()
    assert len(proxy.parts.catalogue.view.items) == 33 and proxy.parts.background.store_trouble == ""


def test_an_announcement_that_cannot_be_read_means_that_everything_is_read_again(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = world.proxy()
    world.publish("new", creator="c1", at=NOW + 1)

    def unreadable(since: str) -> Changed | None:
        raise ValueError("bytes that are no announcement")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "changed", unreadable)
        proxy.parts.background.tick()
    assert "new" in proxy.parts.catalogue.view.items
    world.publish("newer", creator="c1", at=NOW + 2)
    proxy.parts.background.tick()
    assert "newer" in proxy.parts.catalogue.view.items
