"""What one release pins: line, versions of both models, item index, encoder, formula, and the data that trained them.

On disk a release is a folder `<releases>/<name>/` with manifest.json, encoder.json, packing.json, user_tower.tflite,
index.npz (item ids, embeddings, attributes), neighbours/ and the two SavedModels under models/; `<releases>/live.json` names
the release in traffic.
"""

import hashlib
import json
import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from registry.errors import BadManifest

MANIFEST = "manifest.json"
ENCODER = "encoder.json"
INDEX = "index.npz"
INDEX_FOLDER = "index"  # what is searched, made of index.npz when the release is published
NEIGHBOURS = "neighbours"  # folder, see registry.neighbours; releases made before it have none
LIVE = "live.json"
TWO_TOWER, RANKER = "two_tower", "ranker"
# One score from the objectives: sum of weight x probability. A formula is configuration and part of the release.
DEFAULT_FORMULA: dict[str, float] = {"click": 1.0, "completion": 1.0, "like": 1.0}


class Manifest(Struct, frozen=True, kw_only=True):
    """A release, by value."""

    line: str
    version: int  # of both served models: `models/<two_tower|ranker>/<version>/`
    created_at: str  # ISO 8601, UTC
    objectives: tuple[str, ...]
    formula: dict[str, Any]  # as registry.formula reads it
    tables: dict[str, int]  # offline table -> version (time travel) that trained it
    metrics: dict[str, float]
    dials: dict[str, dict[str, float | int | str | bool]]  # training configurations, whole
    mlflow_run: str = ""
    data_until: str = ""  # ISO 8601 event time of the newest training sample
    artefacts: dict[str, str] = {}  # file in the folder -> SHA-256; empty in releases made before there were any

    @property
    def name(self) -> str:
        """Folder and log name of the release."""
        return f"{self.line}-{self.version}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into a release folder."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def read_manifest(folder: Path) -> Manifest:
    """Read a release folder's manifest; BadManifest names the file."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadManifest(f"release manifest {path} cannot be read: {error}") from None


def checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of those files by their path within the folder: a manifest's `artefacts`."""
    out = {}
    for file in files:
        with file.open("rb") as body:
            out[file.relative_to(folder).as_posix()] = hashlib.file_digest(body, "sha256").hexdigest()
    return out


def check_artefacts(folder: Path, manifest: Manifest, *, only: Container[str] | None = None) -> None:
    """BadManifest unless every artefact, or of some only those, is in the folder as it was written; reads them whole."""
    vouched = {name: sum_ for name, sum_ in manifest.artefacts.items() if only is None or name in only}
    try:
        found = checksums(folder, [folder / name for name in vouched])
    except OSError as error:
        raise BadManifest(f"release {manifest.name} lacks an artefact: {error}") from None
    for name, wanted in vouched.items():
        if found[name] != wanted:
            raise BadManifest(f"artefact {name} of release {manifest.name} is not what its manifest says was written")


def point_live(releases: Path, labels: Mapping[str, str]) -> None:
    """Name the releases in traffic by label (`stable`, later `canary`), atomically."""
    scratch = releases / f".{LIVE}.{os.getpid()}"
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(dict(labels), file)
        file.flush()
        os.fsync(file.fileno())  # a machine that loses power must not leave an empty file under the name
    scratch.replace(releases / LIVE)


def read_live(releases: Path) -> dict[str, str]:
    """Releases in traffic by label; empty before the first deployment."""
    try:
        body = json.loads((releases / LIVE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadManifest(f"{releases / LIVE} cannot be read: {error}") from None
    if not isinstance(body, dict) or not all(isinstance(name, str) for name in body.values()):
        raise BadManifest(f"{releases / LIVE} cannot be read: it holds no object of releases by label")
    return body
