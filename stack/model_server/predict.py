"""PredictRequest to PredictResponse, as bytes for the wire and as messages for warm-up records."""

from typing import Any

from tensorflow_serving.apis import model_pb2

from stack.model_server import tensors, wire
from stack.model_server.errors import ServingError
from stack.model_server.inference import DEFAULT_TERMS, Terms, asked, plan, predict_arrays, run_plan
from stack.model_server.servable import Served
from stack.model_server.table import ModelTable


def predict_bytes(
    request: wire.Asked, table: ModelTable, *, terms: Terms = DEFAULT_TERMS, as_content: bool = False
) -> bytes:
    """The bytes of a PredictResponse; ServingError when the request cannot be answered."""
    spec = request.spec
    if spec is None:
        raise ServingError.invalid("Missing ModelSpec")
    with table.lease(spec.name, **asked(spec)) as servable:
        chosen = plan(servable, spec.signature_name, request.inputs, request.outputs)
        feeds = {key: wire.tensor(key, data) for key, data in request.inputs.items()}
        out = run_plan(servable, chosen, feeds, terms)
        answered = model_pb2.ModelSpec(name=servable.name, signature_name=chosen.name)
        answered.version.value = servable.version
        typed = {key: (array, chosen.outputs[key]) for key, array in out.items()}
        return wire.response(answered, typed, as_content=as_content)


def predict_once(request: Any, servable: Served, terms: Terms = DEFAULT_TERMS) -> None:
    """Run a PredictRequest for its effect alone: a warm-up."""
    plan(servable, request.model_spec.signature_name, request.inputs, request.output_filter)
    feeds = {key: tensors.decode(key, tensor) for key, tensor in request.inputs.items()}
    predict_arrays(servable, request.model_spec.signature_name, feeds, request.output_filter, terms=terms)
