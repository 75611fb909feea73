"""Runs the services on a port and keeps the model table in step with the disk and the configuration file."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from stack.model_server.config import ModelConfig, parse
from stack.model_server.errors import ServingError
from stack.model_server.services import ModelService, PredictionService
from stack.model_server.table import ModelTable

log = logging.getLogger("model_server")
LOOPBACK = "127.0.0.1"
STOP_GRACE_S = 2.0


@dataclass(frozen=True)
class Options:
    """How the server runs; names follow upstream's flags. Seconds; a wait of 0 looks once, below 0 never."""

    port: int
    models: tuple[ModelConfig, ...] = ()
    model_config_file: Path | None = None
    model_config_file_poll_wait_s: float = 0.0
    file_system_poll_wait_s: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    allow_version_labels_for_unavailable_models: bool = False
    grpc_max_threads: int = 8


class Server:
    """A running model server; `start()` returns when the models on disk are loaded and the port is open."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._table = ModelTable(
            retries=options.max_num_load_retries,
            retry_wait_s=options.load_retry_interval_s,
            labels_before_load=options.allow_version_labels_for_unavailable_models,
        )
        self._text = ""
        self._complaint = ""
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._grpc = grpc.server(
            ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="rpc"),
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else a second server would share the port in silence
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self._table), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._table), self._grpc)

    def start(self) -> int:
        """Configure, look at the disk once, open the port (returned); ServingError when one of them cannot be."""
        self._reload(strict=True)
        options = self._options
        if options.file_system_poll_wait_s >= 0:
            self._table.poll()
        try:
            port = self._grpc.add_insecure_port(f"{LOOPBACK}:{options.port}")
        except RuntimeError:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, f"port {options.port} is taken or not allowed") from None
        self._grpc.start()
        self._repeat(self._table.poll, options.file_system_poll_wait_s)
        if options.model_config_file is not None:
            self._repeat(lambda: self._reload(strict=False), options.model_config_file_poll_wait_s)
        log.info("listening on %s:%d", LOOPBACK, port)
        return int(port)

    def serves(self, name: str) -> bool:
        """Whether a version of the model answers now."""
        return self._table.serves(name)

    def stop(self) -> None:
        """End polling, let running requests finish, close the port."""
        self._stopping.set()
        self._grpc.stop(STOP_GRACE_S).wait()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], None], wait_s: float) -> None:
        if wait_s <= 0:
            return

        def loop() -> None:
            while not self._stopping.wait(wait_s):
                work()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _reload(self, *, strict: bool) -> None:
        """Apply the configuration file if its text is not in force; when not strict a bad one is only logged."""
        file = self._options.model_config_file
        try:
            text = file.read_text() if file else ""
            if text == self._text and not strict:
                return
            self._table.configure(parse(text, file=str(file)) if file else self._options.models)
            self._text, self._complaint = text, ""
        except (OSError, ServingError) as error:
            if strict:
                raise ServingError.invalid(f"Failed to start server. Error: {error}") from None
            if str(error) != self._complaint:
                log.error("configuration not applied, the one before stays: %s", error)
            self._complaint = str(error)
