"""Puts a candidate where proxy and model server read: copied beside its place, then renamed: never seen in part."""

import os
import shutil
from pathlib import Path

import msgspec

from registry.errors import RegistryError
from registry.manifest import Manifest, read_manifest
from release.errors import BadCandidate, CannotPublish
from release.model_config import SERVED
from serving.errors import ReleaseRefused
from serving.release_store import LoadedRelease, load_release

SAVED_MODEL = "saved_model.pb"


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

    BadCandidate when it is not whole, or another candidate has its name or version.
    """
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
        _copy(candidate / "models" / model, place)
    _copy(candidate, target)
    return manifest


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


def _copy(source: Path, target: Path) -> None:
    """Copy a folder under a name nobody reads (not a number, hidden), then rename; nothing where the target is."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".draft-{target.name}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(source, draft)
        draft.rename(target)
    except OSError as error:
        raise CannotPublish(f"{source} could not be copied to {target}: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
