"""The `recommend` signature of the ranker: a viewer's features in words, candidates by id, the best of them with scores out.

For clients that have neither the encoder nor the item features: vocabularies, scales and the items' statistics as of the
export are inside the model, as lookup tables that the SavedModel's own initialiser fills. What needs viewer and item together
is as for a viewer who never met the item, and the surface is home.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from events.schema import FeatureValue
from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, Tensor
from features.packing import ITEM_ARRAYS, Packing
from training.ranking import Ranker
from training.serving_signatures import PROBES, Samples, traced
from training.shelf import Shelf
from training.tf import tf

NAME = "recommend"
CANDIDATES, K = "candidate_ids", "k"
_CHANGES = {  # the encoder's transforms
    "linear": lambda x: x,
    "log1p": lambda x: tf.math.log1p(tf.maximum(x, tf.zeros_like(x))),
    "gap": lambda x: tf.where(x >= 0, tf.math.log1p(tf.maximum(x, tf.zeros_like(x))), -tf.ones_like(x)),
}


class Recommend:
    """`viewer` is a snapshot row that the export asks both models about; `weights` [objectives] are the release's formula."""

    name = NAME

    def __init__(
        self, ranker: Ranker, encoder: Encoder, shelf: Shelf, *, packing: Packing, weights: Sequence[float],
        viewer: Mapping[str, FeatureValue],
    ) -> None:  # fmt: skip
        self._ranker, self._encoder, self._shelf, self._packing = ranker, encoder, shelf, packing
        self._weights, self._viewer = np.array(weights, np.float32), viewer
        words = sorted(
            {encoder.config.vocabularies[name] for name in USER_TENSORS if name in encoder.config.vocabularies}
        )
        self._index = {name: _table(encoder.vocabulary[name], absent=0) for name in words}
        self._row_of = _table({one: row for row, one in enumerate(shelf.ids)}, absent=-1)
        packed = packing.pack_items(encoder.encode(shelf.rows, (*ITEM_TENSORS, *STATS_TENSORS)))
        self._items = {name: tf.Variable(packed[name], trainable=False, name=name) for name in ITEM_ARRAYS}

    @property
    def kept(self) -> tuple[Any, ...]:
        """The tables and the items' arrays."""
        return (*self._index.values(), self._row_of, *self._items.values())

    def concrete(self, samples: Samples) -> Any:
        """The function traced: words [n] and numbers [features] of one viewer, candidate ids [n] and a scalar k."""
        config = self._encoder.config
        specs = {
            name: tf.TensorSpec((len(config.numbers[name]),), tf.float32, name=name)
            if name in config.numbers
            else tf.TensorSpec((None,), tf.string, name=name)
            for name in USER_TENSORS
        }
        specs |= {
            CANDIDATES: tf.TensorSpec((None,), tf.string, name=CANDIDATES),
            K: tf.TensorSpec((), tf.int64, name=K),
        }
        return traced(self._answer, specs)

    def gap(self, served: Any, samples: Samples) -> float:
        """Largest difference of a score from encoder, trained model and formula; infinite when other items come back."""
        ids = self._shelf.ids[:PROBES]
        inputs = raw_inputs(self._encoder, self._viewer) | {CANDIDATES: np.array([*ids, "no such item"])}
        got = served(
            **{name: tf.constant(value) for name, value in inputs.items()}, **{K: tf.constant(PROBES, tf.int64)}
        )
        found = dict(zip(got["item_ids"].numpy().tolist(), got["scores"].numpy().tolist(), strict=True))
        if set(found) != {one.encode() for one in ids}:
            return math.inf
        tensors = self._encoder.encode(self._shelf.rows[:PROBES], (*ITEM_TENSORS, *STATS_TENSORS))
        tensors |= self._encoder.encode([self._viewer] * len(ids), USER_TENSORS)
        want = self._ranker.probabilities({n: tf.constant(v) for n, v in tensors.items()}).numpy() @ self._weights
        gaps = [abs(found[one.encode()] - float(score)) for one, score in zip(ids, want, strict=True)]
        return max(gaps, default=0.0)

    def _answer(self, given: dict[str, Any]) -> dict[str, Any]:
        tensors = {name: self._encoded(name, given[name]) for name in USER_TENSORS}
        rows = tf.cond(tf.size(given[CANDIDATES]) > 0, lambda: self._known(given[CANDIDATES]), self._live)
        tensors |= self._packing.unpack({name: tf.gather(array, rows) for name, array in self._items.items()})
        scores = tf.linalg.matvec(self._ranker.probabilities(tensors), self._weights)
        k = tf.clip_by_value(given[K], 0, tf.size(scores, tf.int64))
        best = tf.math.top_k(scores, tf.cast(k, tf.int32))
        ids = tf.constant(self._shelf.ids, tf.string, shape=(len(self._shelf.ids),))
        return {"item_ids": tf.gather(ids, tf.gather(rows, best.indices)), "scores": best.values}

    def _known(self, ids: Any) -> Any:
        """Rows of the ids that are on the shelf, each once."""
        found = self._row_of.lookup(ids)
        return tf.unique(tf.boolean_mask(found, found >= 0))[0]

    def _live(self) -> Any:
        return tf.constant(np.flatnonzero(self._shelf.live), tf.int64)

    def _encoded(self, tensor: str, given: Any) -> Any:
        """A user tensor [1, ...] of what was given in words or plain numbers, as the encoder makes it."""
        config = self._encoder.config
        if tensor in config.numbers:
            return self._scaled(given, config.numbers[tensor])
        ids = self._index[config.vocabularies[tensor]].lookup(given)
        length = config.lists[tensor][1] if tensor in config.lists else 1
        padded = tf.pad(ids[:length], [[0, length - tf.shape(ids[:length])[0]]])
        return tf.reshape(padded, [1, length] if tensor in config.lists else [1])

    def _scaled(self, given: Any, features: Mapping[str, str]) -> Any:
        """Numbers [features], NaN for unknown, as float32 [1, features]; in float64 up to there, as the encoder does."""
        numbers = tf.cast(given, tf.float64)
        changed = tf.stack([_CHANGES[how](numbers[place]) for place, how in enumerate(features.values())])
        mean = np.array([self._encoder.mean[feature] for feature in features])
        scale = np.array([self._encoder.scale[feature] for feature in features])
        scaled = (changed - mean) / scale
        known = tf.where(tf.math.is_nan(scaled), tf.zeros_like(scaled), tf.clip_by_value(scaled, -8.0, 8.0))
        return tf.cast(known, tf.float32)[None, :]


def raw_inputs(encoder: Encoder, row: Mapping[str, FeatureValue]) -> dict[str, Tensor]:
    """The viewer's side of a snapshot row as `recommend` takes it: words [n] as text, numbers float32, NaN for none."""
    config = encoder.config
    out: dict[str, Tensor] = {}
    for name in USER_TENSORS:
        if name in config.numbers:
            found = [row.get(feature) for feature in config.numbers[name]]
            out[name] = np.array([math.nan if one is None else one for one in found], np.float32)
        else:
            held: Any = row.get(config.lists[name][0]) if name in config.lists else [row.get(config.words[name])]
            out[name] = np.array([str(word) for word in held or ()], np.str_).reshape(-1)
    return out


def _table(rows: Mapping[str, int], *, absent: int) -> Any:
    """A lookup table of words, `absent` for the others; filled by the SavedModel's initialiser."""
    keys = tf.constant(list(rows), tf.string, shape=(len(rows),))
    values = tf.constant(list(rows.values()), tf.int64, shape=(len(rows),))
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), absent)
