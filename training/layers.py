"""Parts both models are made of: embedding tables with an unknown row, masked pools, and two optimizers at once.

Embeddings learn by Adagrad, which leaves rows absent from a batch alone (Adam of tf-keras keeps moving them on momentum);
everything dense learns by Adam.
"""

from typing import Any

from training.tf import tf, tfrs

Tensors = dict[str, Any]


def table(rows: int, dim: int, name: str, *, spread: float = 0.05) -> Any:
    """An embedding table [rows, dim]; row 0 is the unknown word and learns too."""
    start = tf.keras.initializers.RandomNormal(stddev=spread)
    return tf.keras.layers.Embedding(rows, dim, embeddings_initializer=start, name=f"{name}_table")


def present(ids: Any) -> Any:
    """1.0 where a list holds a known word, 0.0 at padding and unknown words, [n, length]."""
    return tf.cast(ids > 0, tf.float32)


def mean_pool(vectors: Any, mask: Any) -> Any:
    """Mean of the present vectors of each list [n, length, d] -> [n, d]; zeros for an empty list."""
    total = tf.reduce_sum(vectors * mask[..., None], axis=-2)
    return total / tf.maximum(tf.reduce_sum(mask, axis=-1, keepdims=True), 1.0)


def forget(ids: Any, share: float) -> Any:
    """Replace that share of ids by the unknown word, so that a model also learns to do without them."""
    return tf.where(tf.random.uniform(tf.shape(ids)) < share, tf.zeros_like(ids), ids)


def tower(hidden: tuple[int, ...], *, dropout: float, name: str) -> Any:
    """Dense relu layers, each followed by dropout."""
    layers = []
    for size in hidden:
        layers += [tf.keras.layers.Dense(size, activation="relu"), tf.keras.layers.Dropout(dropout)]
    return tf.keras.Sequential(layers, name=name)


def compiled(call: Any) -> Any:
    """A function as a graph that takes any number of rows; with autograph, which the Retrieval task needs."""
    return tf.function(call, reduce_retracing=True)


def batch_rows(inputs: Any) -> Any:
    """Rows of a batch of nested tensors, as a scalar tensor."""
    return tf.shape(tf.nest.flatten(inputs)[0])[0]


def _times(gradient: Any, factor: Any) -> Any:
    """A gradient, sparse or dense, times a number."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


class TwoSpeedModel(tfrs.Model):
    """A tfrs.Model whose tables learn by Adagrad and whose dense weights learn by Adam."""

    def __init__(self, *, embedding_rate: float, dense_rate: float, name: str) -> None:
        super().__init__(name=name)
        self._tables = tf.keras.optimizers.Adagrad(embedding_rate, initial_accumulator_value=0.1)
        self._dense = tf.keras.optimizers.Adam(dense_rate)

    def train_step(self, inputs: Any) -> dict[str, Any]:
        """One step on one batch: loss of the tasks plus regularisers."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        variables = self.trainable_variables
        pairs = [(g, v) for g, v in zip(tape.gradient(loss, variables), variables, strict=True) if g is not None]
        rows = tf.cast(batch_rows(inputs), tf.float32)
        self._tables.apply_gradients([(_times(g, rows), v) for g, v in pairs if "_table" in v.name])
        self._dense.apply_gradients([(g, v) for g, v in pairs if "_table" not in v.name])
        return {"loss": loss}
