"""Definitions applied event by event: who is touched, with what, and what the values are then."""

import pytest

from events import schema as s
from features.definitions import Entity
from features.state import merge, pair_id, touched, values
from features.store import MemoryStore
from tests.features.conftest import at

PUBLISHED = s.MediaPublished(
    event_id="m", event_at=at(-60), item_id="i1", creator_id="c1", content_type="AUDIO", category="jazz",
    tags=("jazz", "live"),
)  # fmt: skip


def started(
    event_id: str = "e", minutes: float = 0, item_id: str = "i1", creator_id: str | None = "c1"
) -> s.MediaStarted:
    return s.MediaStarted(event_id=event_id, event_at=at(minutes), user_id="u1", item_id=item_id, creator_id=creator_id)


def told(*events: s.Event) -> MemoryStore:
    store = MemoryStore()
    for event in events:
        store.apply(event, event.event_at.timestamp())
    return store


def known(store: MemoryStore, entity: Entity, one: str, minutes: float = 1) -> dict[str, object]:
    return values(entity, store.read(entity, [one])[0], at(minutes).timestamp(), store.look)


def test_a_start_touches_viewer_item_creator_and_pair() -> None:
    assert touched(started()) == [
        (Entity.USER, "u1"), (Entity.ITEM, "i1"), (Entity.CREATOR, "c1"), (Entity.PAIR, pair_id("u1", "c1")),
    ]  # fmt: skip


def test_an_item_that_nobody_published_yet_has_no_words_until_it_is_published() -> None:
    store = told(started())
    assert known(store, Entity.USER, "u1")["top_categories_7d"] == []
    assert known(store, Entity.USER, "u1")["plays"] == 1.0
    store.apply(PUBLISHED, at(-60).timestamp())
    assert known(store, Entity.USER, "u1")["top_categories_7d"] == ["jazz"]


def test_an_event_that_names_no_creator_changes_none() -> None:
    store = told(PUBLISHED, started(creator_id=None))
    assert store.ids(Entity.CREATOR) == store.ids(Entity.PAIR) == []


def test_a_follow_counts_for_the_viewer_and_for_who_is_followed() -> None:
    store = told(
        s.SubscriptionToCreator(event_id="a", event_at=at(0), user_id="u1", creator_id="c1"),
        s.StreamerFollowed(event_id="b", event_at=at(1), user_id="u2", room_id="r", streamer_id="c1"),
    )
    assert (
        known(store, Entity.USER, "c1")["subscriber_count"] == known(store, Entity.CREATOR, "c1")["subscribers"] == 2.0
    )
    assert (
        known(store, Entity.USER, "u1")["follows"] == ["c1"]
        and known(store, Entity.USER, "u1")["subscriber_count"] == 0
    )


def test_a_host_is_known_by_the_words_of_the_last_room() -> None:
    store = told(
        s.RoomOpened(
            event_id="o", event_at=at(-5), streamer_id="h1", room_id="r1", category="song", tags=("song", "duet")
        ),
        s.RoomEntered(event_id="a", event_at=at(0), user_id="u1", room_id="r1", streamer_id="h1"),
    )
    user = known(store, Entity.USER, "u1")
    assert user["top_categories_7d"] == ["song"] and user["content_types_7d"] == ["LIVE"]
    assert user["tag_affinity"] == pytest.approx({"song": (0.6 + 0.2) / 2, "duet": (0.6 + 0.2) / 2})


def test_what_happens_in_a_room_is_counted_in_four_windows() -> None:
    live = {"user_id": "u1", "room_id": "r1", "streamer_id": "h1"}
    store = told(
        *(s.CommentPosted(event_id=f"c{m}", event_at=at(m), **live) for m in (0, 50, 57, 59)),
        s.GiftSent(event_id="g", event_at=at(58), amount=12.5, **live),
    )
    room = known(store, Entity.ITEM, "r1", 59.5)
    assert [room[f"comments_{minutes}m"] for minutes in (1, 5, 15, 60)] == [1.0, 2.0, 3.0, 4.0]
    assert room["gifts_1m"] == 0.0 and room["gifts_5m"] == 1.0 and room["gift_amount_60m"] == 12.5
    assert next(iter(store.records[Entity.ITEM, "r1"].values())).state.keys() >= {"comments_60m"}
    assert "comments_5m" not in next(iter(store.records[Entity.ITEM, "r1"].values())).state  # it reads the widest


def test_a_viewers_sessions_have_a_mean_length() -> None:
    store = told(*(started(f"e{m}", m) for m in (0, 10, 35, 120, 126)))
    assert known(store, Entity.USER, "u1", 130)["avg_session_duration"] == (35 * 60 + 6 * 60) / 2


def test_a_host_has_hours_of_the_day() -> None:
    live = {"room_id": "r1", "streamer_id": "h1"}
    store = told(
        *(s.RoomEntered(event_id=f"e{n}", event_at=at(60 * n), user_id=f"u{n}", **live) for n in (0, 0, 2, 24))
    )
    first = f"{int(at(0).hour):02d}"
    assert known(store, Entity.CREATOR, "h1")["starts_by_hour"] == {first: 3.0, f"{(int(first) + 2) % 24:02d}": 1.0}


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


PIPED = ("u42", "u42|x", "u42\x1f1x", "u42|", "|u42")


def test_a_pairs_id_says_whose_it_is_whatever_the_viewers_id_holds_and_plain_ids_are_as_they_were() -> None:
    assert pair_id("u42", "c1") == "u42|c1" and pair_id("u42", "auth0|9") == "u42|auth0|9"
    whole = {pair_id(user, creator): (user, creator) for user in PIPED for creator in ("c", "x|c", "|c", "|x|c")}
    assert len(whole) == 20
    assert len({one.partition("|")[0] for one in whole}) == len(PIPED)


def test_viewers_whose_ids_begin_alike_before_a_bar_share_no_pairs() -> None:
    store = MemoryStore()
    for user in PIPED:
        watched = s.RoomEntered(
            event_id=user, event_at=at(0), user_id=user, room_id="r", streamer_id=f"host of|{user}"
        )  # fmt: skip
        store.apply(watched, at(0).timestamp())
    assert {user: list(store.of_viewer(user).pairs) for user in PIPED} == {user: [f"host of|{user}"] for user in PIPED}
