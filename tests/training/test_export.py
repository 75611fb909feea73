"""Which items the exported model knows, and what a release's folder gains: the packing beside the encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from events.schema import MediaPublished, MediaStarted, RoomOpened
from features.encoder import USER_TENSORS, Encoder
from features.packing import Packing, packing_of
from features.store import MemoryStore
from tests.training.conftest import START, SmallSamples, make_store
from training.export import MODELS, load_model
from training.pipeline import TrainingConfig, train_candidate
from training.recommend import raw_inputs
from training.shelf import shelf_of
from training.tf import tf

NOW = START.timestamp()


def store_of(published: dict[str, float], *, plays: dict[str, int] | None = None) -> MemoryStore:
    """Media by id with their age in hours, and how often each was started."""
    store = MemoryStore()
    for item_id, age in published.items():
        at = NOW - 3600 * age
        store.apply(
            MediaPublished(
                event_id=f"p-{item_id}", event_at=START, item_id=item_id, creator_id="c", content_type="VIDEO",
                category="jazz", tags=("jazz",), language="en", duration_s=60.0,
            ), at,
        )  # fmt: skip
    for item_id, count in (plays or {}).items():
        for n in range(count):
            store.apply(MediaStarted(event_id=f"{item_id}-{n}", event_at=START, user_id="u", item_id=item_id), NOW - 60)
    return store


def open_room(store: MemoryStore, room_id: str, *, lease_until: float) -> None:
    opened = RoomOpened(
        event_id=room_id, event_at=START, room_id=room_id, streamer_id=f"h-{room_id}", title="", category="chat",
        tags=("chat",), language="en",
    )  # fmt: skip
    store.apply(opened, NOW - 600)
    store.set_room(room_id, lease_until=lease_until)


def test_rooms_live_now_come_first_and_ended_ones_not_at_all() -> None:
    store = store_of({"m1": 1.0})
    open_room(store, "room", lease_until=NOW + 60)
    open_room(store, "over", lease_until=NOW - 1)
    shelf = shelf_of(store, now=NOW)
    assert shelf.ids == ("room", "m1")
    assert shelf.live.tolist() == [True, False]
    assert shelf.rows[0]["item.item_key"] == "h-room"
    assert shelf.rows[1]["item.item_key"] == "m1"


def test_beyond_the_limit_the_most_played_and_the_newest_stay() -> None:
    ages = {"old-loved": 50.0, "old": 40.0, "older": 45.0, "new": 1.0, "newer": 0.5}
    store = store_of(ages, plays={"old-loved": 5, "old": 3})
    assert shelf_of(store, now=NOW, limit=4).ids == ("new", "newer", "old", "old-loved")
    assert shelf_of(store, now=NOW, limit=2).ids == ("newer", "old-loved")


def test_statistics_are_as_of_the_export() -> None:
    shelf = shelf_of(store_of({"m": 2.0}, plays={"m": 3}), now=NOW)
    assert shelf.rows[0]["item.plays"] == 3.0
    assert shelf.rows[0]["item.publish_age_hours"] == pytest.approx(2.0)
    assert shelf.rows[0]["cross.creator_watches"] == 0.0


@pytest.fixture(scope="module")
def candidate(samples: SmallSamples, quick: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("candidates") / "demo-1"
    hasty = TrainingConfig(replace(quick.two_tower, max_steps=20), replace(quick.ranker, max_steps=20))
    store = make_store()
    now = float(samples.event_at[-1])
    for room, lease in (("room-1", now + 30), ("room-2", now - 30)):
        open_room(store, room, lease_until=lease)
    train_candidate(samples, store, out, line="demo", version=1, config=hasty)
    return out


def test_the_packing_of_a_release_is_its_encoders(candidate: Path) -> None:
    encoder = Encoder.load(candidate / "encoder.json")
    assert Packing.load(candidate / "packing.json") == packing_of(encoder.config)


def test_a_release_recommends_the_rooms_that_were_live_at_its_newest_event(
    candidate: Path, samples: SmallSamples
) -> None:
    model = load_model(candidate / MODELS / "ranker")
    inputs = raw_inputs(Encoder.load(candidate / "encoder.json"), samples.features[-1])
    assert set(inputs) == set(USER_TENSORS)
    given = {name: tf.constant(value) for name, value in inputs.items()}
    nobody = tf.constant([], tf.string)
    out = model.signatures["recommend"](**given, candidate_ids=nobody, k=tf.constant(5, tf.int64))
    assert out["item_ids"].numpy().tolist() == [b"room-1"]
    assert np.isfinite(out["scores"].numpy()).all()
