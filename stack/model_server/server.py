"""Runs the services on their ports and keeps the model table in step with the disk and the configuration file."""

import logging
import sys
import threading
from collections.abc import Callable

import grpc
from tensorflow_serving.config import model_server_config_pb2

from stack.model_server.batching import Batcher
from stack.model_server.config import PLATFORM, ModelConfig
from stack.model_server.errors import ServingError
from stack.model_server.health import handlers as health_handlers
from stack.model_server.loading import loader
from stack.model_server.observer import Tally
from stack.model_server.options import Options
from stack.model_server.pool import Pool
from stack.model_server.profiler import Profiler
from stack.model_server.prometheus import PrometheusObserver
from stack.model_server.protos import Ssl
from stack.model_server.reload import ConfigFile, Configuration, wait_until_available
from stack.model_server.rest import RestOptions, RestServer
from stack.model_server.services import ModelService, PredictionService
from stack.model_server.table import ModelTable

__all__ = ["Options", "Server"]
log = logging.getLogger("model_server")
LOOPBACK = "127.0.0.1"
STOP_GRACE_S = 2.0
ADVANCE_S = 0.1  # between two attempts at what is due and could not be done
# A load is Python for a second or two; a request must not wait for its turn of the interpreter for the default 5 ms.
SWITCH_S = 0.0005


class Server:
    """A running model server; `start()` returns when the configured models answer and the ports are open."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        metrics = PrometheusObserver(options.monitoring.path)
        observer = Tally(metrics)
        self._batcher = Batcher(options.batching, queued=metrics.queued) if options.batching else None
        self._table = ModelTable(
            load=loader(options.load, observer, wrap=self._batcher.wrap if self._batcher else None),
            retries=options.max_num_load_retries,
            retry_wait_s=options.load_retry_interval_s,
            labels_before_load=options.allow_version_labels_for_unavailable_models,
        )
        self._configuration = Configuration(self._table, looks=options.file_system_poll_wait_s >= 0)
        file = options.model_config_file
        self._file = ConfigFile(file, self._configuration) if file else None
        self._grpc = _grpc_server(options)
        self._grpc.add_generic_rpc_handlers((
            PredictionService(self._table, observer, options.rules).handlers(),
            ModelService(self._table, self._configuration, observer).handlers(),
            *([health_handlers()] if options.grpc.health else []),
            *([Profiler().handlers()] if options.grpc.profiler else []),
        ))  # fmt: skip
        self._rest = _rest_server(options, self._table, observer, metrics)

    @property
    def rest_port(self) -> int:
        """The bound REST port; 0 when there is none."""
        return self._rest.port if self._rest else 0

    def start(self) -> int:
        """Configure, load, then open the ports (gRPC's is returned); ServingError when it or a model cannot be had."""
        sys.setswitchinterval(SWITCH_S)
        try:
            self._load_models()
            port = self._open_ports()
        except BaseException:
            self.stop()
            raise
        if self._file is not None:
            self._repeat(self._file.poll, self._options.model_config_file_poll_wait_s)
        log.info("Running gRPC ModelServer at %s:%d ...", LOOPBACK, port)
        return port

    def serves(self, name: str) -> bool:
        """Whether a version of the model answers now."""
        return self._table.serves(name)

    def cancel(self) -> None:
        """End a `start` that still waits for models; safe in a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """End polling, let running requests finish, close the ports and the models."""
        self._stopping.set()
        self._table.wake()
        if self._rest:
            self._rest.stop()
        self._grpc.stop(STOP_GRACE_S).wait()
        for thread in self._threads:
            thread.join()
        self._table.clear(wait_s=STOP_GRACE_S)
        if self._batcher:
            self._batcher.close()

    def _load_models(self) -> None:
        options = self._options
        new = self._file.apply() if self._file else self._configuration.apply(_as_message(options.models))
        if options.open_port_before_models and options.file_system_poll_wait_s >= 0:
            self._table.advance()
        self._repeat(self._table.look, options.file_system_poll_wait_s)
        self._start(self._advance)
        if not options.open_port_before_models:
            wait_until_available(self._table, new, what="servable(s)", going_on=lambda: not self._stopping.is_set())
        if self._stopping.is_set():
            raise ServingError(grpc.StatusCode.CANCELLED, "stopped before the models were available")

    def _open_ports(self) -> int:
        settings = self._options.grpc
        address = f"{LOOPBACK}:{self._options.port}"
        try:
            port = self._listen(address)
            if settings.socket_path:
                self._listen(f"unix:{settings.socket_path}")
        except RuntimeError:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, f"port {self._options.port} is taken or not allowed"
            ) from None
        self._grpc.start()
        self._open_rest(port)
        return port

    def _listen(self, address: str) -> int:
        ssl = self._options.grpc.ssl
        if ssl is None:
            return int(self._grpc.add_insecure_port(address))
        return int(self._grpc.add_secure_port(address, _credentials(ssl)))

    def _open_rest(self, grpc_port: int) -> None:
        """Open the REST port; as upstream, without it gRPC is served all the same."""
        rest = self._options.rest
        if self._rest is None or rest is None:
            return
        if rest.port == grpc_port:
            log.error(
                "--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )
            return
        try:
            self._rest.start()
        except ServingError:
            log.error("Failed to start HTTP Server at localhost:%d", rest.port)
        else:
            log.info("Exporting HTTP/REST API at:localhost:%d ...", self._rest.port)

    def _advance(self) -> None:
        """Load and unload whenever something is due; to look for it ten times a second cost 4 ms a second."""
        while True:
            done = _try(self._table.advance)
            # Asked after `advance`, which may have taken the stop's `wake` for its own news.
            if self._stopping.wait(0.0 if done else ADVANCE_S):
                return
            if done:
                self._table.rest(ADVANCE_S)

    def _repeat(self, work: Callable[[], object], wait_s: float) -> None:
        def loop() -> None:
            while not self._stopping.wait(wait_s):
                _try(work)

        if wait_s > 0:
            self._start(loop)

    def _start(self, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self._threads.append(thread)


def _try(work: Callable[[], object]) -> bool:
    """Whether it was done: whatever goes wrong once must not end the watch over all models."""
    try:
        work()
    except Exception:
        log.exception("%s failed and is tried again", getattr(work, "__qualname__", work))
        return False
    return True


def _grpc_server(options: Options) -> grpc.Server:
    arguments = dict(options.grpc.arguments)
    defaults = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # A request of 216 kB in one window and few frames: 0.06 ms less CPU.
        "grpc.http2.lookahead_bytes": 4 << 20,
        "grpc.http2.max_frame_size": 1 << 20,
        "grpc.so_reuseport": 0,  # else a second server would share the port in silence
    }
    return grpc.server(Pool(options.grpc.threads), options=list((defaults | arguments).items()))


def _rest_server(
    options: Options, table: ModelTable, observer: Tally, metrics: PrometheusObserver
) -> RestServer | None:
    rest, monitoring = options.rest, options.monitoring
    if rest is None:
        return None
    settings = RestOptions(
        port=rest.port,
        threads=rest.threads,
        timeout_s=rest.timeout_s,
        cors=rest.cors,
        metrics_path=monitoring.path if monitoring.enable else "",
        check_method=options.rules.check_method,
    )
    return RestServer(table, observer, settings, page=metrics.page if monitoring.enable else None)


def _credentials(ssl: Ssl) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )


def _as_message(models: tuple[ModelConfig, ...]) -> object:
    """The models of the command line as a file would list them."""
    message = model_server_config_pb2.ModelServerConfig()
    message.model_config_list.SetInParent()
    for model in models:
        row = message.model_config_list.config.add(
            name=model.name, base_path=str(model.base_path), model_platform=PLATFORM
        )
        row.version_labels.update(model.labels)
        if model.policy.specific is not None:
            row.model_version_policy.specific.versions.extend(model.policy.specific)
        elif model.policy.latest is None:
            row.model_version_policy.all.SetInParent()
        else:
            row.model_version_policy.latest.num_versions = model.policy.latest
    return message
