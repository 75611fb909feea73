"""Tiny SavedModels with known answers, written by the tests that serve them."""

from pathlib import Path
from typing import Any

import tensorflow as tf


class Line(tf.Module):
    """y = x / 2 + offset, and a twin z = -y; a second signature adds two inputs; a third looks words up in a table."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = tf.Variable(offset)
        keys, values = tf.constant(["jazz", "rock"]), tf.constant([7, 9], tf.int64)
        initial = tf.lookup.KeyValueTensorInitializer(keys, values)
        self.table = tf.lookup.StaticHashTable(initial, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half(self, x: Any) -> dict[str, Any]:
        y = x * 0.5 + self.offset
        return {"y": y, "z": -y}

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([None], tf.int64, name="b")]
    )
    def add(self, a: Any, b: Any) -> dict[str, Any]:
        return {"sum": tf.reduce_sum(a, axis=1) + tf.cast(b, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def look_up(self, word: Any) -> dict[str, Any]:
        return {"id": self.table.lookup(word), "loud": tf.strings.upper(word)}


def write_line(base: Path, version: int, *, offset: float = 2.0) -> Path:
    """Publish `base/version` by a rename, as a deployment does."""
    model = Line(offset)
    draft = base / f"tmp-{version}"
    signatures = {"serving_default": model.half, "add": model.add, "look_up": model.look_up}
    tf.saved_model.save(model, str(draft), signatures=signatures)
    return draft.rename(base / str(version))
