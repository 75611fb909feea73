"""The release in traffic: watches live.json, loads a release whole or refuses it and keeps the old one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from features.encoder import Encoder
from features.errors import FeaturesError
from registry.errors import RegistryError
from registry.manifest import ENCODER, INDEX, LIVE, Manifest, read_live, read_manifest
from serving.errors import ReleaseRefused
from serving.feed import STABLE
from serving.models import Matrix


@dataclass(frozen=True)
class LoadedRelease:
    """Everything of one release that must agree; a request uses one from start to end."""

    name: str
    manifest: Manifest
    encoder: Encoder
    item_ids: tuple[str, ...]
    embeddings: Matrix  # [n, D], rows in the order of item_ids
    row_of: Mapping[str, int]
    weights: tuple[float, ...]  # the formula, in the order of manifest.objectives


def load_release(folder: Path) -> LoadedRelease:
    """Read manifest, encoder and index of a release folder; ReleaseRefused names what does not fit."""
    try:
        manifest = read_manifest(folder)
        encoder = Encoder.load(folder / ENCODER)
    except (RegistryError, FeaturesError) as error:
        raise ReleaseRefused(str(error)) from None
    item_ids, embeddings = _read_index(folder / INDEX)
    weights = tuple(float(manifest.formula.get(objective, 0.0)) for objective in manifest.objectives)
    if not any(weights):
        raise ReleaseRefused(
            f"release {folder.name}: its formula {manifest.formula} weighs none of its objectives {manifest.objectives}"
        )
    row_of = MappingProxyType({item_id: row for row, item_id in enumerate(item_ids)})
    if len(row_of) != len(item_ids):
        raise ReleaseRefused(f"release {folder.name}: its index names an item twice")
    return LoadedRelease(manifest.name, manifest, encoder, item_ids, embeddings, row_of, weights)


def _read_index(path: Path) -> tuple[tuple[str, ...], Matrix]:
    try:
        with np.load(path, allow_pickle=False) as body:
            item_ids, embeddings = body["item_ids"], np.ascontiguousarray(body["embeddings"], np.float32)
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise ReleaseRefused(f"item index {path} cannot be read: {error}") from None
    if embeddings.ndim != 2 or len(item_ids) != len(embeddings):
        raise ReleaseRefused(f"item index {path} has {len(item_ids)} ids for embeddings of shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise ReleaseRefused(f"item index {path} holds embeddings that are not numbers")
    return tuple(str(one) for one in item_ids), embeddings


class ReleaseStore:
    """Follows `<releases>/live.json`; `poll` is called by one background thread, `current` by any."""

    def __init__(self, releases: Path, *, report: Callable[[str], None]) -> None:
        self._releases = releases
        self._report = report
        self._stamp: tuple[int, int] | None = None
        self.current: LoadedRelease | None = None
        self.refused = ""  # why the release that live.json names is not the one in use; empty when it is

    def poll(self) -> LoadedRelease | None:
        """Load what live.json names if it changed; a release that cannot be loaded leaves the old one in place."""
        stamp = _stamp(self._releases / LIVE)
        if stamp == self._stamp:
            return self.current
        try:
            name = read_live(self._releases).get(STABLE)
            self.current = load_release(self._releases / name) if name else None
            self.refused = ""
            self._report(f"release in use: {name or 'none'}")
        except (RegistryError, ReleaseRefused) as error:
            self.refused = str(error)
            self._report(f"release refused, {self.current.name if self.current else 'none'} stays in use: {error}")
        self._stamp = stamp
        return self.current


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells two writings of a file apart: every one is a new file renamed into place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
