"""Packed tensors: which columns hold what, that nothing is lost, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

from features.encoder import DEFAULT_CONFIG, ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, EncoderConfig
from features.errors import BadEncoder
from features.packing import Columns, Packing, packing_of

SMALL = EncoderConfig(
    numbers={"user_num": {"user.plays": "linear"}, "item_static": {"item.duration_s": "linear"},
             "item_num": {"item.plays": "linear", "item.like_ratio": "linear"}},
    words={"user_id": "user.user_id", "item_key": "item.item_key", "surface": "context.surface"},
    lists={"recent_positive": ("user.recent_positive", 2), "tags": ("item.tags", 2)},
    vocabularies={},
)  # fmt: skip


def test_ids_and_numbers_stand_side_by_side_in_the_order_of_the_tensors() -> None:
    packing = packing_of(SMALL)
    user = {
        "user_id": np.array([7], np.int64), "recent_positive": np.array([[3, 4]], np.int64),
        "user_num": np.array([[0.5]], np.float32),
    }  # fmt: skip
    items = {
        "item_key": np.array([1, 2], np.int64), "tags": np.array([[5, 0], [6, 8]], np.int64),
        "surface": np.array([9, 9], np.int64), "item_static": np.array([[0.1], [0.2]], np.float32),
        "item_num": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
    }  # fmt: skip
    packed = packing.pack_user(user) | packing.pack_items(items)
    assert packed["user_ids"].tolist() == [[7, 3, 4]]
    assert packed["user_num"].tolist() == [[0.5]]
    assert packed["item_ids"].tolist() == [[1, 5, 0, 9], [2, 6, 8, 9]]
    np.testing.assert_array_equal(packed["item_num"], np.array([[0.1, 1, 2], [0.2, 3, 4]], np.float32))
    assert {str(array.dtype) for array in packed.values()} == {"int32", "float32"}


def test_what_is_packed_comes_out_as_it_was() -> None:
    rows = [
        {"user.user_id": f"u{n}", "item.item_key": f"m{n}", "item.tags": ["a", "b"][:n], "item.plays": float(n)}
        for n in range(3)
        for _ in range(2)
    ]
    tensors = Encoder.fit(rows).encode(rows)
    packing = packing_of(DEFAULT_CONFIG)
    out = packing.unpack(packing.pack_user(tensors) | packing.pack_items(tensors))
    assert set(out) == {*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS}
    for name, value in out.items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)


def test_the_file_says_the_columns(tmp_path: Path) -> None:
    packing_of(SMALL).save(tmp_path / "packing.json")
    loaded = Packing.load(tmp_path / "packing.json")
    assert loaded == packing_of(SMALL)
    assert loaded.arrays["item_ids"]["tags"] == Columns(1, 3, False)


@pytest.mark.parametrize(
    "body",
    ["", "[]", '{"format": 2, "arrays": {}}', '{"format": 1, "arrays": {}}', '{"format": 1, "arrays": {"user_ids": 3}}',
     '{"format": 1, "arrays": {"user_ids": {"user_id": [1, 0, true]}}}'],
    ids=["empty", "list", "other-format", "no-arrays", "no-columns", "backwards"],
)  # fmt: skip
def test_a_file_that_is_no_packing_is_a_sentence(tmp_path: Path, body: str) -> None:
    path = tmp_path / "packing.json"
    path.write_text(body)
    with pytest.raises(BadEncoder, match=r"^packing .*packing\.json "):
        Packing.load(path)
