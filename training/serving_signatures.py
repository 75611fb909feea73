"""The functions that a release's SavedModels serve, each traced for export and each able to say how far a copy is off.

`rank`, `embed_user`, `embed_item` take the encoder's tensors by name; `rank_packed` and `embed_user_packed` take the same in
two or four arrays (features/packing.py), for one viewer, whose side is then computed once: 2.4 times less CPU at 500
candidates (0.54 ms against 1.30) and a quarter fewer bytes. training/recommend.py adds `recommend` for clients without an
encoder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from features.definitions import AUDIT_ONLY
from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, Tensor
from features.packing import DTYPES, ITEM_ARRAYS, USER_ARRAYS, Packing
from training.errors import AuditOnlyInput
from training.layers import Tensors
from training.ranking import Ranker
from training.tf import tf
from training.two_tower import TwoTower

RANK_TENSORS = (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS)
PROBES = 64  # rows both the trained and the reloaded model are asked
Samples = Mapping[str, Tensor]


class Served(Protocol):
    """One function of a SavedModel."""

    @property
    def name(self) -> str:
        """Name of the signature."""
        ...

    @property
    def kept(self) -> tuple[Any, ...]:
        """Tables and variables beyond the model's that must be saved with it."""
        ...

    def concrete(self, samples: Samples) -> Any:
        """The function traced for any number of rows, its inputs named."""
        ...

    def gap(self, served: Any, samples: Samples) -> float:
        """Largest difference between a reloaded signature's answer and the trained model's, on sample rows."""
        ...


@dataclass(frozen=True)
class Signature:
    """A function of the encoder's tensors by name."""

    name: str
    inputs: tuple[str, ...]
    output: str
    answer: Callable[[Tensors], Any]
    kept: tuple[Any, ...] = ()

    def concrete(self, samples: Samples) -> Any:
        """The function traced for any number of rows, its inputs named."""
        specs = {
            name: tf.TensorSpec((None, *samples[name].shape[1:]), samples[name].dtype, name=name)
            for name in self.inputs
        }
        return traced(lambda tensors: {self.output: self.answer(tensors)}, specs)

    def gap(self, served: Any, samples: Samples) -> float:
        """Largest difference on the last sample rows."""
        probe = {name: tf.constant(samples[name][-PROBES:]) for name in self.inputs}
        return largest(served(**probe)[self.output].numpy(), self.answer(probe).numpy())


@dataclass(frozen=True)
class PackedSignature:
    """The same function of packed arrays; the user's arrays have one row where the items' come too."""

    name: str
    whole: Signature
    packing: Packing
    arrays: tuple[str, ...]
    kept: tuple[Any, ...] = ()

    def concrete(self, samples: Samples) -> Any:
        """The function traced for any number of items, or of users where these come alone."""
        specs = {name: tf.TensorSpec((self._rows(name), self.packing.width(name)), DTYPES[name], name=name)
                 for name in self.arrays}  # fmt: skip
        return traced(lambda arrays: {self.whole.output: self.whole.answer(self.packing.unpack(arrays))}, specs)

    def gap(self, served: Any, samples: Samples) -> float:
        """Largest difference from the function of named tensors, where the one viewer's row is repeated."""
        probe = {name: samples[name][-PROBES:] for name in self.whole.inputs}
        if self._rows(USER_ARRAYS[0]) == 1:
            rows = len(next(iter(probe.values())))
            probe |= {name: np.repeat(probe[name][-1:], rows, axis=0) for name in USER_TENSORS}
        packed = self.packing.pack_user({name: probe[name][: self._rows(USER_ARRAYS[0])] for name in USER_TENSORS})
        if ITEM_ARRAYS[0] in self.arrays:
            packed |= self.packing.pack_items(probe)
        got = served(**{name: tf.constant(value) for name, value in packed.items()})[self.whole.output].numpy()
        return largest(got, self.whole.answer({name: tf.constant(value) for name, value in probe.items()}).numpy())

    def _rows(self, array: str) -> int | None:
        """Rows an array always has; None for any number."""
        return 1 if array in USER_ARRAYS and ITEM_ARRAYS[0] in self.arrays else None


def signatures_of(model: TwoTower | Ranker, packing: Packing | None = None) -> tuple[Served, ...]:
    """A model's signatures, with a packing also the packed ones; the first is also `serving_default`."""
    named: tuple[Signature, ...]
    if isinstance(model, Ranker):
        named = (Signature("rank", RANK_TENSORS, "scores", model.probabilities),)
    else:
        named = (
            Signature("embed_user", USER_TENSORS, "embedding", model.user),
            Signature("embed_item", ITEM_TENSORS, "embedding", model.item),
        )
    if packing is None:
        return named
    arrays = (*USER_ARRAYS, *ITEM_ARRAYS) if isinstance(model, Ranker) else USER_ARRAYS
    return (*named, PackedSignature(f"{named[0].name}_packed", named[0], packing, arrays))


def traced(call: Callable[[dict[str, Any]], dict[str, Any]], specs: Mapping[str, Any]) -> Any:
    """A function of named tensors as a graph with named inputs; never compiled by XLA, which the real server leaves off."""
    # Nothing of ours branches on tensors, and autograph cannot read the source of a lambda.
    return tf.function(lambda **tensors: call(tensors), autograph=False).get_concrete_function(**specs)


def largest(got: Tensor, want: Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    return float(np.max(np.abs(got - want), initial=0.0))


def inputs_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """The inputs of a SavedModel's signatures by signature, as its file names them; nothing is loaded."""
    from tensorflow.core.protobuf import saved_model_pb2

    body = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    found = {name: s.inputs for graph in body.meta_graphs for name, s in graph.signature_def.items()}
    return {name: tuple(sorted(found[name])) for name in sorted(found) if not name.startswith("__")}


def refuse_audit_only(encoder: Encoder, models: Mapping[str, Path]) -> None:
    """AuditOnlyInput when the encoder or a signature of the exported models reads what only the audit may."""
    config = encoder.config
    numbers = (feature for features in config.numbers.values() for feature in features)
    read = {"the encoder": {*config.words.values(), *(feature for feature, _ in config.lists.values()), *numbers}}
    for model, folder in models.items():
        read |= {f"signature {name} of {model}": set(inputs) for name, inputs in inputs_of(folder).items()}
    for reader, names in read.items():
        banned = sorted(name for name in names if any(word in name for word in AUDIT_ONLY))
        if banned:
            raise AuditOnlyInput(f"{reader} reads {banned[0]}, which serves the audit alone; no model may see it")
