"""Writes what a release serves: two SavedModels, the item index and the encoder; and proves that they answer as trained.

Signatures: two_tower `embed_user`, `embed_item` -> `embedding` [n, d]; ranker `rank` -> `scores` [n, objectives], where
the viewer's tensors have one row or n. `embed_user_packed` and `rank_packed` take the same in few arrays, and the ranker's
`recommend` gives ids for a viewer's features in words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from events.schema import FeatureValue
from features.encoder import ITEM_TENSORS, USER_TENSORS, Tensor
from features.packing import PACKING, packing_of
from features.user_tower import USER_TOWER
from registry.manifest import ENCODER, INDEX, RANKER, TWO_TOWER
from training.catalogue import Catalogue
from training.data import Prepared
from training.errors import UnreadableExport
from training.evaluate import Answer, Scorers, in_batches
from training.progress import Report, silent
from training.ranking import Ranker
from training.recommend import Recommend
from training.serving_signatures import PROBES, Served, refuse_audit_only, signatures_of
from training.shelf import Shelf
from training.tf import tf
from training.two_tower import TwoTower
from training.user_tower import write_user_tower

MODELS = "models"
QUERIES = 512
TOLERANCE = 1e-5  # absolute, between the trained and the reloaded model


@dataclass(frozen=True)
class Offer:
    """What `recommend` needs beyond the models: items, the formula's weights [objectives], a viewer to prove it on."""

    shelf: Shelf
    weights: Sequence[float]
    viewer: Mapping[str, FeatureValue]


def export_candidate(
    out: Path, data: Prepared, catalogue: Catalogue, *, two_tower: TwoTower, ranker: Ranker, offer: Offer,
    report: Report = silent,
) -> int:  # fmt: skip
    """Write models, index, encoder, packing and user tower under `out`; returns how many items the index holds.

    UnreadableExport when a reloaded model differs from the trained one or anything written is not a number; AuditOnlyInput
    when something reads what only the audit may.
    """
    packing = packing_of(data.encoder.config)
    recommend = Recommend(
        ranker, data.encoder, offer.shelf, packing=packing, weights=offer.weights, viewer=offer.viewer
    )  # fmt: skip
    models = out / MODELS
    export_model(models / TWO_TOWER, two_tower, data.tensors, signatures=signatures_of(two_tower, packing))
    export_model(models / RANKER, ranker, data.tensors, signatures=(*signatures_of(ranker, packing), recommend))
    data.encoder.save(out / ENCODER)
    packing.save(out / PACKING)
    viewers = packing.pack_user({name: data.tensors[name][-PROBES:] for name in USER_TENSORS})
    if without := write_user_tower(out / USER_TOWER, models / TWO_TOWER, packing, viewers=viewers):
        report("export", 0, 1, without)
    refuse_audit_only(data.encoder, {name: models / name for name in (TWO_TOWER, RANKER)})
    return write_index(out / INDEX, catalogue, data, scorers_of(two_tower, ranker))


def export_model(
    folder: Path, model: TwoTower | Ranker, samples: Mapping[str, Tensor], *, signatures: Sequence[Served]
) -> None:
    """Write one SavedModel, reload it and hold its answers against the model's."""
    module = tf.Module(name=model.name)
    # Variables and tables only: attaching the Keras model would trace its training too.
    module.kept = [*model.variables, *(kept for signature in signatures for kept in signature.kept)]
    functions = {s.name: s.concrete(samples) for s in signatures}
    functions["serving_default"] = functions[signatures[0].name]
    tf.saved_model.save(module, str(folder), signatures=functions)
    verify_export(folder, signatures, samples)


def verify_export(folder: Path, signatures: Sequence[Served], samples: Mapping[str, Tensor]) -> None:
    """UnreadableExport unless the SavedModel in `folder` answers as `signatures` do, in numbers."""
    loaded = load_model(folder)
    for signature in signatures:
        if signature.name not in loaded.signatures:
            raise UnreadableExport(f"the model exported to {folder} has no signature {signature.name!r}")
        gap = signature.gap(loaded.signatures[signature.name], samples)
        if not gap <= TOLERANCE:  # also when it is not a number
            raise UnreadableExport(
                f"signature {signature.name!r} reloaded from {folder} differs from the trained model by {gap}; "
                f"at most {TOLERANCE} is allowed"
            )


def write_index(path: Path, catalogue: Catalogue, data: Prepared, scorers: Scorers) -> int:
    """Write ids, attributes and embeddings of every shown media item; returns how many.

    `queries` beside them are viewers' embeddings of the test period: what an approximate index is tuned on.
    """
    shown, encoder = np.flatnonzero(catalogue.shown), data.encoder
    embeddings = in_batches(scorers.embed_item, catalogue.tensors(encoder), shown, ITEM_TENSORS).astype(np.float32)
    queries = in_batches(scorers.embed_user, data.tensors, data.test[-QUERIES:], USER_TENSORS).astype(np.float32)
    if not len(shown) or not np.isfinite(embeddings).all():
        raise UnreadableExport(
            f"item index {path} would hold {len(shown)} items with embeddings that are not all numbers"
        )
    attributes = {name: catalogue.column(name)[shown] for name in ("content_type", "category", "creator_id")}
    arrays: dict[str, Any] = {"item_ids": catalogue.keys[shown], "embeddings": embeddings, "queries": queries}
    arrays |= attributes
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


def load_ranker(folder: Path) -> Answer:
    """The ranker alone of a candidate's or release's folder; UnreadableExport when it does not load."""
    return _served(load_model(folder / MODELS / RANKER), "rank", "scores")


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


def _numpy(call: Any) -> Callable[[Mapping[str, Tensor]], Tensor]:
    graph = tf.function(call, autograph=False, reduce_retracing=True)
    return lambda tensors: np.asarray(graph({name: tf.constant(value) for name, value in tensors.items()}))
