"""The release in traffic: watches live.json, loads a release whole or refuses it and keeps the old one."""

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from events.schema import FeatureValue
from features.encoder import USER_TENSORS, Encoder
from features.errors import FeaturesError
from features.packing import PACKING, Packing
from features.user_tower import USER_TOWER, UserTower
from registry.errors import BadFormula, RegistryError
from registry.formula import Formula, parse
from registry.manifest import (
    ENCODER,
    INDEX,
    INDEX_FOLDER,
    LIVE,
    NEIGHBOURS,
    Manifest,
    check_artefacts,
    read_live,
    read_manifest,
)
from serving.errors import ReleaseRefused
from serving.exact import Exact
from serving.index import Index
from serving.index_file import CARD, open_index
from serving.models import Tensors
from serving.neighbours import Neighbours
from serving.trial import try_inputs

SLICE = 8_192  # ids at once: a millisecond in which nothing else runs
RETRY_S, MOST_RETRY_S = 5.0, 60.0  # wall seconds until what was refused is tried again, twice as long each time
# What numpy raises for a file that is no archive, or of which a part is missing or wrong.
UNREADABLE = (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error)


@dataclass(frozen=True)
class LoadedRelease:
    """Everything of one release that must agree; a request uses one from start to end."""

    name: str
    manifest: Manifest
    encoder: Encoder
    item_ids: Sequence[str]  # by row of the index
    kinds: tuple[str, ...]  # content type by row of the index; empty when the release does not say
    index: Index
    row_of: Mapping[str, int]
    formula: Formula
    neighbours: Neighbours
    packing: Packing | None = None  # of the ranker's inputs; None: by named tensors
    user_tower: UserTower | None = None  # None: the model server is asked for a viewer's embedding

    def encode_user(self, shared: Mapping[str, FeatureValue]) -> Tensors:
        """The viewer as its models take her, out of what is the same for every candidate of a request."""
        named = self.encoder.encode([shared], USER_TENSORS)
        return named if self.packing is None else self.packing.pack_user(named)


def load_release(folder: Path) -> LoadedRelease:
    """Read manifest, encoder, index and neighbours of a release folder; ReleaseRefused names what does not fit."""
    try:
        manifest = read_manifest(folder)
        encoder = Encoder.load(folder / ENCODER)
    except (RegistryError, FeaturesError) as error:
        raise ReleaseRefused(str(error)) from None
    item_ids, kinds, index = _read_index(folder)
    try:
        formula = parse(manifest.formula, manifest.objectives)
    except BadFormula as error:
        raise ReleaseRefused(f"release {folder.name}: {error}") from None
    row_of = _rows(item_ids)
    if len(row_of) != len(item_ids):
        raise ReleaseRefused(f"release {folder.name}: its index names an item twice")
    neighbours = Neighbours.open(folder / NEIGHBOURS, item_ids=item_ids)
    packing = _read_packing(folder / PACKING)
    try:
        try_inputs(encoder, packing)
    except ReleaseRefused as error:
        raise ReleaseRefused(f"release {folder.name}: {error}") from None
    tower = _read_user_tower(folder, manifest, packing, index.width)
    return LoadedRelease(
        manifest.name, manifest, encoder, item_ids, kinds, index, row_of, formula, neighbours, packing, tower
    )  # fmt: skip


def _read_packing(path: Path) -> Packing | None:
    """How inputs are packed; None in releases made before there was a packing."""
    try:
        return Packing.load(path) if path.exists() else None
    except FeaturesError as error:
        raise ReleaseRefused(str(error)) from None


def _read_user_tower(folder: Path, manifest: Manifest, packing: Packing | None, width: int) -> UserTower | None:
    """The viewer's side of the two-tower; None in releases that leave it to the model server.

    It is held against its checksum first: what a disk has changed in it may give other embeddings and no error.
    """
    path = folder / USER_TOWER
    try:
        check_artefacts(folder, manifest, only={USER_TOWER})
        if packing is None or not path.exists():
            return None
        tower = UserTower(path, packing)
    except (RegistryError, FeaturesError) as error:
        raise ReleaseRefused(str(error)) from None
    if tower.width != width:
        raise ReleaseRefused(f"user tower {path} gives embeddings of {tower.width} numbers for an index of {width}")
    return tower


def _rows(item_ids: Sequence[str]) -> Mapping[str, int]:
    """Row by id, made in slices: a request must not wait for millions."""
    out: dict[str, int] = {}
    for start in range(0, len(item_ids), SLICE):
        some = item_ids[start : start + SLICE]
        out.update(zip(some, range(start, start + len(some)), strict=True))
    return MappingProxyType(out)


def _read_index(folder: Path) -> tuple[Sequence[str], tuple[str, ...], Index]:
    """Ids and content types out of index.npz, and what was made of its embeddings at publication, if it was."""
    path, made = folder / INDEX, (folder / INDEX_FOLDER / CARD).is_file()
    try:
        with np.load(path, allow_pickle=False) as body:
            item_ids = _words(body["item_ids"])
            kinds = _words(body["content_type"]) if "content_type" in body.files else ()
            embeddings = None if made else np.ascontiguousarray(body["embeddings"], np.float32)
    except UNREADABLE as error:
        raise ReleaseRefused(f"item index {path} cannot be read: {error}") from None
    if embeddings is not None and (embeddings.ndim != 2 or len(item_ids) != len(embeddings)):
        raise ReleaseRefused(f"item index {path} has {len(item_ids)} ids for embeddings of shape {embeddings.shape}")
    if embeddings is not None and not np.isfinite(embeddings).all():
        raise ReleaseRefused(f"item index {path} holds embeddings that are not numbers")
    index: Index = open_index(folder / INDEX_FOLDER, check=False) if embeddings is None else Exact(embeddings)
    if index.rows != len(item_ids):
        raise ReleaseRefused(f"item index {folder / INDEX_FOLDER} has {index.rows} rows for {len(item_ids)} ids")
    if kinds and len(kinds) != len(item_ids):
        raise ReleaseRefused(f"item index {path} has {len(kinds)} content types for {len(item_ids)} ids")
    return item_ids, kinds, index


def _words(column: npt.NDArray[np.str_]) -> tuple[str, ...]:
    out: list[str] = []
    for start in range(0, len(column), SLICE):
        out += column[start : start + SLICE].tolist()
    return tuple(out)


class ReleaseStore:
    """Follows `<releases>/live.json`; `poll` is called by one background thread, `current` by any."""

    def __init__(self, releases: Path, *, report: Callable[[str], None]) -> None:
        self._releases = releases
        self._report = report
        self._stamp: tuple[int, int] | None = None
        self._wait_s = RETRY_S
        self._again_at = 0.0  # monotonic seconds from when on what was refused is tried again
        self._said = ""
        self._not_loaded = ""
        self.current: Mapping[str, LoadedRelease] = {}  # by label
        self.unusable: Mapping[str, str] = {}  # why a release that was loaded is not used, by its name

    @property
    def refused(self) -> str:
        """Why a release that live.json names is not the one in use; empty when all are."""
        return "; ".join(filter(None, (self._not_loaded, *self.unusable.values())))

    def look_again(self) -> None:
        """Try what was refused at the next poll, without waiting."""
        self._again_at, self._wait_s = 0.0, RETRY_S

    def poll(self) -> Mapping[str, LoadedRelease]:
        """Load what live.json names if it changed or was refused a while ago; what cannot be loaded leaves the old one."""
        stamp = _stamp(self._releases / LIVE)
        if stamp == self._stamp and not (self._not_loaded and time.monotonic() >= self._again_at):
            return self.current
        refused = []
        try:
            named = read_live(self._releases)
        except RegistryError as error:
            named, refused = {label: held.name for label, held in self.current.items()}, [str(error)]
        found: dict[str, LoadedRelease] = {}
        for label, name in named.items():
            try:
                found[label] = self._held(name) or load_release(self._releases / name)
            except Exception as error:  # noqa: BLE001  whatever is wrong with one release holds up no other
                refused.append(f"{label}: {error if isinstance(error, ReleaseRefused) else repr(error)}")
                if label in self.current:
                    found[label] = self.current[label]
        self._wait_s = min(2 * self._wait_s, MOST_RETRY_S) if stamp == self._stamp else RETRY_S
        self.current, self._not_loaded, self._stamp = found, "; ".join(refused), stamp
        self._again_at = time.monotonic() + self._wait_s
        in_use = ", ".join(f"{held.name} as {label}" for label, held in sorted(found.items())) or "none"
        said = f"in traffic: {in_use}" + (f"; refused: {self._not_loaded}" if refused else "")
        if said != self._said:
            self._said = said
            self._report(said)
        return found

    def _held(self, name: str) -> LoadedRelease | None:
        return next((held for held in self.current.values() if held.name == name), None)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells two writings of a file apart: every one is a new file renamed into place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
