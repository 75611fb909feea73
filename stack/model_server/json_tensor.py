"""JSON to arrays and back for REST predict: rows (`instances`, `predictions`) and columns (`inputs`, `outputs`)."""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import chain
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from stack.model_server.errors import ServingError
from stack.model_server.json_text import FLOAT32_MAX, decimals, is_double, show, type_name

Array = np.ndarray[Any, Any]
INDENT = " " * 4
MOST_DIMENSIONS = 63  # numpy's 64 less the one that rows add
# The integer types JSON numbers may become: numpy's type, then the bounds upstream checks (small ones wrap, as there).
INTEGERS = {
    types_pb2.DT_INT8: (np.int8, -(2**31), 2**31 - 1),
    types_pb2.DT_UINT8: (np.uint8, -(2**31), 2**31 - 1),
    types_pb2.DT_INT16: (np.int16, -(2**31), 2**31 - 1),
    types_pb2.DT_INT32: (np.int32, -(2**31), 2**31 - 1),
    types_pb2.DT_INT64: (np.int64, -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (np.uint32, 0, 2**32 - 1),
    types_pb2.DT_UINT64: (np.uint64, 0, 2**64 - 1),
}
# Floats: numpy's type, the name in messages, the largest integer and the largest value held without loss.
FLOATS = {
    types_pb2.DT_FLOAT: (np.float32, "float", 2**24 - 1, FLOAT32_MAX),
    types_pb2.DT_DOUBLE: (np.float64, "double", 2**53 - 1, math.inf),
}
WRITABLE = frozenset(("int8", "uint8", "int16", "int32", "int64", "uint32", "uint64"))


class Format(Enum):
    """How tensors lie in a request and so in its answer."""

    ROWS = "instances"
    COLUMNS = "inputs"


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature a request names, empty for the default one; INVALID_ARGUMENT when it is not a string."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise ServingError.invalid(
            f"JSON Value: {show(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read_feeds(document: Mapping[str, Any], inputs: Mapping[str, int]) -> tuple[dict[str, Array], Format]:
    """A predict request's tensors by input name, for a signature's inputs and their DataTypes."""
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise ServingError.invalid(
            f"JSON Value: {show(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if rows:
        return _rows(document, inputs), Format.ROWS
    if columns:
        return _columns(document["inputs"], inputs), Format.COLUMNS
    raise ServingError.invalid("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Mapping[str, Array], form: Format) -> str:
    """A predict answer in the format of its request; INVALID_ARGUMENT when an output does not fit it."""
    if not outputs:
        raise ServingError.invalid("Cannot convert empty tensor map to JSON")
    return _write_rows(outputs) if form is Format.ROWS else _write_columns(outputs)


def decode_base64(value: Any) -> bytes:
    """The bytes of `{"b64": "…"}`; padding is optional and white space is skipped, as upstream does."""
    if not is_base64(value):
        raise ServingError.invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ServingError.invalid("Unable to base64 decode") from None


def is_base64(value: object) -> bool:
    """Whether a value is an object whose only key is `b64` and whose value is a string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _rows(document: Mapping[str, Any], inputs: Mapping[str, int]) -> dict[str, Array]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise ServingError.invalid(f"JSON Value: {show(document)} Excepting 'instances' to be an list/array")
    if not rows:
        raise ServingError.invalid(f"JSON Value: {show(document)} No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise ServingError.invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    gathered: dict[str, list[Array]] = {}
    named = _is_named(rows[0])
    for place, row in enumerate(rows):
        if named:
            _named_row(row, place, inputs, gathered)
        else:
            _plain_row(row, place, inputs, gathered)
    return {name: np.stack(items) for name, items in gathered.items()}


def _plain_row(row: Any, place: int, inputs: Mapping[str, int], gathered: dict[str, list[Array]]) -> None:
    if _is_named(row):
        raise ServingError.invalid(f"Expecting value/list but got object at item {place} of input list")
    try:
        _gather(row, next(iter(inputs)), inputs, gathered)
    except ServingError as error:
        raise ServingError.invalid(
            f"Failed to process element: {place} of 'instances' list. Error: {error.status}"
        ) from None


def _named_row(row: Any, place: int, inputs: Mapping[str, int], gathered: dict[str, list[Array]]) -> None:
    if not _is_named(row):
        raise ServingError.invalid(f"Expecting object but got list at item {place} of input list")
    for name, value in row.items():
        try:
            _gather(value, name, inputs, gathered)
        except ServingError as error:
            raise ServingError.invalid(
                f"Failed to process element: {place} key: {name} of 'instances' list. Error: {error.status}"
            ) from None
    if row.keys() != inputs.keys():
        raise ServingError.invalid(
            f"Failed to process element: {place} of 'instances' list. JSON object: {show(row)} keys must be equal to: "
            f"{','.join(sorted(inputs))}"
        )


def _gather(value: Any, name: str, inputs: Mapping[str, int], gathered: dict[str, list[Array]]) -> None:
    """Add one row's tensor; all rows of an input have the shape of the first."""
    if name not in inputs:
        raise ServingError.invalid(f"JSON object: does not have named input: {name}")
    array = tensor(value, inputs[name])
    before = gathered.setdefault(name, [])
    if before and before[0].size != array.size:
        raise ServingError.invalid(f"Expecting tensor size: {before[0].size} but got: {array.size}")
    if before and before[0].shape != array.shape:
        raise ServingError.invalid(f"Expecting shape {_shape_text(before[0])} but got: {_shape_text(array)}")
    before.append(array)


def _columns(value: Any, inputs: Mapping[str, int]) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise ServingError.invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: tensor(value, dtype) for name, dtype in inputs.items()}
    out: dict[str, Array] = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise ServingError.invalid(f"Missing named input: {name} in 'inputs' object.")
        out[name] = tensor(value[name], dtype)
    return out


def tensor(value: Any, dtype: int) -> Array:
    """A JSON value, scalar or lists of equal sizes within lists, as an array of a DataType."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > MOST_DIMENSIONS:
        raise ServingError.invalid(f"Encountered {len(shape)} nested lists, at most {MOST_DIMENSIONS} are allowed")
    flat = _flat(value, shape)
    leaves = flat if flat is not None and _fit(flat, dtype) else list(_leaves(value, 0, shape, dtype))
    return _array(leaves, dtype).reshape(shape)


def _array(leaves: list[Any], dtype: int) -> Array:
    """Checked leaves in one dimension; small integers wrap, as in upstream's cast from 32 bits."""
    if dtype in INTEGERS:
        kind, low, _ = INTEGERS[dtype]
        return np.array(leaves, np.int64 if low < 0 else np.uint64).astype(kind)
    if dtype in FLOATS:
        return np.array(leaves, FLOATS[dtype][0])
    if dtype == types_pb2.DT_BOOL:
        return np.array(leaves, np.bool_)
    out = np.empty(len(leaves), object)
    out[:] = [_bytes(leaf) for leaf in leaves]
    return out


def _flat(value: Any, shape: list[int]) -> list[Any] | None:
    """The leaves in order when every list has the size of the first of its level; None when one has not."""
    level = [value]
    for size in shape:
        if any(type(item) is not list or len(item) != size for item in level):
            return None
        level = list(chain.from_iterable(level))
    return level


def _fit(leaves: list[Any], dtype: int) -> bool:
    """Whether all leaves convert without a closer look; False only sends them through `_leaves`."""
    kinds = set(map(type, leaves))
    if dtype in INTEGERS:
        _, low, high = INTEGERS[dtype]
        return kinds <= {int} and (not leaves or (low <= min(leaves) and max(leaves) <= high))
    if dtype == types_pb2.DT_BOOL:
        return kinds <= {bool}
    if dtype == types_pb2.DT_STRING:
        return kinds <= {str}
    if dtype not in FLOATS or not kinds <= {float, int}:
        return False
    _, _, most, largest = FLOATS[dtype]
    numbers = np.array(leaves, np.float64) if all(type(v) is float or abs(v) <= most for v in leaves) else None
    return numbers is not None and bool(((np.abs(numbers) <= largest) | ~np.isfinite(numbers)).all())


def _leaves(value: Any, level: int, shape: list[int], dtype: int) -> Iterator[Any]:
    """The leaves one by one, or the first thing wrong with them in upstream's words."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise ServingError.invalid(
                f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        _check(value, dtype)
        yield value
        return
    if level >= rank:
        raise ServingError.invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise ServingError.invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        yield from _leaves(item, level + 1, shape, dtype)


def _check(value: Any, dtype: int) -> None:
    """INVALID_ARGUMENT when a leaf is not of the type, UNIMPLEMENTED when JSON has no way to write the type."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, dict):
        if dtype == types_pb2.DT_STRING:
            decode_base64(value)
            return
        good = False
    elif dtype in INTEGERS:
        _, low, high = INTEGERS[dtype]
        good = number and not is_double(value) and low <= value <= high
    elif dtype in FLOATS:
        good = number
        if number and not _lossless(value, dtype):
            raise ServingError.invalid(
                f"Cannot convert JSON value: {show(value)} to {FLOATS[dtype][1]} without loss of precision."
            )
    elif dtype in (types_pb2.DT_BOOL, types_pb2.DT_STRING):
        good = isinstance(value, bool if dtype == types_pb2.DT_BOOL else str)
    else:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {show(value)} to type: {_dtype_name(dtype)}"
        )
    if not good:
        raise ServingError.invalid(
            f"JSON Value: {show(value)} Type: {type_name(value)} is not of expected type: {_dtype_name(dtype)}"
        )


def _lossless(value: int | float, dtype: int) -> bool:
    _, _, most, largest = FLOATS[dtype]
    if is_double(value):
        return abs(value) <= largest or not math.isfinite(value)
    return abs(value) <= most


def _bytes(leaf: Any) -> bytes:
    return leaf.encode("utf-8", "surrogateescape") if isinstance(leaf, str) else decode_base64(leaf)


def _write_rows(outputs: Mapping[str, Array]) -> str:
    size: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise ServingError.invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(array) != size:
            raise ServingError.invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}"
            )
        size = len(array)
    named = len(outputs) > 1
    # An item lies two levels deep; each list inside it stays on its line, so only objects are indented further.
    items = [_folded(name, array, 2 + named, one_line=True) for name, array in outputs.items()]
    if not size:
        return f'{{\n{INDENT}"predictions": []\n}}'
    if not named:
        return f'{{\n{INDENT}"predictions": [{", ".join(items[0])}\n{INDENT}]\n}}'
    keys = [json.dumps(name, ensure_ascii=False) for name in outputs]
    rows = [_braces([f"{k}: {v}" for k, v in zip(keys, row, strict=True)], 2) for row in zip(*items, strict=True)]
    return _braces([f'"predictions": {_brackets(rows, 1)}'], 0)


def _write_columns(outputs: Mapping[str, Array]) -> str:
    named = len(outputs) > 1
    texts = {name: _folded(name, array, 1 + named, one_line=False)[0] for name, array in outputs.items()}
    if not named:
        return _braces([f'"outputs": {next(iter(texts.values()))}'], 0)
    inner = [f"{json.dumps(name, ensure_ascii=False)}: {text}" for name, text in texts.items()]
    return _braces([f'"outputs": {_braces(inner, 1)}'], 0)


def _folded(name: str, array: Array, depth: int, *, one_line: bool) -> list[str]:
    """An array's JSON: one text when over several lines, else one a row, lists inside it in one line each."""
    inner = array.shape[1:] if one_line else array.shape
    texts = _texts(name, array, depth + len(inner))
    for level in reversed(range(len(inner))):
        groups = math.prod(inner[:level]) * (len(array) if one_line else 1)
        size = inner[level]
        parts = [texts[i * size : (i + 1) * size] for i in range(groups)]
        texts = [f"[{', '.join(part)}]" if one_line else _brackets(part, depth + level) for part in parts]
    return texts


def _texts(name: str, array: Array, depth: int) -> list[str]:
    """Each element's JSON; strings of an output whose name ends in `_bytes` as base64 objects."""
    kind = array.dtype
    if kind.kind == "f" and kind.itemsize <= 8:
        return decimals(array.astype(np.float32) if kind.itemsize == 2 else array)
    if kind == np.bool_:
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if kind.name in WRITABLE:
        return [str(value) for value in array.ravel().tolist()]
    if kind.kind not in "OS":
        raise ServingError.invalid(f"Failed to write JSON value for tensor type: {kind.name}")
    if name.endswith("_bytes"):
        return [_braces([f'"b64": "{base64.b64encode(value).decode()}"'], depth) for value in array.ravel().tolist()]
    decoded = (value.decode("utf-8", "surrogateescape") for value in array.ravel().tolist())
    return [json.dumps(value, ensure_ascii=False) for value in decoded]


def _braces(parts: list[str], depth: int) -> str:
    return f"{{\n{INDENT * (depth + 1)}" + f",\n{INDENT * (depth + 1)}".join(parts) + f"\n{INDENT * depth}}}"


def _brackets(parts: list[str], depth: int) -> str:
    inner = INDENT * (depth + 1)
    return f"[\n{inner}" + f",\n{inner}".join(parts) + f"\n{INDENT * depth}]" if parts else "[]"


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _shape_text(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype_name(dtype: int) -> str:
    name: str = types_pb2.DataType.Name(dtype)
    return name.removeprefix("DT_").lower()
