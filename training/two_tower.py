"""The two-tower model: viewer and item as unit vectors whose dot product says how likely the viewer speaks for the item.

In-batch sampled softmax (TensorFlow Recommenders' Retrieval task) with the logQ correction for how often an item comes up
as a negative (Yi et al. 2019, 10.1145/3298689.3346996). The mean vector of the viewer's categories and of the item's also
goes straight to the output, past the hidden layers: a few thousand positives teach a match of words that is given, and do not
teach one that must be found. Item keys are forgotten at random, so that an item nobody has met
yet is placed by its content.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.encoder import ITEM_TENSORS, USER_TENSORS, Encoder, Tensor
from training.data import Prepared
from training.dials import require
from training.errors import TooFewSamples
from training.fit import Fitted, Schedule, fit
from training.layers import Tensors, TwoSpeedModel, forget, mean_pool, present, table, tower
from training.progress import Report, silent
from training.tf import tf, tfrs

MIN_POSITIVES = 50
USER_WORDS = ("user_language", "user_content_type")
USER_LISTS = ("user_categories", "recent_positive", "recent_negative")
ITEM_WORDS = ("creator_id", "category", "content_type", "language")


@dataclass(frozen=True)
class TwoTowerConfig:
    """Dials of the two-tower model."""

    dim: int = 32  # of the embeddings and of both towers' output
    hidden: int = 64  # of each tower's hidden layer
    batch: int = 512  # also how many items a positive competes with; smaller when a pass has under eight
    max_steps: int = 1500
    round_steps: int = 50  # between two looks at the held-out loss; fewer when a pass is shorter
    patience_steps: int = 200  # without a better held-out loss before stopping
    embedding_rate: float = 0.05  # Adagrad, on gradients summed over the batch
    dense_rate: float = 1e-3  # Adam
    match: float = 4.0  # weight of the words both sides share, beside what the hidden layers say; 0 leaves it to them
    temperature: float = 0.2  # of the softmax over cosines
    dropout: float = 0.1
    item_dropout: float = 0.5  # share of item keys trained as unknown
    user_dropout: float = 0.5  # share of viewer ids trained as unknown: most viewers of tomorrow are new
    click_weight: float = 0.3  # of a positive that is only a click; likes and completions weigh 1

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        positive = (
            "dim",
            "hidden",
            "batch",
            "max_steps",
            "round_steps",
            "patience_steps",
            "embedding_rate",
            "dense_rate",
        )
        require(
            self,
            positive=(*positive, "temperature", "click_weight"),
            shares=("dropout", "item_dropout", "user_dropout"),
        )


class TwoTower(TwoSpeedModel):
    """Both towers over shared tables; `user` and `item` map encoded tensors [n, ...] to unit vectors [n, dim]."""

    def __init__(self, encoder: Encoder, config: TwoTowerConfig) -> None:
        super().__init__(embedding_rate=config.embedding_rate, dense_rate=config.dense_rate, name="two_tower")
        self.dials = config
        self.vocabulary = dict(encoder.config.vocabularies)
        sizes = {self.vocabulary[tensor]: encoder.size(tensor) for tensor in self.vocabulary if tensor != "surface"}
        self.tables = {name: table(rows, config.dim, name) for name, rows in sizes.items()}
        self.user_hidden, self.item_hidden = (
            tower((config.hidden,), dropout=config.dropout, name=name) for name in ("user_hidden", "item_hidden")
        )
        self.user_out, self.item_out = (
            tf.keras.layers.Dense(config.dim, name=name) for name in ("user_out", "item_out")
        )
        self.task = tfrs.tasks.Retrieval(temperature=config.temperature, remove_accidental_hits=True)

    def user(self, x: Tensors, *, training: bool = False) -> Any:
        """Unit vectors of viewers from USER_TENSORS."""
        ids = forget(x["user_id"], self.dials.user_dropout) if training else x["user_id"]
        parts = [self._words("user_id", ids), *(self._words(name, x[name]) for name in USER_WORDS)]
        parts += [self._pool(name, x[name]) for name in USER_LISTS]
        hidden = self.user_hidden(tf.concat([*parts, x["user_num"]], axis=1), training=training)
        likes = self._pool("user_categories", x["user_categories"])
        return tf.math.l2_normalize(self.user_out(hidden) + self.dials.match * likes, axis=1)

    def item(self, x: Tensors, *, training: bool = False) -> Any:
        """Unit vectors of items from ITEM_TENSORS."""
        ids = forget(x["item_key"], self.dials.item_dropout) if training else x["item_key"]
        parts = [self._words("item_key", ids), *(self._words(name, x[name]) for name in ITEM_WORDS)]
        parts.append(self._pool("tags", x["tags"]))
        hidden = self.item_hidden(tf.concat([*parts, x["item_static"]], axis=1), training=training)
        about = self._words("category", x["category"]) + self._pool("tags", x["tags"])
        return tf.math.l2_normalize(self.item_out(hidden) + self.dials.match * about, axis=1)

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Mean weighted softmax loss over a batch (tensors, weight [n], sampling probability [n])."""
        x, weight, probability = inputs
        total = self.task(
            self.user(x, training=training), self.item(x, training=training), sample_weight=weight,
            candidate_sampling_probability=probability, candidate_ids=x["item_key"], compute_metrics=False,
        )  # fmt: skip
        return total / tf.reduce_sum(weight)

    def _words(self, tensor: str, ids: Any) -> Any:
        return self.tables[self.vocabulary[tensor]](ids)

    def _pool(self, tensor: str, ids: Any) -> Any:
        return mean_pool(self._words(tensor, ids), present(ids))


def train_two_tower(data: Prepared, config: TwoTowerConfig, *, seed: int, report: Report = silent) -> Fitted[TwoTower]:
    """Train on the positives of the training period; TooFewSamples when there are hardly any."""
    rows = data.train[data.positive[data.train]]
    if len(rows) < MIN_POSITIVES:
        raise TooFewSamples(
            f"{len(rows)} positive samples are too few for a two-tower model; at least {MIN_POSITIVES} are needed"
        )
    columns: tuple[dict[str, Tensor], Tensor, Tensor] = (
        {name: data.tensors[name][rows] for name in (*USER_TENSORS, *ITEM_TENSORS)},
        np.where(data.strong[rows], 1.0, config.click_weight).astype(np.float32),
        _sampling_probability(data.item_key[rows]),
    )
    schedule = Schedule(config.batch, config.max_steps, config.round_steps, config.patience_steps)
    return fit(lambda: TwoTower(data.encoder, config), columns, schedule, seed=seed, stage="two_tower", report=report)


def _sampling_probability(keys: Tensor) -> Tensor:
    """How likely each row's item is to be drawn as an in-batch negative: its share of the positives, [n] float32."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    share: Tensor = (counts[inverse] / len(keys)).astype(np.float32)
    return share
