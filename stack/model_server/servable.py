"""One loaded SavedModel: its session, its signatures, and running them on numpy arrays as the C++ server would."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session as runtime

from stack.model_server.errors import ServingError, code_of
from stack.model_server.holding import Holding

DEFAULT_SIGNATURE = "serving_default"
Array = np.ndarray[Any, Any]
CALLER_THREAD = -1
CALLABLES = 32
FIRST_RUN_TIMEOUT_S = 30.0
UNKNOWN_OPERATION = "Op type not registered"
GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
# Kernels whose run has no end of its own: a run with one of these is given the request's deadline.
ENDLESS = frozenset({
    "While", "StatelessWhile", "Enter", "PyFunc", "EagerPyFunc", "QueueDequeue", "QueueDequeueV2", "QueueDequeueManyV2",
    "IteratorGetNext", "Unstage", "StagePeek", "MapUnstage", "Recv",
})  # fmt: skip


@dataclass(frozen=True)
class Threads:
    """Threads of TensorFlow's runtime; they are the process's, so the first model loaded decides for all.

    One thread inside an operation, and every run on its caller's thread: requests run beside each other instead. `between`
    serves the graphs with loops alone, which run under a deadline. 0 leaves a number to TensorFlow: one a core.
    """

    inside: int = 1
    between: int = 0


class Served(Protocol):
    """What the services ask of a loaded model; batching wraps one of these in another."""

    name: str
    version: int
    signatures: dict[str, Any]

    def signature(self, name: str) -> Any:
        """The SignatureDef of that name; FAILED_PRECONDITION when there is none."""

    def run(
        self, signature: str, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The named outputs of a signature for inputs that were checked."""

    def run_tensors(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The same by the names of the graph's tensors."""

    def hold(self) -> bool:
        """Keep it open until `let_go`; False when it is closed or about to be."""

    def let_go(self) -> None:
        """End one `hold`."""

    def close(self, *, wait_s: float | None = None) -> bool:
        """Free it once nobody holds it; False when somebody still does after `wait_s` seconds (None: as long as it takes)."""


class Servable(Holding):
    """A SavedModel in a session of its own; `hold()` before use and `let_go()` after it."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        version: int,
        threads: Threads = Threads(),
        tags: Sequence[str] = (tf.saved_model.SERVING,),
    ) -> None:
        super().__init__()
        self.name = name
        self.version = version
        self._session, graph = _open(path, threads, tags)
        self.signatures: dict[str, Any] = dict(graph.signature_def)
        self._tensors = {key: _tensor_names(definition) for key, definition in self.signatures.items()}
        self._endless = _may_not_end(graph.graph_def)
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._run_each_once()

    def signature(self, name: str) -> Any:
        """The SignatureDef of that name; FAILED_PRECONDITION when there is none."""
        if name not in self.signatures:
            raise not_found(name)
        return self.signatures[name]

    def run(
        self, signature: str, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The named outputs for inputs that were checked; a failing operation keeps TensorFlow's code and words."""
        inputs, outputs = self._tensors[signature]
        tensors = {inputs[name]: array for name, array in feeds.items()}
        return self.run_tensors(tensors, [outputs[name] for name in fetches], timeout_s=timeout_s)

    def run_tensors(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Array]:
        """The same by the names of the graph's tensors; DEADLINE_EXCEEDED when there is no time or the run takes longer."""
        if timeout_s is not None and timeout_s <= 0:
            raise too_late()
        try:
            if self._endless and timeout_s is not None:
                return self._run_timed(feeds, fetches, timeout_s)
            names = tuple(sorted(feeds))
            run, order = self._callable(names, tuple(fetches))
            out: list[Array] = run(*[feeds[name] for name in names])
        except tf.errors.OpError as error:
            raise ServingError(code_of(error.error_code), error.message) from None
        return out if order is None else [out[place] for place in order]

    def _free(self) -> None:
        self._callables.clear()
        self._session.close()

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> tuple[Any, list[int] | None]:
        """A prepared run and, where it fetches in another order, the places of `fetches` in it.

        One is kept for each set of outputs, whatever their order, up to a bound; above it all outputs beside these inputs are
        computed. A client's filters must not grow the server.
        """
        known = self._callables.get((feeds, fetches))
        if known is not None:
            return known, None
        ordered = tuple(sorted(set(fetches)))
        if len(self._callables) >= CALLABLES:
            ordered = tuple(sorted({*fetches, *self._outputs_beside(feeds)}))
        run = self._callables.get((feeds, ordered))
        if run is None:
            # Two threads may both make it; either is right, and the last one stays.
            run = self._callables[feeds, ordered] = self._prepare(feeds, ordered)
        return run, None if ordered == fetches else [ordered.index(name) for name in fetches]

    def _outputs_beside(self, feeds: tuple[str, ...]) -> Iterable[str]:
        for definition in self.signatures.values():
            if {info.name for info in definition.inputs.values()} == set(feeds):
                yield from (info.name for info in definition.outputs.values())

    def _prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Any:
        """A callable without Session.run's static shape check, which the C++ server does not make either."""
        options = config_pb2.CallableOptions()
        options.feed.extend(feeds)
        options.fetch.extend(fetches)
        # In the pool, one thread would run the operations of all requests one after the other.
        options.run_options.inter_op_thread_pool = CALLER_THREAD
        return self._session._make_callable_from_options(options)

    def _run_timed(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_s: float) -> list[Array]:
        """A run that TensorFlow cancels; it costs a thread's hand-over more than a callable, hence for graphs with loops."""
        options = config_pb2.RunOptions(timeout_in_ms=max(1, int(timeout_s * 1000)))
        tensor = self._session.graph.get_tensor_by_name
        buffer = runtime.TF_NewBufferFromString(options.SerializeToString())
        try:
            fed = {tensor(name)._as_tf_output(): array for name, array in feeds.items()}
            fetched = [tensor(name)._as_tf_output() for name in fetches]
            out: list[Array] = self._session._call_tf_sessionrun(buffer, fed, fetched, [], None)
        finally:
            runtime.TF_DeleteBuffer(buffer)
        return out

    def _run_each_once(self) -> None:
        """Run each signature once on zeros: the first run plans the graph, which must not cost a viewer's request."""
        for name, definition in self.signatures.items():
            if name.startswith("__") or not definition.inputs or not definition.outputs:
                continue
            feeds = {key: _zeros(info) for key, info in definition.inputs.items()}
            # Zeros may be outside what a model accepts; then its first request plans the graph.
            with suppress(ServingError):
                self.run(name, feeds, sorted(definition.outputs), timeout_s=FIRST_RUN_TIMEOUT_S)


def _open(path: Path, threads: Threads, tags: Sequence[str]) -> tuple[Any, Any]:
    """A session with a SavedModel in it and the MetaGraphDef; a graph of TF Text is tried again with its operations."""
    for last in (False, True):
        session = tf.compat.v1.Session(graph=tf.Graph(), config=_session_config(threads))
        try:
            return session, _load(session, path, tags)
        except BaseException as error:
            session.close()
            if last or UNKNOWN_OPERATION not in str(error) or not _register_text_operations():
                raise
    raise AssertionError("the last try returns or raises")


def _register_text_operations() -> bool:
    """Load TF Text's operations, which upstream has built in; False where that package is not installed."""
    try:
        importlib.import_module("tensorflow_text")
    except ImportError:
        return False
    return True


def _session_config(threads: Threads) -> Any:
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads.inside, inter_op_parallelism_threads=threads.between
    )


def _load(session: Any, path: Path, tags: Sequence[str]) -> Any:
    """The MetaGraphDef of a SavedModel, loaded into the session; failures in the C++ loader's words."""
    if not any((path / name).is_file() for name in GRAPHS):
        raise ServingError.not_found(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check that the directory "
            "exists and that you have the right permissions for accessing it."
        )
    try:
        with session.graph.as_default():
            return tf.compat.v1.saved_model.loader.load(session, list(tags), str(path))
    except OSError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"Can't parse {path / GRAPHS[0]} as binary proto: {error}"
        ) from None
    except RuntimeError as error:
        if "MetaGraphDef associated with tags" not in str(error):
            raise
        raise ServingError.not_found(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available tag-sets "
            "in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        ) from None


def _tensor_names(definition: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The graph's names of a signature's inputs and outputs."""
    inputs, outputs = (
        {key: info.name for key, info in part.items()} for part in (definition.inputs, definition.outputs)
    )
    return inputs, outputs


def _may_not_end(graph: Any) -> bool:
    nodes = [graph.node, *(function.node_def for function in graph.library.function)]
    return any(node.op in ENDLESS for group in nodes for node in group)


def not_found(signature: str) -> ServingError:
    """What a model without that signature answers."""
    return ServingError.precondition(f'Serving signature key "{signature}" not found.')


def too_late() -> ServingError:
    """What a request with no time left is answered."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out before the model was run")


def _zeros(info: Any) -> Array:
    """An input of the declared type with 1 for every unknown dimension."""
    shape = [1] if info.tensor_shape.unknown_rank else [max(1, dim.size) for dim in info.tensor_shape.dim]
    kind = tf.dtypes.as_dtype(info.dtype)
    return np.full(shape, b"", dtype=object) if kind == tf.string else np.zeros(shape, dtype=kind.as_numpy_dtype)
