"""JSON to tf.Examples and scores to JSON for REST classify and regress."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2

from stack.model_server.errors import ServingError
from stack.model_server.json_tensor import INDENT, decode_base64, is_base64
from stack.model_server.json_text import FLOAT32_MAX, decimals, is_double, show, type_name

INT64_MAX = 2**63 - 1
KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def read_examples(document: Mapping[str, Any], into: Any) -> None:
    """Write the `examples` of a request, and its `context` if it has one, into an Input message."""
    rows = into.example_list
    if "context" in document:
        into.example_list_with_context.context.CopyFrom(example(document["context"]))
        rows = into.example_list_with_context
    if "examples" not in document:
        raise ServingError.invalid(
            f"JSON Value: {show(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise ServingError.invalid(f"JSON Value: {show(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise ServingError.invalid(f"JSON Value: {show(document)} 'examples' value is an empty array")
    rows.examples.extend(example(item) for item in examples)


def example(value: Any) -> Any:
    """A JSON object as a tf.Example: each key a feature, each value an element or a list of them."""
    if not isinstance(value, dict):
        raise ServingError.invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    out = example_pb2.Example()
    out.features.SetInParent()
    for name, content in value.items():
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, feature)
        out.features.feature[name].CopyFrom(feature)
    return out


def classifications(result: Any) -> str:
    """A ClassificationResult as `{"results": [[["label", score], …], …]}`."""
    if not result.classifications:
        raise ServingError.invalid("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for row in result.classifications:
        scores = decimals(np.array([item.score for item in row.classes], np.float32))
        labels = [json.dumps(item.label, ensure_ascii=False) for item in row.classes]
        rows.append(f"[{', '.join(f'[{label}, {score}]' for label, score in zip(labels, scores, strict=True))}]")
    return f'{{\n{INDENT}"results": [{", ".join(rows)}\n{INDENT}]\n}}'


def regressions(result: Any) -> str:
    """A RegressionResult as `{"results": [value, …]}`."""
    if not result.regressions:
        raise ServingError.invalid("Cannot convert empty RegressionResults to JSON")
    values = decimals(np.array([item.value for item in result.regressions], np.float32))
    return f'{{\n{INDENT}"results": [{", ".join(values)}]\n}}'


def _add(value: Any, name: str, feature: Any) -> None:
    """Add one element: a float to float_list, an integer or boolean to int64_list, text or bytes to bytes_list."""
    if value is None or isinstance(value, list) or (isinstance(value, dict) and not is_base64(value)):
        raise ServingError.invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    if isinstance(value, str | dict):
        _values("bytes_list", name, feature).append(
            value.encode("utf-8", "surrogateescape") if isinstance(value, str) else decode_base64(value)
        )
    elif is_double(value):
        values = _values("float_list", name, feature)
        if FLOAT32_MAX < abs(value) < float("inf"):
            raise ServingError.invalid(f"Cannot convert JSON value: {show(value)} to float without loss of precision.")
        values.append(float(value))
    else:
        values = _values("int64_list", name, feature)
        if value > INT64_MAX:
            raise ServingError.invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(int(value))


def _values(kind: str, name: str, feature: Any) -> Any:
    """The feature's list of that kind; INVALID_ARGUMENT when the feature already holds another kind."""
    before = feature.WhichOneof("kind")
    if before not in (None, kind):
        raise ServingError.invalid(f"Unexpected element type in feature: {name} expecting type: {KINDS[before]}")
    return getattr(feature, kind).value
