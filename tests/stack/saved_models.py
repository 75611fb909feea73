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


class Spinner(tf.Module):
    """Counts to a number in a loop of the graph: a request that may take for ever."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="to")])
    def spin(self, to: Any) -> dict[str, Any]:
        return {"reached": tf.while_loop(lambda i: i < to, lambda i: i + 1, [tf.constant(0, tf.int64)])[0]}


def write_spinner(base: Path, version: int) -> Path:
    """Publish a Spinner."""
    model = Spinner()
    tf.saved_model.save(model, str(base / str(version)), signatures={"serving_default": model.spin})
    return base / str(version)


CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def write_examples(base: Path, version: int) -> Path:
    """A model of tf.Examples with features x and shift: y = x / 2 + shift, as regression and as classification.

    Signatures: the default ([n, 1]) and flat ([n]) regress, classify (labels "low", "high" and scores -y, y), labels and
    scores classify with one of these, and the rest are not as they should be.
    """
    path = base / str(version)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None], name="examples")
        other = tf.compat.v1.placeholder(tf.string, [None], name="other")
        feature = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        parsed = tf.io.parse_example(serialized, {"x": feature, "shift": feature})
        y = parsed["x"] * 0.5 + parsed["shift"]
        labels = tf.tile([["low", "high"]], [tf.shape(y)[0], 1])
        scores = tf.concat([-y, y], 1)
        info = tf.compat.v1.saved_model.build_tensor_info

        def signature(method: str, *, source: Any = serialized, **outputs: Any) -> Any:
            return tf.compat.v1.saved_model.build_signature_def(
                {"inputs": info(source)}, {key: info(tensor) for key, tensor in outputs.items()}, method
            )

        builder = tf.compat.v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature(REGRESS, outputs=y),
                "flat": signature(REGRESS, outputs=y[:, 0]),
                "classify": signature(CLASSIFY, classes=labels, scores=scores),
                "labels": signature(CLASSIFY, classes=labels),
                "scores": signature(CLASSIFY, scores=scores),
                "wide": signature(REGRESS, outputs=scores),
                "once": signature(REGRESS, outputs=y[0]),
                "words": signature(REGRESS, outputs=labels[:, 0]),
                "column": signature(CLASSIFY, scores=y[:, 0]),
                "numbers": signature(CLASSIFY, classes=scores),
                "neither": signature(CLASSIFY, loud=labels),
                "elsewhere": signature(REGRESS, source=other, outputs=tf.strings.to_number(other)),
            },
        )
        builder.save()
    return path
