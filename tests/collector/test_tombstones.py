"""What the intake asks about erased people: her events are dropped, others' go on without her name."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.tombstones import Tombstones
from events import schema as s
from events.clock import SetClock
from features.erased import ASKED, ERASED, ErasedPeople

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
HERS = (
    s.MediaLiked(event_id="1", event_at=NOON, user_id="vera", item_id="film"),
    s.MediaLiked(event_id="2", event_at=NOON, user_id="otto", item_id="film", creator_id="vera"),
    s.GiftSent(event_id="3", event_at=NOON, user_id="otto", room_id="r", streamer_id="vera", amount=1.0),
    s.MediaPublished(
        event_id="4", event_at=NOON, item_id="film", creator_id="vera", content_type="VIDEO", category="x"
    ),
    s.RoomHeartbeat(event_id="5", event_at=NOON, streamer_id="vera", room_id="r"),
    s.ViewerProfile(event_id="6", event_at=NOON, user_id="vera"),
)
OTHERS = (
    s.MediaLiked(event_id="7", event_at=NOON, user_id="vera2", item_id="vera", creator_id="anna"),
    s.MediaRemoved(event_id="8", event_at=NOON, item_id="film"),
)


def impression(features: dict[str, s.FeatureValue]) -> s.Impression:
    return s.Impression(
        event_id="r:0", event_at=NOON, request_id="r", user_id="otto", item_id="film", creator_id="anna", position=0,
        content_type=s.ContentType.VIDEO, features=features,
    )  # fmt: skip


@pytest.fixture
def clock() -> SetClock:
    return SetClock(1000.0)


@pytest.fixture
def tombstones(lake: Path, clock: SetClock) -> Tombstones:
    ErasedPeople(lake).add("vera", ASKED, at=NOON)
    found = Tombstones(ErasedPeople(lake), clock=clock)
    found.refresh_if_due()
    return found


def test_events_about_her_are_erased_whatever_she_is_in_them(tombstones: Tombstones) -> None:
    assert [event.event_id for event in (*HERS, *OTHERS) if tombstones.is_erased(event)] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    ]


def test_without_tombstones_nothing_is_erased_and_events_pass_untouched(lake: Path, clock: SetClock) -> None:
    nobody = Tombstones(ErasedPeople(lake), clock=clock)
    assert nobody.refresh_if_due() is False
    assert not any(map(nobody.is_erased, HERS))
    assert nobody.scrub(HERS[0]) is HERS[0]


def test_a_new_tombstone_counts_from_the_next_look_a_second_later(lake: Path, clock: SetClock) -> None:
    mine = Tombstones(ErasedPeople(lake), clock=clock)
    mine.refresh_if_due()
    ErasedPeople(lake).add("vera", ASKED, at=NOON)
    clock.set(1000.5)
    assert (mine.refresh_if_due(), mine.is_erased(HERS[0])) == (False, False)
    clock.set(1001.0)
    assert (mine.refresh_if_due(), mine.is_erased(HERS[0])) == (True, True)


def test_profile_erased_writes_a_tombstone_and_is_stored_until_the_work_is_done(lake: Path, clock: SetClock) -> None:
    order = s.ProfileErased(event_id="o", event_at=NOON, user_id="vera")
    mine = Tombstones(ErasedPeople(lake), clock=clock)
    assert (mine.note(order), mine.note(order), mine.note(HERS[0])) == (True, False, False)
    assert (mine.is_erased(order), mine.is_erased(HERS[0])) == (False, True)
    ErasedPeople(lake).add("vera", ERASED, at=NOON)
    mine.refresh_if_due()
    assert mine.is_erased(order)


def test_who_blocked_her_keeps_the_profile_without_her_name(tombstones: Tombstones) -> None:
    otto = s.ViewerProfile(event_id="p", event_at=NOON, user_id="otto", blocked_creators=("anna", "vera"))
    cleaned = tombstones.scrub(otto)
    assert isinstance(cleaned, s.ViewerProfile) and cleaned.blocked_creators == ("anna",)


def test_logged_features_lose_her_name(tombstones: Tombstones) -> None:
    event = impression({"item.item_key": "vera", "user.recent_positive": ["vera", "film"], "user.plays": 2.0})
    cleaned = tombstones.scrub(event)
    assert isinstance(cleaned, s.Impression)
    assert cleaned.features == {"item.item_key": "erased", "user.recent_positive": ["film"], "user.plays": 2.0}


def test_an_event_that_does_not_name_her_is_the_same_object(tombstones: Tombstones) -> None:
    event = impression({"user.recent_positive": ["film"]})
    assert tombstones.scrub(event) is event


def test_unreadable_bytes_under_her_key_are_hers(tombstones: Tombstones) -> None:
    keys = (b"vera", b"otto", None, b"\xff")
    assert [tombstones.is_erased_key(key) for key in keys] == [True, False, False, False]
