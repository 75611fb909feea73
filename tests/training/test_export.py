"""Which items the exported model knows, and what a release's folder gains: packing and user tower beside the encoder."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.schema import MediaPublished, MediaStarted, RoomOpened
from features.encoder import USER_TENSORS, Encoder
from features.errors import BadUserTower
from features.packing import DTYPES, USER_ARRAYS, USER_IDS, USER_NUM, Columns, Packing, packing_of
from features.store import MemoryStore
from features.user_tower import USER_TOWER, UserTower
from registry.manifest import read_manifest
from tests.training.conftest import START, SmallSamples, make_store
from training.errors import UnreadableExport
from training.export import MODELS, load_model
from training.pipeline import TrainingConfig, train_candidate
from training.recommend import raw_inputs
from training.shelf import shelf_of
from training.tf import tf
from training.user_tower import write_user_tower

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


@pytest.fixture(scope="module")
def viewers(candidate: Path, samples: SmallSamples) -> dict[str, np.ndarray]:
    """Twenty sample viewers, encoded."""
    return Encoder.load(candidate / "encoder.json").encode(samples.features[-20:], USER_TENSORS)


def test_the_proxys_copy_of_the_viewers_side_gives_what_the_served_model_gives(
    candidate: Path, viewers: dict[str, np.ndarray]
) -> None:
    packing = Packing.load(candidate / "packing.json")
    tower = UserTower(candidate / USER_TOWER, packing)
    packed = packing.pack_user(viewers)
    got = [tower.embed({name: rows[n : n + 1] for name, rows in packed.items()}) for n in range(20)]
    model = load_model(candidate / MODELS / "two_tower")
    want = model.signatures["embed_user"](**{name: tf.constant(rows) for name, rows in viewers.items()})["embedding"]
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
    assert tower.width == want.shape[1]
    assert len({one.tobytes() for one in got}) > 5  # and not one answer for everybody


def test_the_proxys_copy_is_part_of_what_the_manifest_vouches_for(candidate: Path) -> None:
    assert USER_TOWER in read_manifest(candidate).artefacts


def test_a_viewer_who_cannot_be_embedded_is_an_error_in_a_sentence_and_the_next_one_is_embedded(
    candidate: Path, viewers: dict[str, np.ndarray]
) -> None:
    packing = Packing.load(candidate / "packing.json")
    tower = UserTower(candidate / USER_TOWER, packing)
    one = {name: rows[:1] for name, rows in packing.pack_user(viewers).items()}
    before = tower.embed(one)
    wrong = [{**one, USER_IDS: one[USER_IDS] + 10**8}, {**one, USER_IDS: one[USER_IDS].astype(np.int64)}, {}]
    for _ in range(50):
        for viewer in wrong:
            with pytest.raises(BadUserTower, match="gives no embedding") as refused:
                tower.embed(viewer)
            assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)
    np.testing.assert_array_equal(tower.embed(one), before)


def test_threads_that_share_a_copy_get_their_own_viewers_embedding(
    candidate: Path, viewers: dict[str, np.ndarray]
) -> None:
    packing = Packing.load(candidate / "packing.json")
    tower, packed = UserTower(candidate / USER_TOWER, packing), packing.pack_user(viewers)
    each = [{name: rows[n : n + 1] for name, rows in packed.items()} for n in range(20)]
    want = [tower.embed(one) for one in each]
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(tower.embed, each * 100))
    np.testing.assert_array_equal(got, want * 100)


def test_a_copy_of_which_a_part_is_missing_is_refused(candidate: Path, tmp_path: Path) -> None:
    whole, packing = (candidate / USER_TOWER).read_bytes(), Packing.load(candidate / "packing.json")
    for share in (0.0, 0.1, 0.5, 0.9):
        (tmp_path / "part").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadUserTower, match=str(tmp_path)):
            UserTower(tmp_path / "part", packing)


def test_a_two_tower_that_is_too_large_for_a_copy_has_none_and_says_so(candidate: Path, tmp_path: Path) -> None:
    packing, model = Packing.load(candidate / "packing.json"), candidate / MODELS / "two_tower"
    (tmp_path / USER_TOWER).write_bytes(b"of an earlier run")
    why = write_user_tower(tmp_path / USER_TOWER, model, packing, viewers={}, most_bytes=100)
    assert "at most 100 fit" in why
    assert not (tmp_path / USER_TOWER).exists()


def test_a_model_that_cannot_be_converted_has_no_copy_and_says_why(candidate: Path, tmp_path: Path) -> None:
    packing = Packing.load(candidate / "packing.json")
    lines = [
        lambda ids, num: {
            "embedding": tf.strings.to_number(tf.strings.as_string(num))
        },  # strings are no LiteRT kernels
        lambda ids, num: {"embedding": tf.math.log(num - 1e9)},  # and this is no number
    ]
    for place, line in enumerate(lines):
        write_two_tower(tmp_path / str(place), packing, line)
    nobody = {name: np.zeros((2, packing.width(name)), DTYPES[name]) for name in USER_ARRAYS}
    out = tmp_path / USER_TOWER
    assert "cannot be converted" in write_user_tower(out, tmp_path / "0", packing, viewers=nobody)
    assert not out.exists()
    with pytest.raises(UnreadableExport, match="not numbers"):
        write_user_tower(out, tmp_path / "1", packing, viewers=nobody)


def test_a_copy_that_is_no_copy_for_these_viewers_is_refused_in_a_sentence(candidate: Path, tmp_path: Path) -> None:
    packing = Packing.load(candidate / "packing.json")
    (tmp_path / "none").write_bytes(b"no model at all")
    other = {**packing.arrays, USER_NUM: {"user_num": Columns(0, 9, word=False)}}
    for path, packed in (
        (tmp_path / "none", packing), (tmp_path / "missing", packing), (candidate / USER_TOWER, Packing(other))
    ):  # fmt: skip
        with pytest.raises(BadUserTower, match=str(path)) as refused:
            UserTower(path, packed)
        assert "\n" not in str(refused.value)


def write_two_tower(folder: Path, packing: Packing, line: Callable[[Any, Any], dict[str, Any]]) -> None:
    """A SavedModel whose `embed_user_packed` is `line`."""
    specs = [tf.TensorSpec((None, packing.width(name)), DTYPES[name], name=name) for name in USER_ARRAYS]
    call = tf.function(lambda user_ids, user_num: line(user_ids, user_num), autograph=False)
    module = tf.Module()
    module.unused = tf.Variable(0.0)
    tf.saved_model.save(module, str(folder), signatures={"embed_user_packed": call.get_concrete_function(*specs)})
