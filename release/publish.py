"""Puts a candidate where proxy and model server read: copied beside its place, then renamed: never seen in part.

What only traffic needs is made here, in the copy: the index that is searched, and the requests that warm the models up.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from registry.errors import RegistryError
from registry.manifest import INDEX, INDEX_FOLDER, Manifest, check_artefacts, read_manifest
from release.errors import BadCandidate, CannotPublish
from release.model_config import SERVED
from release.warmup import SAVED_MODEL, write_warmup
from serving.errors import BadQuery, ReleaseRefused
from serving.index import Matrix
from serving.index_file import CARD, IndexDials, make_index, write_index
from serving.release_store import UNREADABLE, LoadedRelease, load_release

QUERIES = 1_000  # stand-ins for viewers, where the candidate brings no viewers' embeddings


def check(folder: Path) -> LoadedRelease:
    """Load a candidate or release folder whole; BadCandidate says what it lacks."""
    try:
        loaded = load_release(folder)
    except ReleaseRefused as error:
        raise BadCandidate(str(error)) from None
    for model in SERVED:
        if not (folder / "models" / model / SAVED_MODEL).is_file():
            raise BadCandidate(f"release folder {folder} has no models/{model}/{SAVED_MODEL}")
    return loaded


def publish(candidate: Path, *, releases: Path, models: Path) -> Manifest:
    """Copy a candidate to `<releases>/<name>` and its models to `<models>/<model>/<version>`; again is harmless.

    BadCandidate when it is not whole or not what its training wrote, or another candidate has its name or version.
    """
    try:
        check_artefacts(candidate, read_manifest(candidate))  # before anything of it is loaded
    except RegistryError as error:
        raise BadCandidate(str(error)) from None
    manifest = check(candidate).manifest
    target = releases / manifest.name
    if target.exists() and not _same(target, manifest):
        raise BadCandidate(
            f"release {manifest.name} is published already and is not this candidate; train a new version"
        )
    for model in SERVED:
        place = models / model / str(manifest.version)
        if place.exists() and not target.exists():
            _refuse_foreign(place, candidate / "models" / model)
        _copy(candidate / "models" / model, place, finish=_warmed)
    _copy(candidate, target, finish=_indexed)
    return manifest


def _warmed(model: Path) -> None:
    write_warmup(model)


def _indexed(release: Path) -> None:
    """Make `index/` of index.npz; a candidate that brings its own keeps it.

    It is tuned on `queries` of index.npz, viewers' embeddings f32[q, D], and without them on stand-ins.
    """
    folder = release / INDEX_FOLDER
    if (folder / CARD).is_file():
        return
    try:
        with np.load(release / INDEX, allow_pickle=False) as body:
            embeddings = np.ascontiguousarray(body["embeddings"], np.float32)
            queries = (
                np.ascontiguousarray(body["queries"], np.float32) if "queries" in body.files else _stand_ins(embeddings)
            )
    except UNREADABLE as error:
        raise BadCandidate(f"item index {release / INDEX} cannot be read: {error}") from None
    try:
        index, card = make_index(embeddings, queries, IndexDials())
    except BadQuery as error:
        raise BadCandidate(f"no index can be made of the candidate's embeddings: {error}") from None
    folder.mkdir()
    write_index(folder, index, card)


def _stand_ins(embeddings: Matrix) -> Matrix:
    """Queries f32[q, D] of length 1: items drawn at random, every other one blended with a second: a viewer of two tastes."""
    rng = np.random.default_rng(IndexDials().seed)
    one, other = rng.integers(len(embeddings), size=(2, min(QUERIES, len(embeddings))))
    found = embeddings[one]
    found[::2] += embeddings[other[::2]]
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.ascontiguousarray(found / np.where(lengths > 0.0, lengths, 1.0), np.float32)


def _same(target: Path, manifest: Manifest) -> bool:
    """Whether the published release is this candidate; its MLflow run may have been noted since."""
    try:
        held = read_manifest(target)
    except RegistryError as error:
        raise BadCandidate(str(error)) from None
    return msgspec.structs.replace(held, mlflow_run="") == msgspec.structs.replace(manifest, mlflow_run="")


def _refuse_foreign(place: Path, source: Path) -> None:
    """A version folder without its release: left by a broken-off publish of this candidate, or another line's."""
    if (place / SAVED_MODEL).read_bytes() != (source / SAVED_MODEL).read_bytes():
        raise BadCandidate(f"version folder {place} belongs to another release; train under a new version")


def _copy(source: Path, target: Path, *, finish: Callable[[Path], None]) -> None:
    """Copy a folder under a name nobody reads (not a number, hidden), finish it, then rename; nothing where the target is.

    It is on the disk before it has its name: a machine that loses power must not leave half of one under it.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".draft-{target.name}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(source, draft)
        finish(draft)
        for path in (*draft.rglob("*"), draft):
            _keep(path)
        draft.rename(target)
        _keep(target.parent)
    except OSError as error:
        raise CannotPublish(f"{source} could not be copied to {target}: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _keep(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
