"""A client of TensorFlow Serving's own stubs, as the model server's tests use it."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

TIMEOUT_S = 20.0


class Client:
    """Upstream's stubs on one channel."""

    def __init__(self, port: int, *, channel: grpc.Channel | None = None) -> None:
        self.channel = channel or grpc.insecure_channel(f"127.0.0.1:{port}")
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, inputs: dict[str, Any], *, model: str = "line", signature: str = "", **more: Any) -> Any:
        request = predict_pb2.PredictRequest(output_filter=more.get("outputs", []))
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if "version" in more:
            request.model_spec.version.value = more["version"]
        if "label" in more:
            request.model_spec.version_label = more["label"]
        for name, value in inputs.items():
            tensor = tf.make_tensor_proto(value) if isinstance(value, np.ndarray) else value
            request.inputs[name].CopyFrom(tensor)
        return self.predictions.Predict(request, timeout=more.get("timeout", TIMEOUT_S))

    def status(self, model: str, version: int | None = None) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        return self.models.GetModelStatus(request, timeout=TIMEOUT_S)


def refusal(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        work()
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


def values(response: Any, name: str) -> Any:
    return tf.make_ndarray(response.outputs[name]).tolist()


def wait_for(said: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if said():
            return True
        time.sleep(0.02)
    return False
