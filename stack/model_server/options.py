"""How a model server runs: one frozen value, named after upstream's flags."""

from dataclasses import dataclass, field
from pathlib import Path

from stack.model_server import protos
from stack.model_server.batching import Rules as BatchRules
from stack.model_server.config import ModelConfig
from stack.model_server.loading import LoadOptions
from stack.model_server.services import Rules


@dataclass(frozen=True)
class Rest:
    """The REST port."""

    port: int  # 0 takes a free one
    threads: int = 8
    timeout_s: float = 30.0  # of a request
    cors: bool = False


@dataclass(frozen=True)
class Grpc:
    """The gRPC port."""

    threads: int = 8  # requests that run at once
    socket_path: str = ""  # a Unix socket, beside the port
    arguments: tuple[tuple[str, int | str], ...] = ()  # of the channel, in gRPC core's names
    health: bool = False  # answer grpc.health.v1.Health
    profiler: bool = True  # answer tensorflow.ProfilerService
    ssl: protos.Ssl | None = None  # None: plain text


@dataclass(frozen=True)
class Options:
    """How the server runs. Seconds; a wait of 0 looks once, below 0 never."""

    port: int
    models: tuple[ModelConfig, ...] = ()
    model_config_file: Path | None = None
    model_config_file_poll_wait_s: float = 0.0
    file_system_poll_wait_s: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    allow_version_labels_for_unavailable_models: bool = False
    # Not upstream's: open the port although a model has no version yet or none that loads.
    open_port_before_models: bool = False
    load: LoadOptions = field(default_factory=LoadOptions)
    rules: Rules = field(default_factory=Rules)
    batching: BatchRules | None = None  # None: every request runs alone
    monitoring: protos.Monitoring = field(default_factory=protos.Monitoring)
    rest: Rest | None = None  # None: no REST port
    grpc: Grpc = Grpc()
