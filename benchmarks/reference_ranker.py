"""The ranker that rank and feed are measured on, fixed here: 100 numbers and 4 ids an item, MLP 256-128-64, six heads.

Its weights are drawn, not learned: it costs what a ranker costs and says nothing about anybody. Signature `rank` (also
`serving_default`): item_ids int32 [n, 4] and item_num float32 [n, 100] to scores float32 [n, 6], one fused output.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.packing import DTYPES

FLOATS, IDS, HEADS = 100, 4, 6
ROWS, DIM = 10_000, 16  # of each id's table
HIDDEN = (256, 128, 64)
INPUTS, OUTPUT = ("item_ids", "item_num"), "scores"
Array = npt.NDArray[Any]


def inputs(rng: np.random.Generator, n: int) -> dict[str, Array]:
    """What the signature takes, for n items."""
    return {
        "item_ids": rng.integers(0, ROWS, (n, IDS), dtype=np.int32),
        "item_num": rng.normal(size=(n, FLOATS)).astype(np.float32),
    }


def export(folder: Path, seed: int, *, users: Mapping[str, int] | None = None) -> None:
    """Write the SavedModel into `folder`; the same seed gives the same weights.

    With `users` (array of the viewer's -> columns) also as `rank_packed`, which takes and checks these and does no more.
    """
    from training.tf import tf  # TensorFlow: ten seconds that importing a benchmark's list need not pay

    rng = np.random.default_rng(seed)
    module = tf.Module(name="reference_ranker")
    module.tables = [_variable(rng, (ROWS, DIM), 0.05, f"table_{n}") for n in range(IDS)]
    widths = (FLOATS + IDS * DIM, *HIDDEN, HEADS)
    module.layers = [
        (_variable(rng, (wide, out), (2.0 / wide) ** 0.5, f"kernel_{n}"), _variable(rng, (out,), 0.01, f"bias_{n}"))
        for n, (wide, out) in enumerate(pairwise(widths))
    ]

    def rank(item_ids: Any, item_num: Any) -> dict[str, Any]:
        words = [tf.gather(table, item_ids[:, n]) for n, table in enumerate(module.tables)]
        x = tf.concat([item_num, *words], axis=1)
        for kernel, bias in module.layers[:-1]:
            x = tf.nn.relu(tf.matmul(x, kernel) + bias)
        kernel, bias = module.layers[-1]
        return {OUTPUT: tf.sigmoid(tf.matmul(x, kernel) + bias)}

    specs = (
        tf.TensorSpec((None, IDS), tf.int32, name="item_ids"),
        tf.TensorSpec((None, FLOATS), tf.float32, name="item_num"),
    )
    served = tf.function(rank, autograph=False).get_concrete_function(*specs)
    signatures = {"rank": served, "serving_default": served}
    if users:
        signatures["rank_packed"] = tf.function(_with_users(rank), autograph=False).get_concrete_function(
            *specs,
            *(tf.TensorSpec((None, width), tf.as_dtype(DTYPES[name]), name=name) for name, width in users.items()),
        )
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _with_users(rank: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    from training.tf import tf

    def packed(item_ids: Any, item_num: Any, user_ids: Any, user_num: Any) -> dict[str, Any]:
        nothing = 0.0 * (tf.reduce_sum(user_num) + tf.cast(tf.reduce_sum(user_ids), tf.float32))
        return {name: scores + nothing for name, scores in rank(item_ids, item_num).items()}

    return packed


def _variable(rng: np.random.Generator, shape: tuple[int, ...], spread: float, name: str) -> Any:
    from training.tf import tf

    return tf.Variable((rng.normal(size=shape) * spread).astype(np.float32), trainable=False, name=name)
