"""Asks the model server whether a release is there, answers as its manifest says, and answers under its label."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
from features.errors import FeaturesError
from features.packing import USER_IDS
from features.user_tower import UserTower
from registry.manifest import RANKER, TWO_TOWER
from release.errors import NotServed
from release.model_config import SERVED
from serving.errors import ModelRefused, ModelUnavailable
from serving.models import Tensors
from serving.release_store import LoadedRelease
from serving.wire import VersionStatus

EVERY_S = 0.1
SMOKE_ITEMS = 3
FAR = 1e-4  # absolute, in a number of an embedding of length 1: another model, not another processor
SIGNATURE = {TWO_TOWER: "embed_user", RANKER: "rank"}  # by which a label is read back
Matrix = npt.NDArray[np.float32]


class ModelServer(Protocol):
    """What a deployment asks of the model server; serving.tf_serving.TfServing is one."""

    def status(self, model: str, *, timeout_s: float = 1.0) -> list[VersionStatus]:
        """Every version with its state."""
        ...

    def version_of(self, model: str, label: str, *, inputs: Tensors, signature: str, timeout_s: float = 1.0) -> int:
        """Which version answers under a label; ModelRefused for a label that is on none."""
        ...

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """User embeddings [n, D]."""
        ...

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """Scores [n, objectives]."""
        ...


def wait_until_served(server: ModelServer, version: int, *, wait_s: float, report: Callable[[str], None]) -> None:
    """Wait until both models have the version AVAILABLE; NotServed with the server's own words when they do not."""
    deadline = time.monotonic() + wait_s
    said = ""
    while True:
        states = {model: _state(server, model, version) for model in SERVED}
        missing = {model: state for model, state in states.items() if state != "AVAILABLE"}
        now = ", ".join(f"{model}/{version} is {state}" for model, state in states.items())
        if now != said:
            report(now)
            said = now
        if not missing:
            return
        failed = next(
            (f"{model}/{version} {state}" for model, state in missing.items() if state.startswith("END:")), ""
        )
        if failed or time.monotonic() > deadline:
            raise NotServed(f"the model server does not serve version {version} after {wait_s:g} s: {failed or now}")
        time.sleep(EVERY_S)


def available(server: ModelServer, version: int) -> bool:
    """Whether both models have the version AVAILABLE now."""
    return all(_state(server, model, version) == "AVAILABLE" for model in SERVED)


def _state(server: ModelServer, model: str, version: int) -> str:
    """The version's state, with the error of one that failed to load; or why there is none."""
    try:
        found = [one for one in server.status(model) if one.version == version]
    except (ModelUnavailable, ModelRefused) as error:
        return f"unknown ({error})"
    if not found:
        return "not listed"
    return f"END: {found[0].error}" if found[0].state == "END" and found[0].error else found[0].state


def smoke(server: ModelServer, release: LoadedRelease, *, timeout_s: float = 10.0) -> None:
    """One request through each signature that the proxy uses; NotServed when an answer does not fit the release.

    A user tower that the release brings must embed the viewer as the server does.
    """
    named = _unknown(release)
    asked: list[tuple[Tensors, Tensors]] = [(named[TWO_TOWER], named[RANKER])]
    if release.packing is not None:
        user = release.packing.pack_user(named[RANKER])
        asked.append((user, user | release.packing.pack_items(named[RANKER])))
    for viewer, both in asked:
        _try(server, release, viewer, both, timeout_s)


def _try(server: ModelServer, release: LoadedRelease, user: Tensors, both: Tensors, timeout_s: float) -> None:
    version = release.manifest.version
    try:
        embedding = server.embed_user(version, user, timeout_s=timeout_s)
        scores = server.rank(version, both, timeout_s=timeout_s)
    except (ModelUnavailable, ModelRefused) as error:
        raise NotServed(f"release {release.name} does not answer: {error}") from None
    wanted = {"embedding": (1, release.index.width), "scores": (SMOKE_ITEMS, len(release.manifest.objectives))}
    got = {"embedding": embedding.shape, "scores": scores.shape}
    for name, shape in wanted.items():
        if got[name] != shape:
            raise NotServed(
                f"release {release.name} answers {name} of shape {got[name]}; its manifest and index say {shape}"
            )
    tower = release.user_tower
    if tower is not None and USER_IDS in user and not np.allclose(embedding, _own(release, tower, user), atol=FAR):
        raise NotServed(f"release {release.name} brings a user tower that embeds viewers otherwise than its two-tower")


def _own(release: LoadedRelease, tower: UserTower, user: Tensors) -> Matrix:
    try:
        return tower.embed(user)
    except FeaturesError as error:
        raise NotServed(f"release {release.name} does not answer: {error}") from None


def wait_until_labelled(server: ModelServer, release: LoadedRelease, label: str, *, wait_s: float) -> None:
    """Wait until both models answer under the label with the release's version; NotServed with what they say instead."""
    deadline, version = time.monotonic() + wait_s, release.manifest.version
    while True:
        found = labelled(server, release, label)
        if all(one == version for one in found.values()):
            return
        if time.monotonic() > deadline:
            said = ", ".join(f"{model} answers {one}" for model, one in found.items())
            raise NotServed(f"label {label} does not answer with version {version} after {wait_s:g} s: {said}")
        time.sleep(EVERY_S)


def labelled(server: ModelServer, release: LoadedRelease, label: str) -> dict[str, int | str]:
    """The version by which each model answers under the label, or the server's words; asked as the release is asked."""
    named = _unknown(release)
    found: dict[str, int | str] = {}
    for model in SERVED:
        try:
            found[model] = server.version_of(model, label, inputs=named[model], signature=SIGNATURE[model])
        except (ModelUnavailable, ModelRefused) as error:
            found[model] = str(error)
    return found


def _unknown(release: LoadedRelease) -> Mapping[str, Tensors]:
    """What each model takes for a viewer and items that nobody knows."""
    nobody: list[dict[str, Any]] = [{}] * SMOKE_ITEMS
    user = release.encoder.encode(nobody[:1], USER_TENSORS)
    return {TWO_TOWER: user, RANKER: user | release.encoder.encode(nobody, (*ITEM_TENSORS, *STATS_TENSORS))}
