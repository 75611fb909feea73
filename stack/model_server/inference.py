"""What a loaded model answers: Predict on arrays; Classify, Regress and MultiInference on serialized examples.

Checks come in upstream's order and words.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from stack.model_server import tensors
from stack.model_server.errors import ServingError
from stack.model_server.observer import QUIET, Observer
from stack.model_server.results import (
    CLASSIFY,
    REGRESS,
    classify_outputs,
    regress_outputs,
    write_classes,
    write_regressions,
)
from stack.model_server.servable import DEFAULT_SIGNATURE, Array, Served
from stack.model_server.table import ModelTable

RUNTIME = "TF1"
PLANS = 64


@dataclass(frozen=True)
class Terms:
    """How a request is to be answered: seconds left (None: no deadline), whom to tell, and whether the signature's
    method name must be the API's.
    """

    timeout_s: float | None = None
    observer: Observer = QUIET
    check_method: bool = False


DEFAULT_TERMS = Terms()
_PLANS: "WeakKeyDictionary[Served, dict[Any, Plan]]" = WeakKeyDictionary()


def predict_arrays(
    servable: Served,
    signature_name: str,
    feeds: Mapping[str, Array],
    output_filter: Sequence[str] = (),
    *,
    terms: Terms = DEFAULT_TERMS,
) -> tuple[str, dict[str, Array]]:
    """The resolved signature's name and its outputs by name; ServingError when the signature does not allow the request."""
    chosen = plan(servable, signature_name, feeds, output_filter)
    return chosen.name, run_plan(servable, chosen, feeds, terms)


@dataclass(frozen=True)
class Plan:
    """What a checked request asks of a model: its signature, the types of its inputs, its outputs and their types."""

    name: str
    inputs: Mapping[str, int]
    fetches: tuple[str, ...]
    outputs: Mapping[str, int]


def plan(servable: Served, signature_name: str, inputs: Iterable[str], output_filter: Sequence[str]) -> Plan:
    """The plan of a request with these inputs and outputs; ServingError when the signature does not allow them.

    Plans are kept, a bounded number a model: reading a signature's messages took longer than all else around a small run.
    """
    key = (signature_name, tuple(inputs), tuple(output_filter))
    plans = _PLANS.get(servable)
    if plans is None:
        plans = _PLANS[servable] = {}
    known = plans.get(key)
    if known is not None:
        return known
    name = signature_name or DEFAULT_SIGNATURE
    signature = servable.signature(name)
    check_inputs(key[1], signature)
    fetches = outputs_of(output_filter, signature)
    made = Plan(
        name,
        {alias: tensors.base_type(signature.inputs[alias].dtype) for alias in key[1]},
        tuple(fetches),
        {alias: tensors.base_type(signature.outputs[alias].dtype) for alias in fetches},
    )
    if len(plans) < PLANS:
        plans[key] = made
    return made


def run_plan(servable: Served, chosen: Plan, feeds: Mapping[str, Array], terms: Terms) -> dict[str, Array]:
    """The outputs by name; INVALID_ARGUMENT when an input is not of its type."""
    check_types(feeds, chosen.inputs)
    started = time.perf_counter()
    out = servable.run(chosen.name, feeds, chosen.fetches, timeout_s=terms.timeout_s)
    terms.observer.runtime(servable.name, "Predict", runtime=RUNTIME, seconds=time.perf_counter() - started)
    return dict(zip(chosen.fetches, out, strict=True))


def check_inputs(inputs: Iterable[str], signature: Any) -> None:
    """INVALID_ARGUMENT unless exactly the signature's inputs were sent."""
    sent, needed = set(inputs), set(signature.inputs)
    if len(sent) != len(needed):
        raise ServingError.invalid(
            f"input size does not match signature: {len(sent)}!={len(needed)} len({{{_join(sent)}}}) != "
            f"len({{{_join(needed)}}}). Sent extra: {{{_join(sent - needed)}}}. "
            f"Missing but required: {{{_join(needed - sent)}}}."
        )
    for alias in sorted(sent - needed):
        raise ServingError.invalid(
            f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {{{_join(needed)}}}."
        )


def outputs_of(output_filter: Sequence[str], signature: Any) -> list[str]:
    """The outputs to compute: those asked for, in that order, else all by name."""
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise ServingError.invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in seen:
            raise ServingError.invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return list(output_filter) or sorted(signature.outputs)


def check_types(feeds: Mapping[str, Array], declared: Mapping[str, int]) -> None:
    """INVALID_ARGUMENT in the runtime's words when an array is not of the declared type."""
    if all(tensors.type_number(array) == declared[key] for key, array in feeds.items()):
        return
    for place, key in enumerate(sorted(feeds)):
        sent = tensors.type_number(feeds[key])
        if sent != declared[key]:
            raise ServingError.invalid(
                f"Expects arg[{place}] to be {tensors.type_name(declared[key])} but {tensors.type_name(sent)} is provided"
            )


def classify(request: Any, servable: Served, terms: Terms = DEFAULT_TERMS) -> Any:
    """A ClassificationResponse for a ClassificationRequest: labels, scores or both for every example."""
    name, signature = _signature(request.model_spec, servable)
    fetches = classify_outputs(signature, check_method=terms.check_method)
    batch = examples(request.input)
    out = _run(servable, _named(signature, fetches), batch, signature, api="Classify", terms=terms)
    response = classification_pb2.ClassificationResponse()
    write_classes(signature, len(batch), out, into=response.result)
    _write_spec(response.model_spec, servable, name)
    return response


def regress(request: Any, servable: Served, terms: Terms = DEFAULT_TERMS) -> Any:
    """A RegressionResponse for a RegressionRequest: one number for every example."""
    name, signature = _signature(request.model_spec, servable)
    fetches = regress_outputs(signature, check_method=terms.check_method)
    batch = examples(request.input)
    out = _run(servable, _named(signature, fetches), batch, signature, api="Regress", terms=terms)
    response = regression_pb2.RegressionResponse()
    write_regressions(signature, len(batch), out, into=response.result)
    _write_spec(response.model_spec, servable, name)
    return response


def multi_inference(request: Any, table: ModelTable, terms: Terms = DEFAULT_TERMS) -> Any:
    """A MultiInferenceResponse from the model that the first task names."""
    if not request.tasks:
        raise ServingError.invalid("MultiInferenceRequest has no tasks.")
    spec = request.tasks[0].model_spec
    with table.lease(spec.name, **asked(spec)) as servable:
        return multi_infer(request, servable, terms)


def multi_infer(request: Any, servable: Served, terms: Terms = DEFAULT_TERMS) -> Any:
    """A MultiInferenceResponse: every task's signature on the same examples, all in one run of the model."""
    tasks = _tasks(request, servable, check_method=terms.check_method)
    batch = examples(request.input)
    named: dict[str, str] = {}
    for _, signature, fetches in tasks:
        named.update({info: info for info in _named(signature, fetches).values()})
    by_tensor = _run(servable, named, batch, tasks[0][1], api="MultiInference", terms=terms)
    response = inference_pb2.MultiInferenceResponse()
    for task, signature, fetches in tasks:
        out = {key: by_tensor[tensor] for key, tensor in _named(signature, fetches).items()}
        result = response.results.add()
        if task.method_name == CLASSIFY:
            write_classes(signature, len(batch), out, into=result.classification_result)
        else:
            write_regressions(signature, len(batch), out, into=result.regression_result)
        _write_spec(result.model_spec, servable, task.model_spec.signature_name or DEFAULT_SIGNATURE)
    return response


def count_examples(source: Any) -> int:
    """The number of examples in an Input."""
    kind = source.WhichOneof("kind")
    return len(getattr(source, kind).examples) if kind else 0


def examples(source: Any) -> Array:
    """An Input's examples, serialized, the shared context merged in front of each; INVALID_ARGUMENT when there is none."""
    kind = source.WhichOneof("kind")
    rows = getattr(source, kind).examples if kind else ()
    if not rows:
        raise ServingError.invalid("Input is empty.")
    # Messages one after the other parse as one message: an example's own features win over the context's.
    context = (
        source.example_list_with_context.context.SerializeToString() if kind == "example_list_with_context" else b""
    )
    batch = np.empty(len(rows), dtype=object)
    batch[:] = [context + row.SerializeToString() for row in rows]
    return batch


def asked(spec: Any) -> dict[str, Any]:
    """The version or label a ModelSpec names, as `ModelTable.lease` takes it."""
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return {"version": spec.version.value}
    return {"label": spec.version_label} if choice == "version_label" else {}


def _tasks(request: Any, servable: Served, *, check_method: bool) -> list[tuple[Any, Any, list[str]]]:
    """Each task with its signature and outputs; ServingError unless all can be answered by one run."""
    out: list[tuple[Any, Any, list[str]]] = []
    seen: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise ServingError.invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise ServingError.invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise ServingError.invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in servable.signatures:
            raise ServingError.invalid(f"Requested signature not found in model graph: {name}")
        signature = servable.signatures[name]
        out.append((task, signature, _fetches(task.method_name, signature, check_method=check_method)))
        if signature.inputs["inputs"].name != out[0][1].inputs["inputs"].name:
            raise ServingError.invalid("Input tensor must be the same for all Signatures.")
    return out


def _fetches(method: str, signature: Any, *, check_method: bool) -> list[str]:
    if method == CLASSIFY:
        return classify_outputs(signature, check_method=check_method)
    if method == REGRESS:
        return regress_outputs(signature, check_method=check_method)
    raise ServingError.unimplemented(f"Unsupported signature method_name: {method}")


def _signature(spec: Any, servable: Served) -> tuple[str, Any]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise ServingError.invalid(f"No signature was found with the name: {name}")
    return name, servable.signatures[name]


def _named(signature: Any, fetches: Iterable[str]) -> dict[str, str]:
    """The tensors' names of outputs."""
    return {key: signature.outputs[key].name for key in fetches}


def _run(
    servable: Served, fetches: Mapping[str, str], batch: Array, signature: Any, *, api: str, terms: Terms
) -> dict[str, Array]:
    """One run on serialized examples; the arrays under the keys of `fetches`, whose values are tensors' names."""
    started = time.perf_counter()
    feeds = {signature.inputs["inputs"].name: batch}
    out = servable.run_tensors(feeds, list(fetches.values()), timeout_s=terms.timeout_s)
    terms.observer.runtime(servable.name, api, runtime=RUNTIME, seconds=time.perf_counter() - started)
    return dict(zip(fetches, out, strict=True))


def _write_spec(spec: Any, servable: Served, signature_name: str) -> None:
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature_name


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
