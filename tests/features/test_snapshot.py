"""What the model sees of one request and one item."""

import pytest

from events import schema as s
from events.log import Place
from features.definitions import AUDIT_ONLY
from features.history import Past, apply_event
from features.snapshot import preferred_content_type, read_known, snapshot
from features.store import MemoryStore
from tests.features.conftest import at


def seen(store: MemoryStore, user: str, item: str, minutes: float = 0) -> dict[str, s.FeatureValue]:
    now = at(minutes).timestamp()
    return snapshot(
        user, item, read_known(store, user, [item], now=now)[0], now=now, surface=s.Surface.HOME, position=3
    )


@pytest.fixture
def store() -> MemoryStore:
    """Host h1 live with a song; u1, who speaks Korean and follows h1, entered her room two hours ago."""
    live = {"room_id": "r1", "streamer_id": "h1"}
    events = [
        s.ViewerProfile(event_id="p", event_at=at(-200), user_id="u1", language="ko", age_band="25-34", gender="f"),
        s.RoomOpened(event_id="o", event_at=at(-180), category="song", tags=("song", "dance"), language="ko", **live),
        s.RoomEntered(event_id="e", event_at=at(-120), user_id="u1", **live),
        s.StreamerFollowed(event_id="f", event_at=at(-110), user_id="u1", **live),
        s.RoomHeartbeat(event_id="h", event_at=at(-0.5), **live),
    ]
    out = MemoryStore()
    for event in events:
        apply_event(out, Past(event.event_at.timestamp(), event, Place("memory", 0)))
    return out


def test_what_needs_both_sides_is_worked_out_by_hand(store: MemoryStore) -> None:
    got = seen(store, "u1", "r1")
    assert got["item.item_key"] == "h1"
    assert got["cross.follows"] == got["cross.language_match"] == got["cross.seen_recently"] == 1.0
    assert got["cross.creator_gap_h"] == 2.0 and got["cross.creator_watches"] == 1.0
    assert got["cross.tag_affinity"] == pytest.approx((0.6 + 0.2 + 0.9) / (1 + 1)) and got["cross.tags_met"] == 1.0
    assert got["item.publish_age_hours"] == 3.0
    assert got["context.position"] == 3.0 and got["context.surface"] == "home"


def test_a_stranger_and_an_unknown_item_get_defaults_and_no_error(store: MemoryStore) -> None:
    got = seen(store, "stranger", "nowhere")
    assert got["cross.creator_gap_h"] == got["item.publish_age_hours"] == -1.0
    assert got["cross.tag_affinity"] == 0.6 and got["item.category"] == "unknown" and got["user.recent_positive"] == []


def test_age_and_gender_reach_no_snapshot(store: MemoryStore) -> None:
    assert not [name for name in seen(store, "u1", "r1") if name.rsplit(".", 1)[-1] in AUDIT_ONLY]


def test_every_value_fits_the_impression_schema(store: MemoryStore) -> None:
    import msgspec

    text = msgspec.json.encode(seen(store, "u1", "r1"))
    assert msgspec.json.decode(text, type=dict[str, s.FeatureValue]) == seen(store, "u1", "r1")


def test_the_preferred_type_is_mixed_unless_only_one_kind_of_media_was_started() -> None:
    assert preferred_content_type(["VIDEO", "LIVE"]) == "VIDEO"
    assert preferred_content_type(["VIDEO", "AUDIO"]) == preferred_content_type([]) == "MIXED"
