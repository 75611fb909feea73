"""The viewer's side of the two-tower as a release carries it for the proxy: no call to a model server before recall.

A LiteRT copy of the signature `embed_user_packed` for one viewer. Releases without one are asked through the model server,
which serves the signature all the same; ADR 16 has what a call costs. The file is mapped as long as the release is in use:
put another in its place by a rename, never write into it.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from features.encoder import Tensor
from features.errors import BadUserTower
from features.packing import DTYPES, USER_ARRAYS, Packing

USER_TOWER = "user_tower.tflite"  # in a release's folder
SIGNATURE, OUTPUT = "embed_user_packed", "embedding"
SAID = 200  # letters of what the interpreter says: it says all that it ever said
_FAILURES = (ValueError, RuntimeError, KeyError, TypeError, IndexError, AttributeError)  # what LiteRT's layers raise
Embedding = npt.NDArray[np.float32]


class UserTower:
    """One release's; safe among threads, which take turns of microseconds."""

    def __init__(self, path: Path, packing: Packing) -> None:
        """BadUserTower when the file is none, or not one for viewers as `packing` packs them; tried on one of nobody."""
        self._path, self._turn = path, threading.Lock()
        nobody = {name: np.zeros((1, packing.width(name)), DTYPES[name]) for name in USER_ARRAYS}
        try:
            self._model = self._opened()
            signature = self._model.get_signature_runner(SIGNATURE)
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
            del signature  # while one is held the interpreter refuses to run
            self._inputs = [(name, int(inputs[name]["index"])) for name in USER_ARRAYS]
            self._output = int(outputs[OUTPUT]["index"])
            shapes = {name: tuple(inputs[name]["shape"].tolist()) for name in USER_ARRAYS}
        except _FAILURES as error:
            raise BadUserTower(f"user tower {path} cannot be read: {_said(error)}") from None
        for name, found in shapes.items():
            if found != nobody[name].shape:
                raise BadUserTower(
                    f"user tower {path} takes {name} of shape {found}; the release packs {nobody[name].shape}"
                )
        tried = self.embed(nobody)
        if tried.ndim != 1 or tried.dtype != np.float32:
            raise BadUserTower(f"user tower {path} gives {tried.dtype} of shape {tried.shape}, not one row of float32")
        self.width = len(tried)  # of an embedding

    def embed(self, viewer: Mapping[str, Tensor]) -> Embedding:
        """One viewer's packed arrays [1, ...] to her embedding [D]; BadUserTower when there is none, or not of numbers."""
        with self._turn:
            try:
                for name, index in self._inputs:
                    self._model.set_tensor(index, viewer[name])
                self._model.invoke()
                found: Embedding = self._model.get_tensor(self._output)[0]  # a copy
            except _FAILURES as error:
                self._renew()
                raise BadUserTower(f"user tower {self._path} gives no embedding: {_said(error)}") from None
        if not np.isfinite(found).all():
            raise BadUserTower(f"user tower {self._path} gave values that are not numbers")
        return found

    def _renew(self) -> None:
        """An interpreter that failed keeps every message it gave."""
        with suppress(*_FAILURES):  # the file is gone: the old one goes on
            self._model = self._opened()

    def _opened(self) -> Any:
        # Without delegates: for one row they gain nothing, and each says on stderr that it was made.
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        model = Interpreter(model_path=str(self._path), num_threads=1, experimental_op_resolver_type=kernels)
        model.allocate_tensors()
        return model


def _said(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0][:SAID]
