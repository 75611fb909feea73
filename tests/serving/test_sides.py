"""What the ranker is asked and what is logged, made by array: equal to the snapshot and the encoder, item by item."""

import random
from dataclasses import replace

import numpy as np
import pytest

from events import schema as s
from events.clock import utc
from features.definitions import Entity
from features.encoder import ITEM_TENSORS, STATS_TENSORS, Encoder
from features.packing import ITEM_NUM, packing_of
from features.snapshot import look_in, read_known, snapshot
from serving.candidates import CODE
from serving.catalogue import Catalogue
from serving.codes import Codes
from serving.errors import ReleaseRefused
from serving.hydration import Hydration
from serving.item_rows import TAGS
from serving.sides import Pool, logged, raw_numbers, shared_part, told
from tests.serving.small_world import CATEGORIES, NOW, SmallWorld

LANGUAGES = ("en", "de", "ja")
LATER = NOW + 4000.0


def lively(world: SmallWorld, seed: int) -> SmallWorld:
    """Items of many kinds, and a viewer who has met a good part of them."""
    pick = random.Random(seed)
    words = [f"tag{n}" for n in range(30)]
    for n in range(60):
        tags = tuple(pick.sample(words, pick.choice([0, 1, 3, TAGS, TAGS + 1, 15])))
        world.tell(
            s.MediaPublished(
                event_id=world.name(), event_at=utc(NOW - pick.random() * 1e6), item_id=f"x{n}", creator_id=f"c{n % 13}",
                content_type=pick.choice(["VIDEO", "AUDIO"]), category=pick.choice(CATEGORIES), tags=tags,
                language=pick.choice(LANGUAGES), duration_s=pick.choice([None, 5.0, 3600.0]),
            )
        )  # fmt: skip
    world.tell(s.ViewerProfile(event_id=world.name(), event_at=utc(NOW), user_id="u1", language="de"))
    for number in range(200):
        user, item = pick.choice(["u1", "u2", "u3"]), f"x{pick.randrange(60)}"
        at = NOW + pick.random() * 3900
        world.plays(user, item, at=at)
        if number % 5 == 0:
            host = pick.randrange(3)
            world.tell(
                s.RoomEntered(
                    event_id=world.name(), event_at=utc(at), user_id=user, room_id=f"r{host}", streamer_id=f"h{host}"
                )
            )
        if number % 9 == 0:
            world.tell(
                s.StreamerFollowed(
                    event_id=world.name(), event_at=utc(at), user_id=user, streamer_id=f"h{pick.randrange(3)}",
                    room_id=f"r{pick.randrange(3)}",
                )
            )  # fmt: skip
    return world


def encoder_of(world: SmallWorld) -> Encoder:
    ids = world.store.ids(Entity.ITEM)
    look = look_in(world.store, world.store.read(Entity.USER, ["u2"])[0])
    known = read_known(world.store, "u2", ids, now=LATER, look=look)
    rows = [snapshot("u2", one, k, now=LATER, surface=s.Surface.HOME) for one, k in zip(ids, known, strict=True)]
    return Encoder.fit(rows * 2)


@pytest.mark.parametrize(("seed", "viewer", "passed"), [(1, "u1", 0.0), (2, "u1", 67.0), (3, "nobody", 1800.0)])
def test_arrays_say_of_every_item_what_the_snapshot_says(
    world: SmallWorld, seed: int, viewer: str, passed: float
) -> None:
    lively(world, seed)
    encoder, catalogue = encoder_of(world), Catalogue(world.store)
    codes = Codes(encoder, catalogue)
    catalogue.attach(codes)  # half of the codes are learned as items come, the other half below
    catalogue.refresh(LATER)
    world.publish("late", creator="c99", category="unheard of", at=LATER)
    catalogue.refresh(LATER)
    codes.fill()
    view, now = catalogue.view, LATER + passed  # time has passed since the last look at the store
    ids = sorted(view.items)
    rows = view.table.rows(ids)
    pool = Pool(rows, np.full(len(rows), CODE["two_tower"], np.int8), view.table.makers(rows), view.columns.kind(rows))
    who = Hydration(world.store, catalogue.words).viewer(viewer, now)
    raw = raw_numbers(who, pool, view, now)

    known = read_known(world.store, viewer, ids, now=now)
    wanted = [snapshot(viewer, one, k, now=now, surface=s.Surface.PLAYBACK) for one, k in zip(ids, known, strict=True)]
    shared, numbers = shared_part(who, s.Surface.PLAYBACK), told(raw)
    for place, one in enumerate(ids):
        said = logged(view.items[one], numbers[place], shared)
        assert said.keys() == wanted[place].keys()
        for name, value in wanted[place].items():
            assert said[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), (one, name)
    tensors = (*ITEM_TENSORS, *STATS_TENSORS)
    theirs, ours = encoder.encode(wanted, tensors), codes.encode(pool, raw, s.Surface.PLAYBACK)
    assert set(ours) == set(tensors)
    for name in tensors:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=2e-6, err_msg=name)
    packing = packing_of(encoder.config)
    packed = Codes(encoder, catalogue, packing)
    packed.fill()
    for name, array in packing.pack_items(theirs).items():
        made = packed.inputs(pool, raw, s.Surface.PLAYBACK)[name]
        assert made.dtype == array.dtype
        np.testing.assert_allclose(made, array, rtol=0, atol=2e-6, err_msg=name)


def test_a_number_that_two_tensors_read_alike_is_in_both(world: SmallWorld) -> None:
    lively(world, 1)
    encoder, catalogue = encoder_of(world), Catalogue(world.store)
    numbers = encoder.config.numbers
    static = {**dict(reversed(numbers["item_num"].items())), **numbers["item_static"]}
    encoder = replace(encoder, config=replace(encoder.config, numbers={**numbers, "item_static": static}))
    catalogue.refresh(LATER)
    view, packing = catalogue.view, packing_of(encoder.config)
    rows = view.table.rows(sorted(view.items))
    pool = Pool(rows, np.zeros(len(rows), np.int8), view.table.makers(rows), view.columns.kind(rows))
    raw = raw_numbers(Hydration(world.store, catalogue.words).viewer("u1", LATER), pool, view, LATER)
    named = Codes(encoder, catalogue).encode(pool, raw, s.Surface.HOME)
    packed = Codes(encoder, catalogue, packing).inputs(pool, raw, s.Surface.HOME)
    shared = len(numbers["item_num"])
    np.testing.assert_array_equal(named["item_static"][:, :shared], named["item_num"][:, ::-1])
    np.testing.assert_array_equal(packed[ITEM_NUM], packing.pack_items(named)[ITEM_NUM])


def test_an_encoder_that_reads_what_the_proxy_cannot_give_is_refused(world: SmallWorld) -> None:
    encoder = world.encoder()
    words = {**encoder.config.words, "category": "item.shoe_size"}
    with pytest.raises(ReleaseRefused, match=r"item\.shoe_size"):
        Codes(replace(encoder, config=replace(encoder.config, words=words)), Catalogue(world.store))
