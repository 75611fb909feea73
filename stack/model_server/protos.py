"""Text-format configuration whose messages the tensorflow-serving-api package lacks: monitoring, TLS and batching."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from stack.model_server.errors import ServingError, code_of

log = logging.getLogger("model_server")
PACKAGE = "tensorflow.serving"
METRICS_PATH = "/monitoring/prometheus/metrics"
INT64, STRING, BOOL = ".google.protobuf.Int64Value", ".google.protobuf.StringValue", ".google.protobuf.BoolValue"
# Message, then its fields as (name, type) in the order of their numbers from 1; `*` repeats.
MESSAGES = {
    "PrometheusConfig": [("enable", "bool"), ("path", "string")],
    "MonitoringConfig": [("prometheus_config", f".{PACKAGE}.PrometheusConfig")],
    "SSLConfig": [("server_key", "string"), ("server_cert", "string"), ("custom_ca", "string"), ("client_verify", "bool")],
    "BatchingParameters": [
        ("max_batch_size", INT64),
        ("batch_timeout_micros", INT64),
        ("max_enqueued_batches", INT64),
        ("num_batch_threads", INT64),
        ("thread_pool_name", STRING),
        ("allowed_batch_sizes", "*int64"),
        ("pad_variable_length_inputs", "bool"),
        ("enable_large_batch_splitting", BOOL),
        ("max_execution_batch_size", INT64),
    ],
}  # fmt: skip
PLAIN = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}


@dataclass(frozen=True)
class Monitoring:
    """Whether and under which path the REST port gives Prometheus metrics."""

    enable: bool = False
    path: str = METRICS_PATH


@dataclass(frozen=True)
class Ssl:
    """TLS of the gRPC port: PEM texts of key, certificate and the authority clients must be signed by."""

    server_key: str = ""
    server_cert: str = ""
    custom_ca: str = ""
    client_verify: bool = False


@dataclass(frozen=True)
class Batching:
    """How requests are put together; None leaves the scheduler's default. Sizes count rows of dimension 0."""

    max_batch_size: int | None = None
    batch_timeout_micros: int | None = None
    max_enqueued_batches: int | None = None
    num_batch_threads: int | None = None
    thread_pool_name: str | None = None
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None


def monitoring(text: str, *, file: str = "") -> Monitoring:
    """A text-format MonitoringConfig; INVALID_ARGUMENT when it is none."""
    config = _parse(text, "MonitoringConfig", file).prometheus_config
    return Monitoring(config.enable, config.path or METRICS_PATH)


def ssl(text: str, *, file: str = "") -> Ssl:
    """A text-format SSLConfig; INVALID_ARGUMENT when it is none."""
    message = _parse(text, "SSLConfig", file)
    return Ssl(message.server_key, message.server_cert, message.custom_ca, message.client_verify)


def batching(text: str, *, file: str = "") -> Batching:
    """A text-format BatchingParameters; INVALID_ARGUMENT when it is none. Its values are checked where they are used."""
    message = _parse(text, "BatchingParameters", file)

    def given(name: str) -> Any:
        return getattr(message, name).value if message.HasField(name) else None

    return Batching(
        max_batch_size=given("max_batch_size"),
        batch_timeout_micros=given("batch_timeout_micros"),
        max_enqueued_batches=given("max_enqueued_batches"),
        num_batch_threads=given("num_batch_threads"),
        thread_pool_name=given("thread_pool_name"),
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        enable_large_batch_splitting=bool(given("enable_large_batch_splitting")),
        max_execution_batch_size=given("max_execution_batch_size"),
    )


def read_file(path: str | Path) -> str:
    """The text of a configuration file; where it cannot be read, the file system's own status in TensorFlow's words."""
    try:
        return str(tf.io.gfile.GFile(str(path)).read())
    except tf.errors.OpError as error:
        raise ServingError(code_of(error.error_code), error.message) from None
    except ValueError:
        raise ServingError.invalid(f"Invalid protobuf file: '{path}'") from None


def _parse(text: str, name: str, file: str) -> Any:
    message = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))()
    try:
        text_format.Parse(text, message, descriptor_pool=_POOL)
    except text_format.ParseError as error:
        log.error("Error parsing text-format %s.%s: %s", PACKAGE, name, error)
        raise ServingError.invalid(f"Invalid protobuf file: '{file}'") from None
    return message


def _pool() -> descriptor_pool.DescriptorPool:
    """The messages in a pool of their own: the default one may hold upstream's some day."""
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="livefeed/model_server.proto", package=PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            row = message.field.add(name=field, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
            if kind.startswith("*"):
                row.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
            if kind.startswith("."):
                row.type, row.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, kind
            else:
                row.type = PLAIN[kind.removeprefix("*")]
    pool = descriptor_pool.DescriptorPool()
    for item in (wrappers, file):
        pool.Add(item)
    return pool


_POOL = _pool()
