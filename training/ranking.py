"""The ranker: a shared trunk over viewer, item and how they meet, with one head an objective (click, completion, like).

The viewer's recent items meet the target twice, through one item table: by a bilinear product with each, and by attention
over them (after DIN, 10.1145/3219819.3219823, with the product as the attention). A wide part takes numbers straight to
the heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, Tensor
from training.data import Prepared
from training.dials import require
from training.fit import Fitted, Schedule, fit
from training.layers import Tensors, TwoSpeedModel, forget, mean_pool, present, table, tower
from training.progress import Report, silent
from training.tf import tf, tfrs

USER_WORDS = ("user_language", "user_content_type")
ITEM_WORDS = ("creator_id", "category", "content_type", "language", "surface")


@dataclass(frozen=True)
class RankerConfig:
    """Dials of the ranker."""

    dim: int = 16  # of every embedding
    hidden: tuple[int, ...] = (64, 32)  # of the shared trunk
    batch: int = 256
    max_steps: int = 3000
    round_steps: int = 50  # between two looks at the held-out loss; fewer when a pass is shorter
    patience_steps: int = 300  # without a better held-out loss before stopping
    embedding_rate: float = 0.03  # Adagrad, on gradients summed over the batch
    dense_rate: float = 1e-3  # Adam
    dropout: float = 0.2
    l2: float = 0.03  # on the embeddings a batch touches
    item_dropout: float = 0.3  # share of item keys trained as unknown
    user_dropout: float = 0.8  # share of viewer ids trained as unknown: most viewers of tomorrow are new

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        positive = ("dim", "batch", "max_steps", "round_steps", "patience_steps", "embedding_rate", "dense_rate")
        require(self, positive=positive, shares=("dropout", "l2", "item_dropout", "user_dropout"))


class Meeting(NamedTuple):
    """How a target meets one list of the viewer's: products [n, 2], vectors [n, 2 d], length of the list [n, 1]."""

    products: Any
    vectors: Any
    filled: Any


class _Side(NamedTuple):
    """Parts of a dense layer's input and the rows of its kernel that they meet."""

    parts: list[Any]
    rows: list[int]


class Ranker(TwoSpeedModel):
    """Logits [n, objectives] from encoded tensors; viewer tensors may have one row, which then holds for every item."""

    def __init__(self, encoder: Encoder, objectives: Sequence[str], config: RankerConfig) -> None:
        super().__init__(embedding_rate=config.embedding_rate, dense_rate=config.dense_rate, name="ranker")
        self.dials = config
        self.objectives = tuple(objectives)
        self.vocabulary = dict(encoder.config.vocabularies)
        sizes = {self.vocabulary[tensor]: encoder.size(tensor) for tensor in self.vocabulary}
        self.tables = {name: table(rows, config.dim, name) for name, rows in sizes.items()}
        self.item_bias = table(encoder.size("item_key"), 1, "item_bias", spread=0.01)
        self.bilinear = tf.keras.layers.Dense(
            config.dim, use_bias=False, kernel_initializer="identity", name="bilinear"
        )
        self.trunk = tower(config.hidden, dropout=config.dropout, name="trunk")
        self.deep = tf.keras.layers.Dense(len(objectives), name="deep")
        start = tf.constant_initializer(wide_start(encoder, len(objectives)))
        self.wide = tf.keras.layers.Dense(len(objectives), use_bias=False, kernel_initializer=start, name="wide")
        entropy = tf.keras.losses.BinaryCrossentropy
        self.objective_tasks = [tfrs.tasks.Ranking(loss=entropy(from_logits=True)) for _ in objectives]

    def call(self, x: Tensors, training: bool = False) -> Any:
        """Logits [n, objectives]."""
        return self._forward(x, training=training)[0]

    def probabilities(self, x: Tensors) -> Any:
        """Probabilities [n, objectives], in the order of the objectives."""
        return tf.sigmoid(self(x))

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Sum over objectives of the mean cross entropy on (tensors, labels [n, objectives]), plus L2 in training."""
        x, labels = inputs
        logits, penalty = self._forward(x, training=training)
        losses = [
            task(labels=labels[:, k : k + 1], predictions=logits[:, k : k + 1], compute_metrics=False)
            for k, task in enumerate(self.objective_tasks)
        ]
        return tf.add_n(losses) + (self.dials.l2 * penalty if training else 0.0)

    def _forward(self, x: Tensors, *, training: bool) -> tuple[Any, Any]:
        user_id = forget(x["user_id"], self.dials.user_dropout) if training else x["user_id"]
        key = forget(x["item_key"], self.dials.item_dropout) if training else x["item_key"]
        rows = tf.shape(key)[0]
        viewer = self._words("user_id", user_id)
        item, bias = self._words("item_key", key), self.item_bias(key)
        target = self.bilinear(item)
        tags, liked_tags = (
            self._pool("tags", x["tags"]),
            _spread(self._pool("user_categories", x["user_categories"]), rows),
        )
        meetings = [self._meet(target, x[name]) for name in ("recent_positive", "recent_negative")]
        words = [_spread(self._words(name, x[name]), rows) for name in USER_WORDS]
        words += [self._words(name, x[name]) for name in ITEM_WORDS]
        products = [*(m.products for m in meetings), tf.reduce_sum(tags * liked_tags, axis=1, keepdims=True), bias]
        numbers = [_spread(x["user_num"], rows), x["item_num"], x["cross_num"], x["item_static"], *products]
        vectors = [item, tags, liked_tags, _spread(viewer, rows), *words, *(m.vectors for m in meetings)]
        filled = [m.filled for m in meetings]
        hidden = self._hidden([*numbers, *filled, *vectors], training=training)
        logits = self.deep(hidden) + _side_by_side(self.wide, numbers)
        touched = [item, target, tags, viewer, 3.0 * bias]  # the bias is one number an item: it overfits first
        return logits, tf.add_n([tf.reduce_mean(tf.reduce_sum(v * v, axis=-1)) for v in touched])

    def _hidden(self, parts: Sequence[Any], *, training: bool) -> Any:
        """What the trunk makes of parts side by side."""
        if not any(_one_row(part) for part in parts):
            return self.trunk(tf.concat(parts, axis=1), training=training)
        if not self.trunk.built:
            self.trunk(tf.zeros([1, sum(part.shape[1] for part in parts)]))
        first, *rest = self.trunk.layers
        hidden = _side_by_side(first, parts)
        for layer in rest:
            hidden = layer(hidden, training=training)
        return hidden

    def _meet(self, target: Any, ids: Any) -> Meeting:
        """The target [n, d] against a list of item keys [1 or n, length]."""
        rows = tf.shape(target)[0]
        mask, vectors = _spread(present(ids), rows), _spread(self._words("item_key", ids), rows)
        product = _products(target, vectors)
        count = tf.reduce_sum(mask, axis=1, keepdims=True)
        attention = tf.nn.softmax(product + (mask - 1.0) * 1e9, axis=1) * mask
        # The root keeps the variance of a sum of products independent of the list's length.
        whole = tf.reduce_sum(product * mask, axis=1, keepdims=True) / tf.sqrt(count + 1.0)
        sharp = tf.reduce_sum(attention * product, axis=1, keepdims=True)
        attended = (
            tf.matmul(attention, vectors[0]) if _one_row(vectors) else tf.einsum("nl,nld->nd", attention, vectors)
        )
        pooled = tf.concat([attended * target, mean_pool(vectors, mask) * target], axis=1)
        return Meeting(tf.concat([whole, sharp], axis=1), pooled, count / tf.cast(tf.shape(ids)[1], tf.float32))

    def _words(self, tensor: str, ids: Any) -> Any:
        return self.tables[self.vocabulary[tensor]](ids)

    def _pool(self, tensor: str, ids: Any) -> Any:
        return mean_pool(self._words(tensor, ids), present(ids))


def wide_start(encoder: Encoder, objectives: int) -> Tensor:
    """First weights of the wide part, [inputs, objectives]: numbers count nothing, a meeting speaks for or against.

    With random signs, whether the item table ever learns who goes with whom depends on the seed: products that start with
    the wrong sign push it towards embeddings that the product of one table with itself cannot express.
    """
    numbers = sum(len(encoder.config.numbers[name]) for name in ("user_num", "item_num", "cross_num", "item_static"))
    column = [0.0] * numbers + [1.0, 1.0, -1.0, -1.0, 1.0, 1.0]  # liked items, refused items, tags, the item's bias
    return np.repeat(np.array(column, np.float32)[:, None], objectives, axis=1)


def _one_row(x: Any) -> bool:
    """Whether the graph is made for exactly one row: one viewer and her candidates."""
    return bool(x.shape[0] == 1)


def _spread(x: Any, rows: Any) -> Any:
    """One viewer row repeated for every item; as it is where there is a row an item already, or ever only one row."""
    return x if _one_row(x) else tf.broadcast_to(x, tf.concat([[rows], tf.shape(x)[1:]], axis=0))


def _products(target: Any, vectors: Any) -> Any:
    """Products [n, length] of targets [n, d] with their lists of vectors [n, length, d], or with the only one [1, ...]."""
    if _one_row(vectors):
        return tf.matmul(target, vectors[0], transpose_b=True)
    return tf.einsum("nd,nld->nl", target, vectors)


def _side_by_side(layer: Any, parts: Sequence[Any]) -> Any:
    """A dense layer over parts side by side; what parts of one row add is computed once and added to every row."""
    if not any(_one_row(part) for part in parts):
        return layer(tf.concat(parts, axis=1))
    if not layer.built:
        layer(tf.zeros([1, sum(part.shape[1] for part in parts)]))
    once, each = _Side([], []), _Side([], [])
    begin = 0
    for part in parts:
        end = begin + part.shape[1]
        side = once if _one_row(part) else each
        side.parts.append(part)
        side.rows.extend(range(begin, end))
        begin = end
    sums = [
        tf.matmul(tf.concat(side.parts, axis=1), tf.gather(layer.kernel, side.rows))
        for side in (each, once)
        if side.parts
    ]
    out = sums[0] if layer.bias is None else sums[0] + layer.bias
    return layer.activation(out if len(sums) == 1 else out + sums[1])


def train_ranker(data: Prepared, config: RankerConfig, *, seed: int, report: Report = silent) -> Fitted[Ranker]:
    """Train on every impression of the training period, one head for each objective with both labels there."""
    names = (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS)
    columns = ({name: data.tensors[name][data.train] for name in names}, data.labels[data.train])
    schedule = Schedule(config.batch, config.max_steps, config.round_steps, config.patience_steps)
    make = lambda: Ranker(data.encoder, data.objectives, config)  # noqa: E731
    return fit(make, columns, schedule, seed=seed, stage="ranker", report=report)
