"""Writes what a release serves: two SavedModels, the item index and the encoder; and proves that they answer as trained.

Signatures: two_tower `embed_user`, `embed_item` -> `embedding` [n, d]; ranker `rank` -> `scores` [n, objectives], where
the viewer's tensors have one row or n.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder, Tensor
from registry.manifest import ENCODER, INDEX, RANKER, TWO_TOWER
from training.catalogue import Catalogue
from training.data import Prepared
from training.errors import UnreadableExport
from training.evaluate import Scorers, in_batches
from training.layers import Tensors
from training.ranking import Ranker
from training.tf import tf
from training.two_tower import TwoTower

MODELS = "models"
TOLERANCE = 1e-5  # absolute, between the trained and the reloaded model
PROBES = 64  # rows both are asked
RANK_TENSORS = (*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS)


@dataclass(frozen=True)
class Signature:
    """One served function: its name, the tensors it takes and the tensor it gives."""

    name: str
    inputs: tuple[str, ...]
    output: str
    answer: Callable[[Tensors], Any]


def signatures_of(model: TwoTower | Ranker) -> tuple[Signature, ...]:
    """A model's signatures; the first is also `serving_default`."""
    if isinstance(model, Ranker):
        return (Signature("rank", RANK_TENSORS, "scores", model.probabilities),)
    return (
        Signature("embed_user", USER_TENSORS, "embedding", model.user),
        Signature("embed_item", ITEM_TENSORS, "embedding", model.item),
    )


def export_candidate(out: Path, data: Prepared, catalogue: Catalogue, *, two_tower: TwoTower, ranker: Ranker) -> int:
    """Write models, index and encoder under `out`; returns how many items the index holds.

    UnreadableExport when a reloaded model differs from the trained one or anything written is not a number.
    """
    for name, model in ((TWO_TOWER, two_tower), (RANKER, ranker)):
        export_model(out / MODELS / name, model, data.tensors)
    data.encoder.save(out / ENCODER)
    return write_index(out / INDEX, catalogue, data.encoder, scorers_of(two_tower, ranker))


def export_model(folder: Path, model: TwoTower | Ranker, samples: Mapping[str, Tensor]) -> None:
    """Write one SavedModel, reload it and hold its answers against the model's."""
    signatures = signatures_of(model)
    module = tf.Module(name=folder.name)
    module.kept = list(model.variables)  # variables only: attaching the Keras model would trace its training too
    functions = {s.name: _concrete(s, samples) for s in signatures}
    functions["serving_default"] = functions[signatures[0].name]
    tf.saved_model.save(module, str(folder), signatures=functions)
    verify_export(folder, signatures, samples)


def verify_export(folder: Path, signatures: tuple[Signature, ...], samples: Mapping[str, Tensor]) -> None:
    """UnreadableExport unless the SavedModel in `folder` answers as `signatures` do, in numbers."""
    loaded = load_model(folder)
    for signature in signatures:
        if signature.name not in loaded.signatures:
            raise UnreadableExport(f"the model exported to {folder} has no signature {signature.name!r}")
        probe = {name: tf.constant(samples[name][-PROBES:]) for name in signature.inputs}
        want = signature.answer(probe).numpy()
        got = loaded.signatures[signature.name](**probe)[signature.output].numpy()
        gap = float(np.max(np.abs(want - got)))
        if not gap <= TOLERANCE:  # also when it is not a number
            raise UnreadableExport(
                f"signature {signature.name!r} reloaded from {folder} differs from the trained model by {gap}; "
                f"at most {TOLERANCE} is allowed"
            )


def write_index(path: Path, catalogue: Catalogue, encoder: Encoder, scorers: Scorers) -> int:
    """Write ids, attributes and embeddings of every shown media item; returns how many."""
    shown = np.flatnonzero(catalogue.shown)
    embeddings = in_batches(scorers.embed_item, catalogue.tensors(encoder), shown, ITEM_TENSORS).astype(np.float32)
    if not len(shown) or not np.isfinite(embeddings).all():
        raise UnreadableExport(
            f"item index {path} would hold {len(shown)} items with embeddings that are not all numbers"
        )
    attributes = {name: catalogue.column(name)[shown] for name in ("content_type", "category", "creator_id")}
    arrays: dict[str, Any] = {"item_ids": catalogue.keys[shown], "embeddings": embeddings, **attributes}
    np.savez_compressed(path, **arrays)
    return len(shown)


def scorers_of(two_tower: TwoTower, ranker: Ranker) -> Scorers:
    """The models in memory as evaluation asks them."""
    return Scorers(*(_numpy(call) for call in (two_tower.user, two_tower.item, ranker.probabilities)))


def load_scorers(folder: Path) -> Scorers:
    """The SavedModels of a candidate's folder as evaluation asks them; UnreadableExport when one does not load."""
    towers, ranker = load_model(folder / MODELS / TWO_TOWER), load_model(folder / MODELS / RANKER)
    user, item = (_served(towers, name, "embedding") for name in ("embed_user", "embed_item"))
    return Scorers(user, item, _served(ranker, "rank", "scores"))


def load_model(folder: Path) -> Any:
    """A SavedModel, whose `signatures` work only while it is held; UnreadableExport names the folder."""
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UnreadableExport(f"the model in {folder} does not load: {str(error).splitlines()[0]}") from None


def _served(model: Any, name: str, output: str) -> Callable[[Mapping[str, Tensor]], Tensor]:
    if name not in model.signatures:
        raise UnreadableExport(f"an exported model has no signature {name!r}; it has {', '.join(model.signatures)}")
    # The closure holds `model`, not its signature: a signature alone lets the variables go.
    return lambda tensors: np.asarray(
        model.signatures[name](**{one: tf.constant(value) for one, value in tensors.items()})[output]
    )


def _concrete(signature: Signature, samples: Mapping[str, Tensor]) -> Any:
    """The signature traced for any number of rows, its inputs named."""
    specs = {
        name: tf.TensorSpec((None, *samples[name].shape[1:]), samples[name].dtype, name=name)
        for name in signature.inputs
    }
    # Nothing of ours branches on tensors, and autograph cannot read the source of a lambda.
    call = tf.function(lambda **tensors: {signature.output: signature.answer(tensors)}, autograph=False)
    return call.get_concrete_function(**specs)


def _numpy(call: Any) -> Callable[[Mapping[str, Tensor]], Tensor]:
    graph = tf.function(call, autograph=False, reduce_retracing=True)
    return lambda tensors: np.asarray(graph({name: tf.constant(value) for name, value in tensors.items()}))
