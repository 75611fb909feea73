"""Replays the requests that were exported with a model before it answers: the first run of a graph plans it."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from stack.model_server.errors import ServingError
from stack.model_server.inference import classify, multi_infer, regress
from stack.model_server.observer import QUIET, Observer
from stack.model_server.predict import predict_once
from stack.model_server.servable import Served

log = logging.getLogger("model_server")
FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000
REPLAYS: dict[str, Callable[[Any, Served], Any]] = {
    "predict_log": predict_once,
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_infer,
}


def replay(servable: Served, path: Path, *, times: int = 1, observer: Observer = QUIET) -> int:
    """Run every record of the version in folder `path`, each `times` times; their number, 0 without a file.

    A record that is none or whose request fails is a ServingError: such a version must not answer.
    """
    file = path / FILE
    if not file.is_file():
        return 0
    started = time.perf_counter()
    try:
        count = _replay(servable, file, times=times)
    except ServingError as error:
        observer.warmup(str(path), error.status, seconds=time.perf_counter() - started)
        raise
    observer.warmup(str(path), "OK", seconds=time.perf_counter() - started)
    log.info("replayed %d warm-up records of %s", count, file)
    return count


def _replay(servable: Served, file: Path, *, times: int) -> int:
    count = 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(file)):
            count += 1
            for _ in range(times):
                _run(servable, record, file)
            if count > MOST_RECORDS:
                raise ServingError.invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}")
    except tf.errors.DataLossError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from None
    return count


def _run(servable: Served, record: bytes, file: Path) -> None:
    message = prediction_log_pb2.PredictionLog()
    try:
        message.ParseFromString(record)
    except DecodeError:
        raise ServingError.invalid(f"Failed to parse warmup record: {record!r} from {file}") from None
    kind = message.WhichOneof("log_type")
    if kind is None:
        return
    if kind not in REPLAYS:
        raise ServingError.unimplemented(
            f"Unsupported log_type for warmup: {message.DESCRIPTOR.fields_by_name[kind].number}"
        )
    REPLAYS[kind](getattr(message, kind).request, servable)
