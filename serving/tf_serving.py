"""TensorFlow Serving over gRPC: predictions and model status, on one channel a process, without importing TensorFlow."""

import os
from collections.abc import Callable
from typing import Any

# Read by gRPC once a process. With its newer engine every answer wakes threads that only hand it on: a call of 208 kB took
# 0.53 ms instead of 0.37, and a third more of both sides' CPU.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")

import grpc
import numpy as np

from features.packing import ITEM_IDS, USER_IDS
from registry.manifest import RANKER, TWO_TOWER
from serving import wire
from serving.errors import ModelRefused, ModelUnavailable
from serving.models import Matrix, Tensors

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
# A later request may succeed: the server is gone, slow, full, or has not loaded (or has unloaded) this version.
_PASSING = frozenset({
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND,
})  # fmt: skip
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # the proxy's deadlines and breakers decide, and a call costs a twentieth less
    # A server that comes back is found within half a second; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class TfServing:
    """A client of one model server; safe to share among threads."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        # No serializers: bytes go in and out as serving/wire.py makes and reads them.
        self._predict: Callable[..., Any] = self._channel.unary_unary(PREDICT, None, None)
        self._status: Callable[..., Any] = self._channel.unary_unary(STATUS, None, None)

    def close(self) -> None:
        """Let the channel go."""
        self._channel.close()

    def _call(self, method: Callable[..., Any], body: bytes, *, timeout_s: float, about: str) -> bytes:
        try:
            return bytes(method(body, timeout=max(timeout_s, 0.001)))
        except grpc.RpcError as error:
            code, details = error.code(), str(error.details() or "no reason").splitlines()[0]
            sentence = f"model server {self._address}: {about}: {code.name}: {details}"
            raise (ModelUnavailable if code in _PASSING else ModelRefused)(sentence) from None

    def predict(
        self, model: str, inputs: Tensors, *, version: int | None = None, signature: str = "", timeout_s: float = 1.0
    ) -> dict[str, wire.Tensor]:
        """Output tensors by name; ModelUnavailable when waiting may help, ModelRefused when it will not."""
        spec = wire.model_spec(model, version=version, signature=signature)
        about = f"{model}/{version or 'newest'} {signature or 'serving_default'}"
        answer = self._call(self._predict, wire.predict_request(spec, inputs), timeout_s=timeout_s, about=about)
        try:
            return wire.predict_response(answer)
        except (ValueError, OverflowError) as error:
            raise ModelRefused(f"model server {self._address}: {about}: unreadable answer: {error}") from None

    def version_of(self, model: str, label: str, *, inputs: Tensors, signature: str, timeout_s: float = 1.0) -> int:
        """Which version answers under a label: it must be asked to predict, since a status does not look at labels."""
        spec = wire.model_spec(model, label=label, signature=signature)
        about = f"{model}/{label} {signature}"
        answer = self._call(self._predict, wire.predict_request(spec, inputs), timeout_s=timeout_s, about=about)
        try:
            return wire.answered_version(answer)
        except (ValueError, OverflowError) as error:
            raise ModelRefused(f"model server {self._address}: {about}: unreadable answer: {error}") from None

    def status(self, model: str, *, timeout_s: float = 1.0) -> list[wire.VersionStatus]:
        """Every version the server knows of, with its state; ModelUnavailable when it knows none."""
        answer = self._call(self._status, wire.status_request(model), timeout_s=timeout_s, about=f"status of {model}")
        try:
            return wire.status_response(answer)
        except (ValueError, OverflowError) as error:
            raise ModelRefused(f"model server {self._address}: status of {model}: unreadable answer: {error}") from None

    def _matrix(
        self, model: str, version: int, signature: str, output: str, inputs: Tensors, timeout_s: float
    ) -> Matrix:
        answer = self.predict(model, inputs, version=version, signature=signature, timeout_s=timeout_s)
        if output not in answer or answer[output].ndim != 2:
            raise ModelRefused(f"{model}/{version} {signature} gave {sorted(answer)}, not a matrix named {output}")
        matrix = np.asarray(answer[output], np.float32)
        if not np.isfinite(matrix).all():
            raise ModelRefused(f"{model}/{version} {signature} gave values that are not numbers")
        return matrix

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """User tensors [n, ...], by name or packed, to embeddings [n, D]."""
        signature = "embed_user_packed" if USER_IDS in user else "embed_user"
        return self._matrix(TWO_TOWER, version, signature, "embedding", user, timeout_s)

    def embed_item(self, version: int, items: Tensors, *, timeout_s: float) -> Matrix:
        """Item tensors [n, ...] to embeddings [n, D]."""
        return self._matrix(TWO_TOWER, version, "embed_item", "embedding", items, timeout_s)

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """User tensors [1, ...] with item and statistics tensors [n, ...], by name or packed, to scores [n, objectives]."""
        return self._matrix(
            RANKER, version, "rank_packed" if ITEM_IDS in inputs else "rank", "scores", inputs, timeout_s
        )
