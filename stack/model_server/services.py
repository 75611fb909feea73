"""The gRPC services over a ModelTable: PredictionService and ModelService; what is not here answers UNIMPLEMENTED."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    regression_pb2,
)

from stack.model_server import inference, wire
from stack.model_server.errors import ServingError
from stack.model_server.inference import Terms, asked
from stack.model_server.lifecycle import State, Version
from stack.model_server.observer import Tally
from stack.model_server.predict import predict_bytes
from stack.model_server.reload import Configuration, wait_until_available
from stack.model_server.table import ModelTable

log = logging.getLogger("model_server")
Answer = TypeVar("Answer")
SIGNATURES = "signature_def"
FOREVER_S = 1e6
BROKEN = "the model server failed inside; its log has the reason"


@dataclass(frozen=True)
class Rules:
    """What the flags change in the answers."""

    check_method: bool = False
    as_content: bool = False


class PredictionService:
    """Predict, Classify, Regress, MultiInference and GetModelMetadata."""

    NAME = "tensorflow.serving.PredictionService"

    def __init__(self, table: ModelTable, observer: Tally, rules: Rules) -> None:
        self._table = table
        self._observer = observer
        self._rules = rules

    def handlers(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The methods for a gRPC server. Predict takes and gives bytes: a message object would copy every tensor twice."""
        method = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            self.NAME,
            {
                "Predict": method(self.predict),
                "Classify": _typed(self.classify, classification_pb2.ClassificationRequest),
                "Regress": _typed(self.regress, regression_pb2.RegressionRequest),
                "MultiInference": _typed(self.multi_inference, inference_pb2.MultiInferenceRequest),
                "GetModelMetadata": _typed(self.metadata, get_model_metadata_pb2.GetModelMetadataRequest),
            },
        )

    def predict(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Run a model on tensors."""

        def answer(call: Call) -> bytes:
            request = wire.request(data)
            call.model = request.spec.name if request.spec is not None else ""
            terms = self._terms(context)
            return predict_bytes(request, self._table, terms=terms, as_content=self._rules.as_content)

        return _answered("Predict", answer, context, self._observer)

    def classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Labels and scores for examples."""
        return self._on_examples("Classify", inference.classify, request, context)

    def regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Numbers for examples."""
        return self._on_examples("Regress", inference.regress, request, context)

    def multi_inference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Several signatures on the same examples."""

        def answer(call: Call) -> Any:
            call.model = request.tasks[0].model_spec.name if request.tasks else ""
            response = inference.multi_inference(request, self._table, self._terms(context))
            call.examples = inference.count_examples(request.input)
            return response

        return _answered("MultiInference", answer, context, self._observer)

    def metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The signatures of a model."""
        return _or_status(lambda: metadata(request, self._table), context)

    def _on_examples(self, api: str, work: Any, request: Any, context: grpc.ServicerContext) -> Any:
        def answer(call: Call) -> Any:
            if not request.HasField("model_spec"):
                raise ServingError.invalid("Missing ModelSpec")
            call.model = request.model_spec.name
            with self._table.lease(call.model, **asked(request.model_spec)) as servable:
                response = work(request, servable, self._terms(context))
            call.examples = inference.count_examples(request.input)
            return response

        return _answered(api, answer, context, self._observer)

    def _terms(self, context: grpc.ServicerContext) -> Terms:
        """The client's deadline as seconds left; gRPC shows "none" as centuries."""
        left = context.time_remaining()
        return Terms(left if left is not None and left < FOREVER_S else None, self._observer, self._rules.check_method)


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest."""

    NAME = "tensorflow.serving.ModelService"

    def __init__(self, table: ModelTable, configuration: Configuration, observer: Tally) -> None:
        self._table = table
        self._configuration = configuration
        self._observer = observer

    def handlers(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The methods for a gRPC server."""
        return grpc.method_handlers_generic_handler(
            self.NAME,
            {
                "GetModelStatus": _typed(self.status, get_model_status_pb2.GetModelStatusRequest),
                "HandleReloadConfigRequest": _typed(self.reload, model_management_pb2.ReloadConfigRequest),
            },
        )

    def status(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The versions of a model and their states."""
        return _or_status(lambda: status(request, self._table), context)

    def reload(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Serve another list of models; answers once those that are new are AVAILABLE."""

        def answer() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise ServingError.invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                    "supported"
                )
            before = {name: self._observer.count(name) for name in request.metric_names}
            new = self._configuration.reload(request.config)
            wait_until_available(self._table, new, what="model(s)", going_on=context.is_active)
            response = model_management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            for name, count in before.items():
                response.metric.add(name=name, int64_value_increase=self._observer.count(name) - count)
            return response

        return _or_status(answer, context)


@dataclass
class Call:
    """What is learned of a request while it is answered."""

    model: str = ""
    examples: int = 0


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
    # While a load is tried again its last error is not the version's.
    if version.error is not None and version.state is State.END:
        row.status.error_code = version.error.number
        row.status.error_message = version.error.message


def _typed(work: Any, request: Any) -> Any:
    """A method that takes a message of that class and gives any message."""
    return grpc.unary_unary_rpc_method_handler(
        work, request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
    )


def _answered(api: str, answer: Callable[[Call], Answer], context: grpc.ServicerContext, observer: Tally) -> Answer:
    """`_or_status`, and the observer told how it went."""
    call, started, ended = Call(), time.perf_counter(), "OK"
    try:
        return answer(call)
    except ServingError as error:
        ended = error.code.name
        context.abort(error.code, error.details)
    except Exception:
        log.exception("a request failed inside the server")
        ended = grpc.StatusCode.INTERNAL.name
        context.abort(grpc.StatusCode.INTERNAL, BROKEN)
    finally:
        observer.request(
            call.model,
            api,
            entrypoint="GRPC",
            status=ended,
            seconds=time.perf_counter() - started,
            examples=call.examples,
        )
    raise AssertionError("abort raises")


def _or_status(answer: Callable[[], Answer], context: grpc.ServicerContext) -> Answer:
    """The answer, or the RPC ended with the status of what was wrong."""
    try:
        return answer()
    except ServingError as error:
        context.abort(error.code, error.details)
    except Exception:
        log.exception("a request failed inside the server")
        context.abort(grpc.StatusCode.INTERNAL, BROKEN)
    raise AssertionError("abort raises")
