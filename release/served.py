"""Asks the model server whether a release is there and answers as its manifest says."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
from release.errors import NotServed
from release.model_config import SERVED
from serving.errors import ModelRefused, ModelUnavailable
from serving.models import Tensors
from serving.release_store import LoadedRelease
from serving.wire import VersionStatus

EVERY_S = 0.25
SMOKE_ITEMS = 3
Matrix = npt.NDArray[np.float32]


class ModelServer(Protocol):
    """What a deployment asks of the model server; serving.tf_serving.TfServing is one."""

    def status(self, model: str, *, timeout_s: float = 1.0) -> list[VersionStatus]:
        """Every version with its state."""
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
    """One request through each signature for a viewer and items nobody knows; NotServed when an answer does not fit."""
    unknown: list[dict[str, Any]] = [{}] * SMOKE_ITEMS
    user = release.encoder.encode(unknown[:1], USER_TENSORS)
    items = release.encoder.encode(unknown, (*ITEM_TENSORS, *STATS_TENSORS))
    version = release.manifest.version
    try:
        embedding = server.embed_user(version, user, timeout_s=timeout_s)
        scores = server.rank(version, user | items, timeout_s=timeout_s)
    except (ModelUnavailable, ModelRefused) as error:
        raise NotServed(f"release {release.name} does not answer: {error}") from None
    wanted = {"embedding": (1, release.embeddings.shape[1]), "scores": (SMOKE_ITEMS, len(release.manifest.objectives))}
    got = {"embedding": embedding.shape, "scores": scores.shape}
    for name, shape in wanted.items():
        if got[name] != shape:
            raise NotServed(
                f"release {release.name} answers {name} of shape {got[name]}; its manifest and index say {shape}"
            )
