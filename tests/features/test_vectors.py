"""An item's numbers, packed and read back."""

import math

import numpy as np

from features import vectors as v
from features.definitions import BY_ENTITY, Entity
from features.snapshot import _CREATOR, _ITEM
from features.state import values

PUBLISHED = 1_793_556_017.25


def film(**also: object) -> bytes:
    item = values(Entity.ITEM, {}, PUBLISHED) | {"published_at": PUBLISHED, "plays": 3.0, "duration_s": 90.5} | also
    return v.pack(item, values(Entity.CREATOR, {}, PUBLISHED) | {"subscribers": 12.0})


def column(found: v.Vectors, name: str) -> list[float]:
    return [float(one) for one in found.numbers[:, v.NAMES.index(name)]]


def test_numbers_come_back_in_the_order_asked_for() -> None:
    found = v.unpack([film(), film(plays=5.0)])
    assert found.numbers.shape == (2, len(v.NAMES)) and found.numbers.dtype == np.float32
    assert column(found, "item.plays") == [3.0, 5.0]
    assert column(found, "item.duration_s") == [90.5, 90.5]
    assert column(found, "creator.subscribers") == [12.0, 12.0]


def test_a_value_that_is_none_is_nan() -> None:
    assert math.isnan(column(v.unpack([film(duration_s=None)]), "item.duration_s")[0])


def test_a_missing_vector_and_one_of_another_size_are_all_nan() -> None:
    found = v.unpack([None, film(), film()[:-4]])
    assert np.isnan(found.numbers).all(axis=1).tolist() == [True, False, True]
    assert np.isnan(found.published_at).tolist() == [True, False, True]


def test_nothing_asked_for_is_no_rows() -> None:
    assert v.unpack([]).numbers.shape == (0, len(v.NAMES))


def test_the_publish_time_keeps_its_fraction_of_a_second() -> None:
    assert v.unpack([film()]).published_at.tolist() == [PUBLISHED]


def test_every_number_that_a_snapshot_takes_of_an_item_or_creator_is_in_the_vector() -> None:
    numeric = {
        f"{entity.value}.{feature.name}"
        for entity, names in ((Entity.ITEM, _ITEM), (Entity.CREATOR, _CREATOR))
        for feature in BY_ENTITY[entity]
        if feature.name in names and (feature.unit == "seconds" or isinstance(feature.default, float))
    }
    assert numeric | {"item.published_at"} == set(v.NAMES)
