"""SavedModels that compute what serving.models.MemoryModels computes, for a real model server."""

import os
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder

DIMENSIONS = 8


def write_models(folder: Path, encoder: Encoder, *, objectives: int = 3) -> None:
    """Write `models/two_tower` and `models/ranker` under a candidate's folder."""
    specs = {
        name: tf.TensorSpec([None, *row.shape[1:]], row.dtype, name=name) for name, row in encoder.encode([{}]).items()
    }

    def unit(index: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(index % DIMENSIONS, DIMENSIONS)

    def embed_user(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": unit(tensors["user_categories"][:, 0])}

    def embed_item(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": unit(tensors["category"])}

    def rank(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        score = 1.0 / (1.0 + tf.cast(tensors["item_key"], tf.float32))
        return {"scores": tf.repeat(score[:, None], objectives, axis=1)}

    def concrete(call: object, names: tuple[str, ...]) -> object:
        return tf.function(call).get_concrete_function(**{name: specs[name] for name in names})

    user, item = concrete(embed_user, USER_TENSORS), concrete(embed_item, ITEM_TENSORS)
    ranker = concrete(rank, (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS))
    towers = {"embed_user": user, "embed_item": item, "serving_default": user}
    tf.saved_model.save(tf.Module(), str(folder / "models" / "two_tower"), signatures=towers)
    tf.saved_model.save(
        tf.Module(), str(folder / "models" / "ranker"), signatures={"rank": ranker, "serving_default": ranker}
    )
