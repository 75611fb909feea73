"""The REST API without its server: a method, a path and a body in; a status, headers and JSON out."""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import grpc
import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from stack.model_server import inference, json_examples, json_tensor, services
from stack.model_server.errors import ServingError
from stack.model_server.json_text import parse_object
from stack.model_server.servable import DEFAULT_SIGNATURE
from stack.model_server.table import ModelTable

log = logging.getLogger("model_server")
INT64_MAX = 2**63 - 1
ROOT = "/v1/"
TARGET = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
RUN = re.compile(rf"/v1/models/([^/:]+){TARGET}:(classify|regress|predict)", re.IGNORECASE)
LOOK = re.compile(rf"/v1/models(?:/([^/:]+))?{TARGET}(?:/(metadata))?", re.IGNORECASE)
JSON = {"Content-Type": "application/json"}
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
INTERNAL_ERROR = 500
Answer = tuple[str, int]  # JSON, and how many examples were asked about
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Target:
    """The model a path names, at most one of its version and label, and what is asked of it."""

    model: str = ""
    version: int | None = None
    label: str = ""
    action: str = ""

    def write(self, spec: Any) -> None:
        """Name this model in a ModelSpec."""
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version
        if self.label:
            spec.version_label = self.label


class Routes:
    """Answers requests under /v1/ from a model table; one object, many threads."""

    def __init__(self, table: ModelTable, terms: inference.Terms, *, cors: bool) -> None:
        self._table = table
        self._terms = terms
        self._cors = cors
        self._actions: dict[str, Callable[[Target, bytes], Answer]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
            "metadata": self._metadata,
            "": self._status,
        }

    def answer(self, method: str, path: str, *, body: bytes = b"", origin: str = "") -> Reply:
        """One request's reply; paths outside /v1/ are 404 with nothing in them."""
        if not path.lower().startswith(ROOT):
            return Reply(404, b"", {})
        started = time.monotonic()
        target, code, (text, examples) = self._run(method, path, body, origin)
        if target.model:
            self._terms.observer.request(
                target.model,
                target.action,
                entrypoint="REST",
                status=code.name,
                seconds=time.monotonic() - started,
                examples=examples,
            )
        status = 200 if code is grpc.StatusCode.OK else HTTP_STATUS.get(code, INTERNAL_ERROR)
        return Reply(status, text.encode("utf-8", "surrogateescape"), JSON | (CORS if self._cors else {}))

    def _run(self, method: str, path: str, body: bytes, origin: str) -> tuple[Target, grpc.StatusCode, Answer]:
        """What was asked, how it ended and the answer to it."""
        target = Target()
        try:
            if method == "OPTIONS" and self._cors:
                return target, grpc.StatusCode.OK, (_preflight(origin), 0)
            target = find(method, path)
            return target, grpc.StatusCode.OK, self._actions[target.action](target, body)
        except ServingError as error:
            return target, error.code, (error_json(error.message), 0)
        except Exception:
            log.exception("a REST request failed inside the server")
            inside = "the model server failed inside; its log has the reason"
            return target, grpc.StatusCode.INTERNAL, (error_json(inside), 0)

    def _predict(self, target: Target, body: bytes) -> Answer:
        document = parse_object(body)
        name = json_tensor.signature_name(document)
        with self._table.lease(target.model, version=target.version, label=target.label or None) as servable:
            signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
            if signature is None:
                raise ServingError.invalid(
                    f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                )
            if not signature.inputs:
                raise ServingError.invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
            inputs = {key: signature.inputs[key].dtype for key in sorted(signature.inputs)}
            feeds, form = json_tensor.read_feeds(document, inputs)
            _, outputs = inference.predict_arrays(servable, name, feeds, terms=self._terms)
        return json_tensor.write_outputs({key: _array(outputs[key]) for key in sorted(outputs)}, form), 0

    def _classify(self, target: Target, body: bytes) -> Answer:
        request = classification_pb2.ClassificationRequest()
        with self._examples(target, body, request) as servable:
            response = inference.classify(request, servable, self._terms)
        return json_examples.classifications(response.result), len(response.result.classifications)

    def _regress(self, target: Target, body: bytes) -> Answer:
        request = regression_pb2.RegressionRequest()
        with self._examples(target, body, request) as servable:
            response = inference.regress(request, servable, self._terms)
        return json_examples.regressions(response.result), len(response.result.regressions)

    def _examples(self, target: Target, body: bytes, request: Any) -> Any:
        """Fill a classify or regress request; the lease on the model that answers it."""
        document = parse_object(body)
        target.write(request.model_spec)
        request.model_spec.signature_name = json_tensor.signature_name(document)
        json_examples.read_examples(document, request.input)
        return self._table.lease(target.model, version=target.version, label=target.label or None)

    def _status(self, target: Target, body: bytes) -> Answer:
        request = get_model_status_pb2.GetModelStatusRequest()
        target.write(_named(target, request))
        return _as_json(proto_dict(services.status(request, self._table))), 0

    def _metadata(self, target: Target, body: bytes) -> Answer:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[services.SIGNATURES])
        target.write(_named(target, request))
        response = services.metadata(request, self._table)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[services.SIGNATURES].Unpack(signatures)
        metadata = {services.SIGNATURES: proto_dict(signatures)}
        return _as_json({"model_spec": proto_dict(response.model_spec), "metadata": metadata}), 0


def find(method: str, path: str) -> Target:
    """The model and action of a request; INVALID_ARGUMENT when it is not one of the API's."""
    matched = {"POST": RUN, "GET": LOOK}.get(method, RUN).fullmatch(path) if method in ("POST", "GET") else None
    if matched is None:
        raise ServingError.invalid(f"Malformed request: {method} {path}")
    name, version, label, action = matched.groups()
    number = int(version) if version and len(version.lstrip("0")) <= len(str(INT64_MAX)) else None
    if version and (number is None or number > INT64_MAX):
        raise ServingError.invalid(f"Failed to convert version: {version} to numeric.")
    return Target(_decoded(name or ""), number, _decoded(label or ""), (action or "").lower())


def proto_dict(message: Any) -> dict[str, Any]:
    """A message in proto3's JSON mapping, with defaults and with the names of the .proto file."""
    out: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return out


def error_json(message: str) -> str:
    """`{"error": message}` as upstream lays it out."""
    return f'{{\n    "error": {json.dumps(message, ensure_ascii=False)}\n}}'


def _named(target: Target, request: Any) -> Any:
    if not target.model:
        raise ServingError.invalid("Missing model name in request.")
    return request.model_spec


def _preflight(origin: str) -> str:
    if not re.search("https?://", origin):
        raise ServingError.precondition("Origin header is missing in CORS preflight")
    return ""


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _array(value: Any) -> Any:
    """An output as an array; a lone string would become one that drops trailing zero bytes."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
