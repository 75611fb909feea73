"""`livefeed bench rank --json`: 500 candidates ranked over gRPC by our server in a process of its own, and in process.

Two models: the reference ranker and the ranker as training exports it (benchmarks/production_ranker.py, trained here). Each
is asked in turns, in blocks, by every way there is, so that a busy machine is busy for all: in process as TensorFlow's guide
has it (a loaded SavedModel's signature on tensors of the arrays), in process by a session's callable on the caller's own
thread (what the server runs, and the least there is), by the proxy's client, and, for the reference, by a plain client:
TensorFlow's own tensor protos, or lists of numbers, to a server with the default threads. CPU is that of client and server
together, from the operating system. The ratios are of what a call costs around the model: the faster the model, the larger.
The bar is on the first; the second is reported beside it.
"""

from serving.tf_serving import TfServing  # first: it sets how gRPC works, which is read when gRPC is imported

# isort: split
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import psutil

from benchmarks import production_ranker, reference_ranker
from benchmarks.feed import percentile
from benchmarks.own_parts import cpu_s
from benchmarks.result import BenchError, Result, bar
from serving.errors import ModelUnavailable
from settings import Settings
from stack.catalogue import with_free_ports
from stack.part import Part, listens, python
from stack.processes import launch, stop

CANDIDATES = 500
WARM, BLOCKS, CALLS = 30, 20, 25
START_TIMEOUT_S = 180.0
REFERENCE, PRODUCTION = "reference", "production"
CALLER_THREAD = -1  # TensorFlow's name for it: no hand-over to a pool (0.47 ms against 0.59 on two busy cores)
IN_PROCESS = ("in_process", "session")
MAX_RATIO = 2.0  # of the wall time over gRPC to that of the loaded signature in process
# TensorFlow's own choice of threads, as tensorflow_model_server starts without flags.
DEFAULT_THREADS = ("--tensorflow_intra_op_parallelism=0", "--tensorflow_inter_op_parallelism=0")
Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
Say = Callable[[str], None]


@dataclass
class Way:
    """One way of asking a model, and what it took: wall seconds by call, CPU seconds in all."""

    name: str
    ask: Callable[[], Any]
    server: psutil.Process | None = None
    walls: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def block(self, calls: int) -> None:
        """Ask so many times."""
        before = self._cpu()
        for _ in range(calls):
            begun = time.perf_counter()
            self.ask()
            self.walls.append(time.perf_counter() - begun)
        self.cpu_s += self._cpu() - before

    def figures(self) -> dict[str, float | None]:
        """p50 and p99 wall and mean CPU, in ms."""
        p50, p99 = (percentile(self.walls, share) for share in (0.5, 0.99))
        return {
            f"{self.name}_p50_ms": None if p50 is None else p50 * 1e3,
            f"{self.name}_p99_ms": None if p99 is None else p99 * 1e3,
            f"{self.name}_cpu_ms": self.cpu_s / len(self.walls) * 1e3,
        }

    def _cpu(self) -> float:
        return time.process_time() + (cpu_s(self.server) if self.server else 0.0)


def measure(settings: Settings, seed: int, say: Say) -> Result:
    """Export both models, start both servers, ask in turns, and hold the gRPC times against those in process."""
    with tempfile.TemporaryDirectory(prefix="livefeed-bench-") as folder:
        base = Path(folder)
        say("exporting the reference ranker, training and exporting the production ranker")
        reference_ranker.export(base / REFERENCE / "1", seed)
        named, packed = production_ranker.export(base / PRODUCTION / "1", seed)
        wanted = reference_ranker.inputs(np.random.default_rng(seed), CANDIDATES)
        with _server(settings, base, "ours") as ours, _server(settings, base, "default", *DEFAULT_THREADS) as default:
            ways = [
                *_reference_ways(base, wanted, ours, default),
                *_production_ways(base, {"rank": _some(named), "rank_packed": _some(packed)}, ours),
            ]
            say(f"asking {len(ways)} ways in turns, {BLOCKS * CALLS} times each")
            take_turns(ways)
    return _result(ways, seed)


def take_turns(ways: Sequence[Way], *, warm: int = WARM, blocks: int = BLOCKS, calls: int = CALLS) -> None:
    """Warm every way, then ask them block by block in turns, without the garbage collector's pauses."""
    for way in ways:
        for _ in range(warm):
            way.ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(blocks):
            for way in ways:
                way.block(calls)
    finally:
        gc.enable()


def loaded_signature(folder: Path, signature: str, inputs: Tensors) -> Callable[[], Array]:
    """A SavedModel's function as TensorFlow's guide calls it: arrays to tensors, the signature, its output as an array."""
    import tensorflow as tf

    run = tf.saved_model.load(str(folder)).signatures[signature]

    def ask() -> Array:
        scores: Array = run(**{name: tf.constant(array) for name, array in inputs.items()})["scores"].numpy()
        return scores

    return ask


def session_callable(folder: Path, signature: str, inputs: Tensors) -> Callable[[], Array]:
    """A SavedModel's function as a session's callable, one thread: what the server itself runs."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    v1 = tf.compat.v1
    config = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    session = v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        loaded = v1.saved_model.loader.load(session, [tf.saved_model.SERVING], str(folder))
    definition = loaded.signature_def[signature]
    options = config_pb2.CallableOptions()
    options.feed.extend(definition.inputs[name].name for name in inputs)
    options.fetch.append(definition.outputs[reference_ranker.OUTPUT].name)
    options.run_options.inter_op_thread_pool = CALLER_THREAD
    run, feeds = session._make_callable_from_options(options), tuple(inputs.values())
    return lambda: run(*feeds)[0]


@dataclass(frozen=True)
class _Server:
    address: str
    process: psutil.Process


@contextmanager
def _server(settings: Settings, base: Path, name: str, *flags: str) -> Iterator[_Server]:
    """Our model server on a free port with both models, until the block ends; BenchError when it does not come up."""
    port = with_free_ports(settings).model_server_port
    rows = "".join(
        f'  config {{ name: "{model}" base_path: "{base / model}" model_platform: "tensorflow" }}\n'
        for model in (REFERENCE, PRODUCTION)
    )
    config = base / f"{name}.config"
    config.write_text(f"model_config_list {{\n{rows}}}\n")
    command = python("stack.model_server", f"--port={port}", f"--model_config_file={config}", *flags)
    part = Part(name, command, base / f"{name}.log", ready=lambda: listens(settings.host, port), ports=(port,))
    running, process = launch(part, {})
    try:
        _wait_until_served(part, process, address := f"{settings.host}:{port}")
        yield _Server(address, psutil.Process(process.pid))
    finally:
        stop(part, running)
        process.wait()


def _wait_until_served(part: Part, process: Any, address: str) -> None:
    client, deadline = TfServing(address), time.monotonic() + START_TIMEOUT_S
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if all("AVAILABLE" in {v.state for v in client.status(model)} for model in (REFERENCE, PRODUCTION)):
                    return
            except ModelUnavailable:
                pass
            time.sleep(0.2)
    finally:
        client.close()
    tail = part.log.read_text(errors="replace").strip()[-300:]
    raise BenchError(f"the model server for the benchmark did not serve both models: {tail}")


def _reference_ways(base: Path, inputs: Tensors, ours: _Server, default: _Server) -> list[Way]:
    return [
        Way("reference_in_process", loaded_signature(base / REFERENCE / "1", "rank", inputs)),
        Way("reference_session", session_callable(base / REFERENCE / "1", "rank", inputs)),
        Way("reference_grpc", _client(ours, REFERENCE, "rank", inputs), ours.process),
        Way("reference_plain_protos", _plain_client(default, inputs, lists=False), default.process),
        Way("reference_plain_lists", _plain_client(default, inputs, lists=True), default.process),
    ]


def _production_ways(base: Path, inputs: Mapping[str, Tensors], ours: _Server) -> list[Way]:
    ways = []
    for signature, tensors in inputs.items():
        ways += [
            Way(f"production_{signature}_in_process", loaded_signature(base / PRODUCTION / "1", signature, tensors)),
            Way(f"production_{signature}_session", session_callable(base / PRODUCTION / "1", signature, tensors)),
            Way(f"production_{signature}_grpc", _client(ours, PRODUCTION, signature, tensors), ours.process),
        ]
    return ways


def _client(server: _Server, model: str, signature: str, inputs: Tensors) -> Callable[[], Array]:
    """The proxy's client."""
    client = TfServing(server.address)
    return lambda: client.predict(model, inputs, version=1, signature=signature, timeout_s=10.0)["scores"]


def _plain_client(server: _Server, inputs: Tensors, *, lists: bool) -> Callable[[], Array]:
    """A client as the tutorials write it: the published stubs, tensors by make_tensor_proto or as lists of numbers."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    channel = grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask() -> Array:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = REFERENCE, "rank"
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(_as_lists(array) if lists else tf.make_tensor_proto(array))
        scores: Array = tf.make_ndarray(stub.Predict(request, 10.0).outputs["scores"])
        return scores

    return ask


def _as_lists(array: Array) -> Any:
    from tensorflow.core.framework import tensor_pb2, types_pb2

    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT if array.dtype == np.float32 else types_pb2.DT_INT32)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    (proto.float_val if array.dtype == np.float32 else proto.int_val).extend(array.ravel().tolist())
    return proto


def _some(tensors: Tensors) -> dict[str, Array]:
    """The first candidates; what has one row keeps it."""
    return {name: np.ascontiguousarray(array[:CANDIDATES]) for name, array in tensors.items()}


def _result(ways: Sequence[Way], seed: int) -> Result:
    figures: dict[str, float | None] = {}
    baseline: dict[str, float | None] = {}
    for way in ways:
        (figures if way.name.endswith("_grpc") else baseline).update(way.figures())
    held = [way.name.removesuffix("_grpc") for way in ways if way.name.endswith("_grpc")]
    for name in held:
        there = [against for against in IN_PROCESS if f"{name}_{against}_p50_ms" in baseline]
        for against, unit in product(there, ("p50", "cpu")):
            own, over = baseline[f"{name}_{against}_{unit}_ms"], figures[f"{name}_grpc_{unit}_ms"]
            figures[f"{name}_{unit}_over_{against}"] = over / own if own and over else None
    bars = tuple(bar(figures, f"{name}_p50_over_in_process", "<=", MAX_RATIO) for name in held)
    return Result(bench="rank", figures=figures, baseline=baseline, bars=bars, seed=seed)
