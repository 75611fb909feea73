"""A TensorFlow Lite model served as a SavedModel is: `--prefer_tflite_model` and a `model.tflite` in the version's folder."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from stack.model_server.errors import ServingError
from stack.model_server.holding import Holding
from stack.model_server.servable import DEFAULT_SIGNATURE, Array, Threads, not_found, too_late

FILE = "model.tflite"
# Where a model's signatures are kept besides the format's own place for them; upstream's test data has them here.
METADATA = b"signature_defs_metadata"
PREDICT = "tensorflow/serving/predict"
DEFAULT_THREADS = Threads()
Details = Mapping[str, Any]


class LiteServable(Holding):
    """A TensorFlow Lite model; one request at a time runs in its interpreter."""

    def __init__(self, path: Path, *, name: str, version: int, threads: Threads = DEFAULT_THREADS) -> None:
        super().__init__()
        self.name = name
        self.version = version
        self._running = threading.Lock()
        self._runners = _runners(path.read_bytes(), threads)
        sides = {
            key: (runner.get_input_details(), runner.get_output_details()) for key, runner in self._runners.items()
        }
        self.signatures: dict[str, Any] = {key: _definition(*both) for key, both in sides.items()}
        self._aliases = {
            key: tuple({_name(detail): alias for alias, detail in side.items()} for side in both)
            for key, both in sides.items()
        }

    def signature(self, name: str) -> Any:
        """The SignatureDef of that name; FAILED_PRECONDITION when there is none."""
        if name not in self.signatures:
            raise not_found(name)
        return self.signatures[name]

    def run(
        self, signature: str, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The named outputs for inputs that were checked; INTERNAL when the interpreter cannot run them."""
        if timeout_s is not None and timeout_s <= 0:
            raise too_late()
        runner = self._runners[signature]
        with self._running:
            try:
                details = runner.get_input_details()
                out = runner(**{alias: _fitted(array, details[alias]) for alias, array in feeds.items()})
            except (RuntimeError, ValueError, TypeError) as error:
                raise ServingError(grpc.StatusCode.INTERNAL, f"Failed to run interpreter. {error}") from None
            return [out[alias] for alias in fetches]

    def run_tensors(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The same by the names of tensors, all of one signature."""
        for signature, (inputs, outputs) in self._aliases.items():
            if inputs.keys() == feeds.keys() and outputs.keys() >= set(fetches):
                sent = {inputs[tensor]: array for tensor, array in feeds.items()}
                return self.run(signature, sent, [outputs[tensor] for tensor in fetches], timeout_s=timeout_s)
        raise ServingError.invalid(f"Missing input TFLite tensor: {', '.join(sorted(feeds))}")


class TensorRunner:
    """Runs an interpreter's tensors under aliases, as the interpreter's own runner does for a signature of the file."""

    def __init__(self, interpreter: Any, inputs: Details, outputs: Details) -> None:
        self._interpreter = interpreter
        self._inputs = {alias: detail["index"] for alias, detail in inputs.items()}
        self._outputs = outputs

    def get_input_details(self) -> Details:
        """What the interpreter says of each input now, by alias."""
        details = {detail["index"]: detail for detail in self._interpreter.get_input_details()}
        return {alias: details[index] for alias, index in self._inputs.items()}

    def get_output_details(self) -> Details:
        """What the interpreter said of each output, by alias."""
        return self._outputs

    def __call__(self, **feeds: Array) -> dict[str, Array]:
        """All outputs by alias."""
        for alias, array in feeds.items():
            self._interpreter.resize_tensor_input(self._inputs[alias], array.shape)
        self._interpreter.allocate_tensors()
        for alias, array in feeds.items():
            self._interpreter.set_tensor(self._inputs[alias], array)
        self._interpreter.invoke()
        return {alias: self._interpreter.get_tensor(detail["index"]) for alias, detail in self._outputs.items()}


def _runners(content: bytes, threads: Threads) -> dict[str, Any]:
    """A runner by signature: the file's own, else those in its metadata, else one of its tensors by their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter will move to another package
        try:
            interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads.inside or None)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ServingError.invalid(f"Cannot build FlatBufferModel from buffer. {error}") from None
    own = {key: interpreter.get_signature_runner(key) for key in interpreter.get_signature_list()}
    if own:
        return own
    inputs, outputs = (
        {_name(detail): detail for detail in details}
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    made = {
        key: TensorRunner(interpreter, _named(definition.inputs, inputs), _named(definition.outputs, outputs))
        for key, definition in _signatures_in_metadata(content).items()
    }
    if len(made) > 1:
        return made
    # As upstream: a model's only signature is the default one, whatever its key.
    return {DEFAULT_SIGNATURE: next(iter(made.values()), None) or TensorRunner(interpreter, inputs, outputs)}


def _named(declared: Any, details: Details) -> Details:
    """The details of a signature's tensors by alias; INTERNAL when the model lacks one."""
    try:
        return {alias: details[_bare(info.name)] for alias, info in declared.items()}
    except KeyError as error:
        raise ServingError(
            grpc.StatusCode.INTERNAL, f"Cannot find the signature's tensor {error} in the model"
        ) from None


def _signatures_in_metadata(content: bytes) -> dict[str, Any]:
    """The SignatureDefs in a model's metadata, a FlexBuffer map from key to serialized message."""
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for metadata in (model.Metadata(place) for place in range(model.MetadataLength())):
        if metadata.Name() == METADATA:
            found = flexbuffers.GetRoot(bytearray(model.Buffers(metadata.Buffer()).DataAsNumpy())).AsMap
            # A key at a time, and bytes: a serialized message is no text.
            return {
                key.AsKey: meta_graph_pb2.SignatureDef.FromString(bytes(value.AsStringBytes))
                for key, value in zip(found.Keys, found.Values, strict=True)
            }
    return {}


def _fitted(array: Array, detail: Any) -> Array:
    """The array in the input's own shape where it has as many numbers, as upstream copies it; else as it is."""
    shape = detail["shape"]
    fits = array.dtype != object and array.size == prod(int(size) for size in shape)
    return array.reshape(shape) if fits else array


def _definition(inputs: Details, outputs: Details) -> Any:
    definition = meta_graph_pb2.SignatureDef(method_name=PREDICT)
    for side, into in ((inputs, definition.inputs), (outputs, definition.outputs)):
        for alias, detail in side.items():
            info = into[alias]
            info.name = _name(detail)
            info.dtype = tf.dtypes.as_dtype(np.dtype(detail["dtype"]).type).as_datatype_enum
            info.tensor_shape.SetInParent()
            signature = detail["shape_signature"]
            for size in signature if len(signature) else detail["shape"]:
                info.tensor_shape.dim.add().size = int(size)
    return definition


def _name(detail: Any) -> str:
    return _bare(str(detail["name"]))


def _bare(name: str) -> str:
    """A TensorFlow tensor's name as TensorFlow Lite has it, without `:0`."""
    return name.removesuffix(":0")
