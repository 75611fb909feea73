"""The ground of the feed benchmark: a catalogue of millions in Redis, viewers with histories, and a release.

It ranks with the reference ranker (100 numbers and 4 ids an item) and searches embeddings of width 64 approximately.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reference_ranker
from benchmarks.recall_data import Mixture, mixture
from events import schema as s
from events.clock import utc
from events.log import Place
from features.definitions import Entity
from features.encoder import DEFAULT_CONFIG, ITEM_TENSORS, USER_TENSORS, Encoder, EncoderConfig
from features.packing import ITEM_IDS, ITEM_NUM, PACKING, USER_IDS, USER_NUM, Columns, Packing, packing_of
from features.redis import RedisStore
from features.state import EntityState
from features.store import MemoryStore, OnlineRecord, RecordKey, lease_end
from features.user_tower import USER_TOWER
from registry.manifest import (
    ENCODER,
    INDEX,
    INDEX_FOLDER,
    RANKER,
    TWO_TOWER,
    Manifest,
    point_live,
    write_manifest,
)
from serving.index_file import IndexDials, make_index, write_index
from serving.sides import COLUMNS

NOW = 1_800_000_000.0
CREATORS, ROOMS, FRESH, VIEWERS, STARTS, CATEGORIES, TAGS = 200_000, 5_000, 1_000, 2_000, 40, 1_000, 2_000
NAME = "bench-1"
OBJECTIVES = tuple(f"head_{n}" for n in range(reference_ranker.HEADS))
PLACE = Place("media.events", 0)
LANGUAGES = ("en", "de", "ja", "pt")
BATCH = 5_000
Say = Callable[[str], None]


def item_id(number: int) -> str:
    """The id of a media item."""
    return f"item-{number}"


def media(number: int, *, at: float | None = None) -> EntityState:
    """What was published, at epoch second `at` if given; a third of the items have plays."""
    at = NOW - 4e6 + number if at is None else at  # the higher the number, the newer
    said = {
        "content_type": "AUDIO" if number % 5 == 0 else "VIDEO", "category": f"category-{number % CATEGORIES}",
        "tags": [f"tag-{number % TAGS}", f"tag-{number * 7 % TAGS}"], "language": LANGUAGES[number % 4],
        "title": f"title of {number}", "creator_id": f"creator-{number % CREATORS}", "duration_s": 60.0 + number % 600,
        "published_at": at, "shown": 1.0,
    }  # fmt: skip
    state: EntityState = {name: [at, value] for name, value in said.items()}
    if number % 3 == 0:
        state |= {"plays": {0: number % 100 + 1}, "satisfaction": [float(number % 50), float(number % 100 + 1)]}
    return state


def fill(store: RedisStore, items: int, pick: random.Random, say: Say) -> None:
    """Media, rooms that are live at NOW, what trends, and viewers; items from `items` on came after the release's index."""
    for start in range(0, items + FRESH, BATCH):
        numbers = range(start, min(start + BATCH, items + FRESH))
        store.save({RecordKey(Entity.ITEM, item_id(n), PLACE): OnlineRecord(1, media(n)) for n in numbers})
    say(f"{items + FRESH} items in Redis")
    _rooms(store, pick)
    store.set_trending("home:ALL", {item_id(pick.randrange(items)): float(200 - n) for n in range(200)})
    for number in range(VIEWERS):
        store.save(dict(viewer(f"viewer-{number}", items, pick)))
    say(f"{ROOMS} live rooms and {VIEWERS} viewers in Redis")


def _rooms(store: RedisStore, pick: random.Random) -> None:
    memory = MemoryStore()
    for number in range(ROOMS):
        words = tuple(f"tag-{pick.randrange(TAGS)}" for _ in range(3))
        memory.apply(
            s.RoomOpened(
                event_id=f"open-{number}", event_at=utc(NOW), streamer_id=f"host-{number}", room_id=f"room-{number}",
                category=f"category-{number % CATEGORIES}", tags=words,
            ),
            NOW, place=PLACE,
        )  # fmt: skip
        store.set_room(f"room-{number}", lease_until=lease_end(NOW))
    store.save(_records(memory))


def viewer(name: str, items: int, pick: random.Random) -> Iterator[tuple[RecordKey, OnlineRecord]]:
    """A viewer after STARTS starts and completions in a week, some visits to rooms, and a few hosts followed."""
    memory, place = MemoryStore(), Place("user.engagement.events", 0)
    for number in range(STARTS):
        at = NOW - pick.random() * 6e5
        one = pick.randrange(items)
        for kind in (s.MediaStarted, s.MediaCompleted):
            event = kind(
                event_id=f"{number}", event_at=utc(at), user_id=name, item_id=item_id(one),
                creator_id=f"creator-{one % CREATORS}",
            )  # fmt: skip
            memory.apply(event, at, place=place)
    for number in range(10):
        host, at = pick.randrange(ROOMS), NOW - pick.random() * 6e5
        memory.apply(
            s.RoomEntered(
                event_id=f"r{number}", event_at=utc(at), user_id=name, room_id=f"room-{host}", streamer_id=f"host-{host}"
            ),
            at, place=place,
        )  # fmt: skip
        if number < 3:
            followed = s.StreamerFollowed(
                event_id=f"f{number}",
                event_at=utc(at),
                user_id=name,
                room_id=f"room-{host}",
                streamer_id=f"host-{host}",
            )
            memory.apply(followed, at, place=place)
    yield from ((key, record) for key, record in _records(memory).items() if key.entity in (Entity.USER, Entity.PAIR))


def _records(memory: MemoryStore) -> dict[RecordKey, OnlineRecord]:
    return {
        RecordKey(entity, one, place): record
        for (entity, one), lanes in memory.records.items()
        for place, record in lanes.items()
    }


def encoder() -> Encoder:
    """The viewer as the platform encodes her; an item by 4 ids and 100 numbers: 20 features under five readings each."""
    kept = [name for name in COLUMNS if name != "item.published_at"][:20]
    hows = ("linear", "log1p", "gap", "linear", "log1p")
    numbers = {f"item_num_{n}": dict.fromkeys(kept, how) for n, how in enumerate(hows)}
    words = {name: DEFAULT_CONFIG.words[name] for name in DEFAULT_CONFIG.words if name in USER_TENSORS}
    words |= {name: DEFAULT_CONFIG.words[name] for name in ("item_key", "creator_id", "category", "language")}
    lists = {name: spec for name, spec in DEFAULT_CONFIG.lists.items() if name in USER_TENSORS}
    config = EncoderConfig(
        numbers={"user_num": DEFAULT_CONFIG.numbers["user_num"], **numbers}, words=words, lists=lists,
        vocabularies={name: DEFAULT_CONFIG.vocabularies[name] for name in (*words, *lists)},
    )  # fmt: skip
    size = reference_ranker.ROWS - 1
    vocabulary = {
        "item": {item_id(n): n + 1 for n in range(size)}, "creator": {f"creator-{n}": n + 1 for n in range(size)},
        "tag": {f"category-{n}": n + 1 for n in range(CATEGORIES)}, "user": {}, "preferred": {"MIXED": 1},
        "language": {one: n + 1 for n, one in enumerate(LANGUAGES)},
    }  # fmt: skip
    features = [feature for spec in config.numbers.values() for feature in spec]
    return Encoder(config, vocabulary, dict.fromkeys(features, 0.5), dict.fromkeys(features, 2.0))


def packing(of: Encoder) -> Packing:
    """Where the reference ranker finds what."""
    arrays = dict(packing_of(of.config).arrays)
    words = [name for name in ITEM_TENSORS if name in of.config.words]
    arrays[ITEM_IDS] = {name: Columns(n, n + 1, True) for n, name in enumerate(words)}
    numbers = [name for name in of.config.numbers if name.startswith("item_num")]
    width = reference_ranker.FLOATS // len(numbers)
    arrays[ITEM_NUM] = {name: Columns(n * width, (n + 1) * width, False) for n, name in enumerate(numbers)}
    return Packing(arrays)


def release(releases: Path, models: Path, items: int, seed: int, say: Say) -> None:
    """Write the release and its models where proxy and model server look, and put it into traffic."""
    from training.user_tower import write_user_tower  # TensorFlow

    folder = releases / NAME
    folder.mkdir(parents=True)
    known, data = encoder(), mixture(np.random.default_rng(seed))
    known.save(folder / ENCODER)
    packing(known).save(folder / PACKING)
    _index(folder, data, items, seed, say)
    write_manifest(
        folder,
        Manifest(
            line="bench", version=1, created_at="2027-01-15T08:00:00+00:00", objectives=OBJECTIVES, tables={}, metrics={},
            formula=dict.fromkeys(OBJECTIVES, 1.0), dials={},
        ),
    )  # fmt: skip
    arrays = packing(known)
    two_tower(models / TWO_TOWER / "1", data, arrays)
    viewers = arrays.pack_user(known.encode([{}], USER_TENSORS))
    say(
        write_user_tower(folder / USER_TOWER, models / TWO_TOWER / "1", arrays, viewers=viewers) or "user tower written"
    )
    reference_ranker.export(models / RANKER / "1", seed, users={one: arrays.width(one) for one in (USER_IDS, USER_NUM)})
    say("models exported")
    point_live(releases, {"stable": NAME})


def _index(folder: Path, data: Mixture, items: int, seed: int, say: Say) -> None:
    rng = np.random.default_rng(seed)
    matrix = data.points(rng, items)
    index, card = make_index(matrix, data.queries(rng, 256), IndexDials(threads=2, seed=seed))
    (folder / INDEX_FOLDER).mkdir()
    card = write_index(folder / INDEX_FOLDER, index, card)
    names = np.array([item_id(n) for n in range(items)])
    kinds = np.where(np.arange(items) % 5 == 0, "AUDIO", "VIDEO")
    np.savez(folder / INDEX, item_ids=names, content_type=kinds)
    say(f"index of {items} items: {card.kind}, recall@{card.k} {card.recall:.3f}")


def two_tower(folder: Path, data: Mixture, arrays: Packing) -> None:
    """A two-tower that looks embeddings up: a viewer lies between her categories' centres, an item at its category's."""
    from training.tf import tf  # TensorFlow: ten seconds that importing a benchmark's list need not pay

    module = tf.Module(name="two_tower")
    centres = np.vstack([np.full((1, data.centres.shape[1]), 0.01, np.float32), data.centres])
    module.centres = tf.Variable(centres, trainable=False, name="centres")
    at = arrays.arrays[USER_IDS]["user_categories"]

    def user(user_ids: Any, user_num: Any) -> dict[str, Any]:
        near = tf.reduce_sum(tf.gather(module.centres, user_ids[:, at.begin : at.end]), axis=1)
        return {"embedding": tf.math.l2_normalize(near + 0.0 * tf.reduce_sum(user_num), axis=1)}

    def item(**tensors: Any) -> dict[str, Any]:
        return {"embedding": tf.gather(module.centres, tensors["category"])}

    user_specs = (
        tf.TensorSpec((None, arrays.width(USER_IDS)), tf.int32, name=USER_IDS),
        tf.TensorSpec((None, arrays.width(USER_NUM)), tf.float32, name=USER_NUM),
    )
    words = ("item_key", "creator_id", "category", "language")
    signatures = {
        "embed_user_packed": tf.function(user, autograph=False).get_concrete_function(*user_specs),
        "embed_item": tf.function(item, autograph=False).get_concrete_function(
            **{name: tf.TensorSpec((None,), tf.int64, name=name) for name in words}
        ),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
