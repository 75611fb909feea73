"""Releases whose ranker answers with probabilities planted by hand: what re-ranking is held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from events.schema import FeatureValue
from features.encoder import DEFAULT_CONFIG, Encoder
from registry.manifest import ENCODER, RANKER, Manifest, write_manifest
from training.serving_signatures import RANK_TENSORS, traced
from training.tf import tf

READ = sorted(
    {*DEFAULT_CONFIG.words.values(), *(name for name, _ in DEFAULT_CONFIG.lists.values())}
    | {name for features in DEFAULT_CONFIG.numbers.values() for name in features}
)
Planted = Mapping[str, tuple[float, float]]  # item -> (click, like)


def features(item: str) -> dict[str, FeatureValue]:
    """A logged snapshot with every feature an encoder reads, of which the ranker here looks at the item alone."""
    nothing: dict[str, FeatureValue] = dict.fromkeys(READ)
    return nothing | {"item.item_key": item, "user.user_id": "u1"}


def release(
    into: Path, planted: Planted, *, line: str, version: int = 1, formula: Mapping[str, Any] | None = None,
    data_until: str = "2026-12-20T00:00:00+00:00",
) -> Path:  # fmt: skip
    """The folder of a release whose ranker gives each item what is planted, and half to those it does not know."""
    folder = into / f"{line}-{version}"
    folder.mkdir(parents=True)
    encoder = Encoder.fit([features(item) for item in planted for _ in range(2)])
    encoder.save(folder / ENCODER)
    table = np.full((encoder.size("item_key"), 2), 0.5, np.float32)
    for item, chances in planted.items():
        table[encoder.vocabulary["item"][item]] = chances
    answers = tf.constant(table)
    sample = encoder.encode([features("x")], RANK_TENSORS)
    specs = {
        name: tf.TensorSpec((None, *sample[name].shape[1:]), sample[name].dtype, name=name) for name in RANK_TENSORS
    }
    rank = traced(lambda given: {"scores": tf.gather(answers, given["item_key"])}, specs)
    tf.saved_model.save(tf.Module(), str(folder / "models" / RANKER), signatures={"rank": rank})
    write_manifest(folder, Manifest(
        line=line, version=version, created_at="2027-01-01T00:00:00+00:00", objectives=("click", "like"),
        formula=dict(formula or {"click": 1.0}), tables={}, metrics={}, dials={}, data_until=data_until,
    ))  # fmt: skip
    return folder
