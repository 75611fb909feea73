"""The viewer's side of the two-tower as a release carries it for the proxy: no call to a model server before recall.

A LiteRT copy of the signature `embed_user_packed` for one viewer. Releases without one are asked through the model server,
which serves the signature all the same; ADR 0016 has what a call costs.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from features.encoder import Tensor
from features.errors import BadUserTower
from features.packing import USER_ARRAYS, Packing

USER_TOWER = "user_tower.tflite"  # in a release's folder
SIGNATURE, OUTPUT = "embed_user_packed", "embedding"
Embedding = npt.NDArray[np.float32]


class UserTower:
    """One release's, mapped from its file; safe among threads, which take turns of microseconds."""

    def __init__(self, path: Path, packing: Packing) -> None:
        """BadUserTower when the file is none, or not one for viewers as `packing` packs them."""
        self._path, self._turn = path, threading.Lock()
        try:
            # Without delegates: for one row they gain nothing, and each says on stderr that it was made.
            kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            self._model = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=kernels)
            self._model.allocate_tensors()
            signature = self._model.get_signature_runner(SIGNATURE)
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
            del signature  # while one is held the interpreter refuses to run
            self._inputs = [(name, int(inputs[name]["index"])) for name in USER_ARRAYS]
            self._output = int(outputs[OUTPUT]["index"])
        except (ValueError, RuntimeError, KeyError) as error:
            raise BadUserTower(f"user tower {path} cannot be read: {error}") from None
        for name in USER_ARRAYS:
            found, wanted = tuple(inputs[name]["shape"].tolist()), (1, packing.width(name))
            if found != wanted:
                raise BadUserTower(f"user tower {path} takes {name} of shape {found}; the release packs {wanted}")
        self.width = int(outputs[OUTPUT]["shape"][-1])  # of an embedding

    def embed(self, viewer: Mapping[str, Tensor]) -> Embedding:
        """One viewer's packed arrays [1, ...] to her embedding [D]; BadUserTower when that is not numbers."""
        with self._turn:
            for name, index in self._inputs:
                self._model.set_tensor(index, viewer[name])
            self._model.invoke()
            found: Embedding = self._model.get_tensor(self._output)[0]
        if not np.isfinite(found).all():
            raise BadUserTower(f"user tower {self._path} gave values that are not numbers")
        return found
