"""Releases to hold against a trained one; how each is made says what it must do.

A twin orders every page as the release does; backwards shows first what would be clicked least. Two wrap the trained ranker
in a SavedModel of their own: a blind one draws its scores, a narrow one thinks little of whatever is in one language.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from features.encoder import Encoder
from features.packing import PACKING, Packing
from registry.manifest import ENCODER, RANKER, read_manifest, write_manifest
from release.variant import make_variant

LEFT = 0.02  # of the probabilities of what the narrow ranker thinks little of
LANGUAGE, SCORES = "language", "scores"
Tensors = Mapping[str, Any]
Change = Callable[[Any, Tensors, Any], Any]  # of TensorFlow, the encoder's tensors and the scores [n, objectives]


def twin(release: Path, *, line: str, into: Path) -> Path:
    """A variant whose formula is the release's doubled: the same order of everything."""
    formula = {name: 2.0 * float(weight) for name, weight in read_manifest(release).formula.items()}
    return make_variant(release, line=line, formula=formula, into=into)


def narrow(release: Path, *, line: str, version: int, language: str, into: Path) -> Path:
    """A candidate of a new version whose ranker gives items of that language LEFT of what they would get.

    KeyError when the release's encoder does not know the language.
    """
    encoder = Encoder.load(release / ENCODER)
    code = encoder.vocabulary[encoder.config.vocabularies[LANGUAGE]][language]

    def change(tf: Any, tensors: Tensors, scores: Any) -> Any:
        disliked = tf.equal(tf.cast(tensors[LANGUAGE], tf.int64), code)
        return scores * tf.where(disliked, LEFT, 1.0)[:, None]

    return wrapped(release, change, line=line, version=version, into=into)


def blind(release: Path, *, line: str, version: int, into: Path) -> Path:
    """A candidate of a new version whose ranker draws every score, anew for a viewer whenever an item's numbers move."""
    return wrapped(release, _drawn, line=line, version=version, into=into)


def _drawn(tf: Any, tensors: Tensors, scores: Any) -> Any:
    """Uniform-looking numbers in [0, 1) in place of the scores, a function of viewer, item and its counts."""
    key, viewer = (tf.cast(tensors[name], tf.float32) for name in ("item_key", "user_id"))
    mixed = 12.9898 * key + 78.233 * viewer + 37.719 * tf.reduce_sum(tensors["item_num"], axis=1)
    drawn = tf.math.floormod(43_758.547 * tf.sin(mixed), 1.0)
    return tf.zeros_like(scores) + drawn[:, None]


def wrapped(release: Path, change: Change, *, line: str, version: int, into: Path) -> Path:
    """The candidate `<into>/<line>-<version>`: the release with `change` around its ranker; again is harmless."""
    target = into / f"{line}-{version}"
    if target.exists():
        return target
    draft = into / f".draft-{target.name}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(release, draft, ignore=lambda folder, _: [RANKER] if Path(folder).name == "models" else [])
    wrap_ranker(release / "models" / RANKER, draft / "models" / RANKER, change, Packing.load(release / PACKING))
    manifest = read_manifest(release)
    write_manifest(draft, msgspec.structs.replace(manifest, line=line, version=version, mlflow_run=""))
    draft.rename(target)
    return target


def wrap_ranker(source: Path, target: Path, change: Change, packing: Packing) -> None:
    """Write a SavedModel that asks the one in `source` and answers what `change` makes of it; `rank` and `rank_packed`."""
    from training.serving_signatures import traced  # TensorFlow, which takes seconds to import
    from training.tf import tf

    inner = tf.saved_model.load(str(source))
    named: dict[str, Callable[[dict[str, Any]], Tensors]] = {"rank": dict, "rank_packed": packing.unpack}

    def changed(name: str) -> Any:
        ask, tensors = inner.signatures[name], named[name]
        specs = ask.structured_input_signature[1]
        return traced(
            lambda given: {SCORES: change(tf, tensors(given), ask(**given)[SCORES])},
            {one: tf.TensorSpec(spec.shape, spec.dtype, name=one) for one, spec in specs.items()},
        )

    module = tf.Module(name="wrapped")
    module.inner = inner  # its variables are saved with the wrapper
    signatures = {name: changed(name) for name in named if name in inner.signatures}
    tf.saved_model.save(module, str(target), signatures={**signatures, "serving_default": signatures["rank"]})
