"""tensorflow_model_server's flags, and the options they make. Parsing needs no TensorFlow: --help and --version are quick."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:  # imports TensorFlow: ten seconds that --help need not pay
    from stack.model_server.batching import Rules
    from stack.model_server.options import Grpc, Options, Rest
    from stack.model_server.servable import Threads

USAGE_ERROR = 255
Parsed = TypeVar("Parsed")
# Upstream's flags that change nothing here: taken, so that one command line starts either server.
WITHOUT_EFFECT = (
    "num_load_threads", "num_unload_threads", "flush_filesystem_caches", "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph", "xla_cpu_compilation_enabled", "xla_gpu_compilation_enabled",
    "enable_per_model_batching_parameters", "platform_config_file", "tensorflow_session_config_file",
    "use_alts_credentials", "num_tflite_pools", "num_tflite_interpreters_per_pool", "thread_pool_factory_config_file",
    "mixed_precision", "skip_initialize_tpu",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Ends with upstream's exit code."""

    def error(self, message: str) -> NoReturn:
        """Usage and one sentence on standard error; exit code 255."""
        self.print_usage(sys.stderr)
        sys.stderr.write(f"{message}\n")
        raise SystemExit(USAGE_ERROR)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = Parser(prog="python -m stack.model_server", description="Serve SavedModels as tensorflow_model_server does.",
                   allow_abbrev=False)  # fmt: skip
    _add_ports(flags)
    _add_models(flags)
    _add_running(flags)
    for name in WITHOUT_EFFECT:
        flags.add_argument(f"--{name}", nargs="?", help="taken and without effect")
    return flags


def options(given: argparse.Namespace) -> "Options":
    """What the flags ask for; ServingError or OSError when they contradict each other or a file is not what it should be."""
    from stack.model_server import config, protos
    from stack.model_server.errors import ServingError
    from stack.model_server.loading import LoadOptions
    from stack.model_server.options import Options
    from stack.model_server.services import Rules as AnswerRules

    if not given.model_config_file and not given.model_base_path:
        raise ServingError.invalid(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    if given.batching_parameters_file and not given.enable_batching:
        raise ServingError.invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    return Options(
        port=given.port,
        models=() if given.model_config_file else (config.ModelConfig(given.model_name, Path(given.model_base_path)),),
        model_config_file=Path(given.model_config_file) if given.model_config_file else None,
        model_config_file_poll_wait_s=given.model_config_file_poll_wait_seconds,
        file_system_poll_wait_s=given.file_system_poll_wait_seconds,
        max_num_load_retries=given.max_num_load_retries,
        load_retry_interval_s=given.load_retry_interval_micros / 1e6,
        allow_version_labels_for_unavailable_models=given.allow_version_labels_for_unavailable_models,
        open_port_before_models=given.open_port_before_models,
        load=LoadOptions(
            threads=_threads(given),
            tags=tuple(given.saved_model_tags.split(",")),
            enable_model_warmup=given.enable_model_warmup,
            num_request_iterations_for_warmup=given.num_request_iterations_for_warmup,
            prefer_tflite_model=given.prefer_tflite_model,
        ),
        rules=AnswerRules(given.enable_signature_method_name_check, given.enable_serialization_as_tensor_content),
        batching=_batching(given.batching_parameters_file) if given.enable_batching else None,
        monitoring=_parsed(protos.monitoring, given.monitoring_config_file) or protos.Monitoring(),
        rest=_rest(given),
        grpc=_grpc(given),
    )


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Arguments of a gRPC channel from `name=value,name=value`; a value that reads as a number is one."""
    pairs = [item.split("=", 1) for item in text.split(",") if "=" in item]
    return tuple((name, int(value) if value.lstrip("-").isdigit() else value) for name, value in pairs)


def _add_ports(flags: argparse.ArgumentParser) -> None:
    add, cores = flags.add_argument, os.cpu_count() or 1
    add("--port", type=int, default=8500, help="gRPC port on loopback")
    add("--grpc_socket_path", default="", help="Unix socket to listen on, beside the port")
    add("--grpc_channel_arguments", default="", help="name=value,... for the gRPC server")
    add("--grpc_max_threads", type=int, default=4 * cores, help="gRPC requests that run at once")
    add("--ssl_config_file", default="", help="text file with an SSLConfig: TLS on the gRPC port")
    _add_bool(flags, "enable_grpc_healthcheck_service", help="answer grpc.health.v1.Health/Check")
    add("--rest_api_port", type=int, default=0, help="REST port on loopback; 0: none")
    add("--rest_api_num_threads", type=int, default=4 * cores, help="REST requests that run at once")
    add("--rest_api_timeout_in_ms", type=int, default=30_000, help="longest run of a REST request")
    _add_bool(flags, "rest_api_enable_cors_support", help="CORS headers")
    add("--monitoring_config_file", default="", help="text file with a MonitoringConfig: metrics on the REST port")
    add("--version", action="store_true", help="print the versions and end")


def _add_models(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add("--model_config_file", default="", help="text file with a ModelServerConfig; goes before --model_base_path")
    add("--model_config_file_poll_wait_seconds", type=float, default=0.0, help="interval of reading it again; 0: once")
    add("--model_name", default="default", help="name of the model of --model_base_path")
    add("--model_base_path", default="", help="folder with one sub-folder a version")
    add("--saved_model_tags", default="serve", help="tags of the graph to load, comma-separated")
    add("--file_system_poll_wait_seconds", type=float, default=1.0, help="interval of looking for versions; 0: once")
    add("--max_num_load_retries", type=int, default=5, help="times a failed load is tried again")
    add("--load_retry_interval_micros", type=int, default=60_000_000, help="wait before a load is tried again")
    _add_bool(flags, "allow_version_labels_for_unavailable_models", help="a new label may name a version to come")
    _add_bool(flags, "open_port_before_models", help="not upstream's: answer although a model has no version yet")
    _add_bool(flags, "enable_model_warmup", default=True, help="replay a version's warm-up records before it answers")
    add("--num_request_iterations_for_warmup", type=int, default=1, help="times each record is replayed")


def _add_running(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add(
        "--tensorflow_session_parallelism",
        type=int,
        default=0,
        help="threads inside and between operations; 0: not said",
    )
    add(
        "--tensorflow_intra_op_parallelism",
        type=int,
        help="threads inside an operation; 0: TensorFlow's choice; else 1",
    )
    add("--tensorflow_inter_op_parallelism", type=int, help="threads between operations; 0: TensorFlow's choice")
    _add_bool(flags, "prefer_tflite_model", help="serve a version's model.tflite where there is one")
    _add_bool(flags, "enable_profiler", default=True, help="answer tensorflow.ProfilerService")
    _add_bool(flags, "enable_batching", help="run requests together")
    add("--batching_parameters_file", default="", help="text file with BatchingParameters")
    _add_bool(flags, "enable_signature_method_name_check", help="refuse signatures made for another API")
    _add_bool(flags, "enable_serialization_as_tensor_content", help="answer Predict with raw content")


def _add_bool(flags: argparse.ArgumentParser, name: str, *, help: str, default: bool = False) -> None:
    flags.add_argument(f"--{name}", type=_yes_or_no, nargs="?", const=True, default=default, help=help)


def _threads(given: argparse.Namespace) -> "Threads":
    from stack.model_server.errors import ServingError
    from stack.model_server.servable import Threads

    both, inside, between = (
        given.tensorflow_session_parallelism, given.tensorflow_intra_op_parallelism, given.tensorflow_inter_op_parallelism,
    )  # fmt: skip
    apart = max(inside or 0, between or 0) > 0
    if both > 0 and min(inside or 0, between or 0) > 0:
        raise ServingError.invalid(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) separately. "
            "You cannot configure all."
        )
    if both > 0 and not apart:
        return Threads(both, both)
    default = Threads()
    return Threads(default.inside if inside is None else inside, default.between if between is None else between)


def _rest(given: argparse.Namespace) -> "Rest | None":
    from stack.model_server.options import Rest

    if not given.rest_api_port:
        return None
    return Rest(
        given.rest_api_port, given.rest_api_num_threads, given.rest_api_timeout_in_ms / 1000,
        given.rest_api_enable_cors_support,
    )  # fmt: skip


def _grpc(given: argparse.Namespace) -> "Grpc":
    from stack.model_server import protos
    from stack.model_server.options import Grpc

    return Grpc(
        threads=given.grpc_max_threads,
        socket_path=given.grpc_socket_path,
        arguments=channel_arguments(given.grpc_channel_arguments),
        health=given.enable_grpc_healthcheck_service,
        ssl=_parsed(protos.ssl, given.ssl_config_file),
        profiler=given.enable_profiler,
    )


def _batching(file: str) -> "Rules":
    from stack.model_server import batching

    return _parsed(batching.parameters, file) or batching.parameters("")


def _parsed(parse: Callable[..., Parsed], file: str) -> "Parsed | None":
    """What a text file says; None without a file."""
    from stack.model_server.protos import read_file

    return parse(read_file(file), file=file) if file else None


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: true or false")
    return text.lower() in ("true", "1")
