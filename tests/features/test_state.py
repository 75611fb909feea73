"""Definitions applied event by event: who is touched, with what, and what the values are then."""

import pytest

from events import schema as s
from features.definitions import Entity
from features.state import entity_ids, merge, pair_id, updates, values
from features.store import MemoryStore
from tests.features.conftest import at

PUBLISHED = s.MediaPublished(
    event_id="m", event_at=at(-60), item_id="i1", creator_id="c1", content_type="AUDIO", category="jazz",
    tags=("jazz", "live"),
)  # fmt: skip


def started(event_id: str = "e", minutes: float = 0, item_id: str = "i1") -> s.MediaStarted:
    return s.MediaStarted(event_id=event_id, event_at=at(minutes), user_id="u1", item_id=item_id)


def told(*events: s.Event) -> MemoryStore:
    store = MemoryStore()
    for event in events:
        for update in updates(event, store):
            store.apply(update)
    return store


def known(store: MemoryStore, entity: Entity, one: str, minutes: float = 1) -> dict[str, object]:
    return values(entity, store.read(entity, [one])[0], at(minutes).timestamp())


def test_a_start_touches_viewer_item_creator_and_pair() -> None:
    store = told(PUBLISHED)
    ids = entity_ids(started(), store)
    assert ids == {Entity.USER: "u1", Entity.ITEM: "i1", Entity.CREATOR: "c1", Entity.PAIR: pair_id("u1", "c1")}


def test_an_item_in_no_table_touches_no_creator_and_no_category() -> None:
    store = told(started(item_id="nowhere"))
    assert store.ids(Entity.CREATOR) == []
    assert known(store, Entity.USER, "u1")["top_categories_7d"] == ()
    assert known(store, Entity.USER, "u1")["plays"] == 1.0


def test_one_listen_is_seen_everywhere_it_should_be() -> None:
    store = told(
        PUBLISHED, started(), s.MediaCompleted(event_id="f", event_at=at(3), user_id="u1", item_id="i1", played_s=180.0)
    )  # fmt: skip
    user, item, creator = (
        known(store, Entity.USER, "u1", 4), known(store, Entity.ITEM, "i1", 4), known(store, Entity.CREATOR, "c1", 4),
    )  # fmt: skip
    assert user["recent_media_7d"] == ["i1"] and user["recent_positive"] == ["i1"] and user["recent_negative"] == ()
    assert user["top_categories_7d"] == ["jazz"] and user["content_types_7d"] == ["AUDIO"]
    assert user["completion_rate"] == (1 + 1) / (1 + 4)
    assert user["tag_affinity"] == pytest.approx({"jazz": (0.6 + 1.2) / 2.0, "live": (0.6 + 1.2) / 2.0})
    assert item["views_1h"] == item["plays"] == creator["plays"] == 1.0
    assert item["satisfaction"] == pytest.approx((3 + 0.2 + 1.0) / (5 + 1))
    assert item["published_at"] == at(-60).timestamp()


def test_a_room_is_known_by_its_host_where_ids_must_outlive_it() -> None:
    live = {"user_id": "u1", "room_id": "r1", "streamer_id": "h1"}
    store = told(
        s.RoomOpened(event_id="o", event_at=at(-5), streamer_id="h1", room_id="r1", category="song"),
        s.RoomEntered(event_id="a", event_at=at(0), **live),
        s.WatchHeartbeat(event_id="b", event_at=at(0.5), **live),
        s.GiftSent(event_id="c", event_at=at(0.6), amount=5.0, **live),
    )
    user, room = known(store, Entity.USER, "u1"), known(store, Entity.ITEM, "r1")
    assert user["recent_media_7d"] == user["recent_positive"] == ["h1"]
    assert room["content_type"] == "LIVE" and room["creator_id"] == "h1" and room["current_viewers"] == 1.0
    assert room["avg_watch_s"] == (30 + 30) / (1 + 1)
    assert room["interactions_15m"] == 1.0
    pair = known(store, Entity.PAIR, pair_id("u1", "h1"))
    assert pair == {"watches": 1.0, "last_watch_at": at(0).timestamp()}


def test_an_entity_never_seen_has_every_default() -> None:
    nobody = values(Entity.USER, {}, at(0).timestamp())
    assert nobody["preferred_language"] == "unknown" and nobody["plays"] == 0.0 and nobody["recent_positive"] == ()


def test_partitions_merge_and_features_of_other_versions_are_passed_over() -> None:
    left, right = {"plays": {0: 2.0}, "of_a_newer_version": [1]}, {"plays": {0: 3.0}}
    assert merge(Entity.USER, [left, right]) == {"plays": {0: 5.0}}
