"""TensorFlow's ProfilerService on the gRPC port: records what the runtime does for a while and writes it where it is told.

`tf.profiler.experimental.client.trace` and TensorBoard ask it. TensorFlow's own server of this service binds every interface,
so the service is answered here, over the profiler session that it uses too. Field numbers are those of
tsl/profiler/protobuf/profiler_service.proto, whose messages the package lacks.
"""

import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from stack.model_server import wire
from stack.model_server.errors import ServingError, code_of
from stack.model_server.varints import varint

DURATION_MS, OPTIONS, ROOT, SESSION, HOST, EMIT = 1, 4, 5, 6, 7, 9  # of ProfileRequest
EMPTY_TRACE, XSPACE = 7, 8  # of ProfileResponse
TERMINATED_SESSION = 1  # of TerminateRequest
LOOK_AGAIN_S = 0.01
MOST_KEPT = 64


@dataclass(frozen=True)
class Asked:
    """A ProfileRequest: how long to record, how, and where to write the trace (or to answer with it)."""

    seconds: float = 0.0
    levels: dict[str, int] = field(default_factory=dict)
    root: str = ""
    session: str = ""
    host: str = ""
    emit: bool = False


class Profiler:
    """Profile and Terminate; Monitor is UNIMPLEMENTED, as TensorFlow's own is without a TPU."""

    NAME = "tensorflow.ProfilerService"

    def __init__(self) -> None:
        self._recording = threading.Lock()
        self._terminated: list[str] = []

    def handlers(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The methods for a gRPC server, bytes in and out."""
        method = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            self.NAME,
            {"Profile": method(self.profile), "Terminate": method(self.terminate), "Monitor": method(self.monitor)},
        )

    def profile(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Record until the time is over, the client has gone or the session is terminated."""
        try:
            asked = read(data)
            space = self._record(asked, context)
            return respond(asked, space)
        except ServingError as error:
            context.abort(error.code, error.details)
        raise AssertionError("abort raises")

    def terminate(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """End the recording of a session."""
        session = next((str(value, "utf-8", "replace") for number, value in _texts(data) if number == 1), "")
        self._terminated = [*self._terminated[-MOST_KEPT:], session]
        return b""

    def monitor(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Refused."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "unimplemented.")
        raise AssertionError("abort raises")

    def _record(self, asked: Asked, context: grpc.ServicerContext) -> bytes:
        """The serialized XSpace of a recording; INTERNAL, as TensorFlow's, while another one goes on."""
        import tensorflow as tf

        if not self._recording.acquire(blocking=False):
            raise ServingError(grpc.StatusCode.INTERNAL, "Another profiler session active.")
        try:
            with tempfile.TemporaryDirectory() as folder:
                tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(**asked.levels))
                # The recording itself is in the trace: one without events, as of an idle server, the client calls none.
                with tf.profiler.experimental.Trace(f"{self.NAME}/Profile"):
                    self._wait(asked, context)
                tf.profiler.experimental.stop()
                return b"".join(path.read_bytes() for path in sorted(Path(folder).rglob("*.xplane.pb")))
        except tf.errors.OpError as error:
            raise ServingError(code_of(error.error_code), error.message) from None
        finally:
            self._recording.release()

    def _wait(self, asked: Asked, context: grpc.ServicerContext) -> None:
        until = time.monotonic() + asked.seconds
        while time.monotonic() < until and context.is_active() and asked.session not in self._terminated:
            time.sleep(LOOK_AGAIN_S)


def read(data: bytes) -> Asked:
    """A ProfileRequest; INTERNAL, as gRPC answers, when it is none."""
    from tensorflow.tsl.profiler.protobuf import profiler_options_pb2

    found: dict[int, Any] = {}
    try:
        for number, _, value in wire.fields(memoryview(data)):
            found[number] = value
        options = profiler_options_pb2.ProfileOptions.FromString(bytes(found.get(OPTIONS, b"")))
        root, session, host = (str(found.get(number, b""), "utf-8") for number in (ROOT, SESSION, HOST))
    except (ValueError, TypeError, DecodeError) as error:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the request is not a ProfileRequest: {error}") from None
    levels = {"host_tracer_level": 2, "device_tracer_level": 1, "python_tracer_level": 0}
    if options.version:  # without one the defaults count, not proto3's zeros
        levels = {name: getattr(options, name) for name in levels}
    duration = options.duration_ms or int(found.get(DURATION_MS, 0))
    return Asked(duration / 1000, levels, root, session, host, bool(found.get(EMIT, 0)))


def respond(asked: Asked, space: bytes) -> bytes:
    """A ProfileResponse; the trace is in it if asked for, else in `root/session/host.xplane.pb`."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    planes = xplane_pb2.XSpace.FromString(space).planes
    response = b"" if any(line.events for plane in planes for line in plane.lines) else _tag(EMPTY_TRACE, 0) + b"\x01"
    if asked.emit:
        return response + _tag(XSPACE, 2) + varint(len(space)) + space
    if asked.root:
        _write(asked, space)
    return response


def _write(asked: Asked, space: bytes) -> None:
    """Write the trace; INVALID_ARGUMENT for names that are paths, UNKNOWN where it cannot be written."""
    for name in (asked.session, asked.host):
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ServingError.invalid(f"{name!r} cannot be a session or a host: it is empty or a path")
    try:
        folder = Path(asked.root) / asked.session
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{asked.host}.xplane.pb").write_bytes(space)
    except (OSError, ValueError) as error:
        raise ServingError(grpc.StatusCode.UNKNOWN, f"the trace cannot be written: {error}") from None


def _tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def _texts(data: bytes) -> list[tuple[int, Any]]:
    try:
        return [(number, value) for number, kind, value in wire.fields(memoryview(data)) if kind == wire.BYTES]
    except ValueError:
        return []
