"""The gRPC services over a ModelTable: PredictionService and ModelService; what is not here answers UNIMPLEMENTED."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from stack.model_server.errors import ServingError
from stack.model_server.predict import predict
from stack.model_server.table import ModelTable, Version

log = logging.getLogger("model_server")
Answer = TypeVar("Answer")
SIGNATURES = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, table: ModelTable) -> None:
        self._table = table

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run a model."""

        def answer() -> Any:
            if not request.HasField("model_spec"):
                raise ServingError.invalid("Missing ModelSpec")
            with self._table.lease(request.model_spec.name, **asked(request.model_spec)) as servable:
                return predict(request, servable)

        return _or_status(answer, context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The signatures of a model."""
        return _or_status(lambda: metadata(request, self._table), context)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, table: ModelTable) -> None:
        self._table = table

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The versions of a model and their states."""
        return _or_status(lambda: status(request, self._table), context)


def asked(spec: Any) -> dict[str, Any]:
    """The version or label a ModelSpec names, as `ModelTable.lease` takes it."""
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return {"version": spec.version.value}
    return {"label": spec.version_label} if choice == "version_label" else {}


def metadata(request: Any, table: ModelTable) -> Any:
    """GetModelMetadata: the signatures, packed as upstream packs them."""
    if not request.HasField("model_spec"):
        raise ServingError.invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise ServingError.invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURES:
            raise ServingError.invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with table.lease(request.model_spec.name, **asked(request.model_spec)) as servable:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
    response.metadata[SIGNATURES].Pack(signatures)
    return response


def status(request: Any, table: ModelTable) -> Any:
    """GetModelStatus: versions from highest to lowest. A label in the request is ignored, as upstream does."""
    if not request.HasField("model_spec"):
        raise ServingError.invalid("Missing ModelSpec")
    name = request.model_spec.name
    versions = table.versions(name)
    if request.model_spec.HasField("version"):
        number = request.model_spec.version.value
        versions = [version for version in versions if version.number == number]
        if not versions:
            raise ServingError.not_found(f"Could not find version {number} of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        _write_status(version, response.model_version_status.add())
    return response


def _write_status(version: Version, row: Any) -> None:
    row.version = version.number
    row.state = int(version.state)
    row.status.SetInParent()
    if version.error is not None:
        row.status.error_code = version.error.number
        row.status.error_message = version.error.message


def _or_status(answer: Callable[[], Answer], context: grpc.ServicerContext) -> Answer:
    """The answer, or the RPC ended with the status of what was wrong."""
    try:
        return answer()
    except ServingError as error:
        context.abort(error.code, error.message)
    except Exception:
        log.exception("a request failed inside the server")
        context.abort(grpc.StatusCode.INTERNAL, "the model server failed inside; its log has the reason")
    raise AssertionError("abort raises")
