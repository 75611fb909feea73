"""From named values to tensors: indices and scales by hand, the same after saving, nothing that serves the audit alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.encoder import DEFAULT_CONFIG, ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, EncoderConfig
from features.errors import BadEncoder

CONFIG = EncoderConfig(
    numbers={"num": {"user.plays": "linear", "cross.creator_gap_h": "gap"}},
    words={"category": "item.category"},
    lists={"tags": ("item.tags", 3)},
    vocabularies={"category": "tag", "tags": "tag"},
)
ROWS = [
    {"item.category": "jazz", "item.tags": ["jazz", "live"], "user.plays": 1.0, "cross.creator_gap_h": -1.0},
    {
        "item.category": "folk",
        "item.tags": ["folk", "live", "jazz", "rare"],
        "user.plays": 3.0,
        "cross.creator_gap_h": 0.0,
    },
]


def test_words_share_a_vocabulary_by_name_and_the_rare_are_unknown() -> None:
    encoder = Encoder.fit(ROWS, CONFIG)
    assert encoder.vocabulary == {"tag": {"folk": 1, "jazz": 2, "live": 3}}
    assert encoder.size("tags") == encoder.size("category") == 4
    got = encoder.encode(ROWS)
    assert got["category"].tolist() == [2, 1]
    assert got["tags"].tolist() == [[2, 3, 0], [1, 3, 2]]


def test_numbers_are_scaled_and_a_missing_one_is_the_mean() -> None:
    encoder = Encoder.fit(ROWS, CONFIG)
    got = encoder.encode([*ROWS, {"user.plays": None}])["num"]
    assert got[:, 0].tolist() == [-1.0, 1.0, 0.0]
    assert got[0, 1] == -1.0 and got[1, 1] == 1.0  # -1 (never) stays below 0 hours
    assert got.dtype == np.float32


def test_far_outliers_are_clipped_and_unseen_words_are_unknown() -> None:
    got = Encoder.fit(ROWS, CONFIG).encode([{"user.plays": 1e9, "item.category": "polka"}])
    assert got["num"][0, 0] == 8.0 and got["category"].tolist() == [0]


@pytest.mark.parametrize("value", [None, -1.0, 0.0, 0.5, 1e9, -1e9, float("inf"), float("nan")])
def test_a_row_by_itself_is_encoded_as_among_others(value: float | None) -> None:
    encoder = Encoder.fit(ROWS, CONFIG)
    row = {"user.plays": value, "cross.creator_gap_h": value}
    np.testing.assert_array_equal(encoder.encode([row])["num"][0], encoder.encode([*ROWS, row])["num"][2])


def test_a_saved_encoder_encodes_alike(tmp_path: Path) -> None:
    encoder = Encoder.fit(ROWS, CONFIG)
    encoder.save(tmp_path / "encoder.json")
    again = Encoder.load(tmp_path / "encoder.json")
    for name, tensor in encoder.encode(ROWS).items():
        np.testing.assert_array_equal(tensor, again.encode(ROWS)[name])


def test_a_broken_encoder_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(BadEncoder, match=r"encoder\.json has format 99"):
        Encoder.load(tmp_path / "encoder.json")
    with pytest.raises(BadEncoder, match=r"nowhere\.json cannot be read"):
        Encoder.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize("name", ["user.age_band", "user.gender"])
def test_what_serves_the_audit_alone_is_refused(name: str) -> None:
    with pytest.raises(BadEncoder, match=name):
        Encoder.fit(ROWS, replace(CONFIG, words={"category": name}))


def test_no_rows_are_refused() -> None:
    with pytest.raises(BadEncoder, match="build samples first"):
        Encoder.fit([], CONFIG)


def test_the_default_tensors_are_those_the_models_declare() -> None:
    config = DEFAULT_CONFIG
    assert {*config.words, *config.lists, *config.numbers} == {*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS}
