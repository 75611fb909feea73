"""`python -m stack.model_server --port=18500 --model_config_file=...`: serve SavedModels over TensorFlow Serving's gRPC.

The flags are tensorflow_model_server's.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports TensorFlow: ten seconds that --help need not pay
    from stack.model_server.server import Server


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="python -m stack.model_server", description=__doc__)
    add = flags.add_argument
    add("--port", type=int, default=8500, help="gRPC port on loopback")
    add("--model_config_file", default="", help="text file with a ModelServerConfig")
    add(
        "--model_config_file_poll_wait_seconds",
        type=float,
        default=0.0,
        help="interval of reading it again; 0 reads once",
    )
    add("--model_name", default="default", help="name of the model of --model_base_path")
    add("--model_base_path", default="", help="folder with one sub-folder a version")
    add(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        help="interval of looking for versions; 0 looks once",
    )
    add("--max_num_load_retries", type=int, default=5, help="times a failed load is tried again")
    add("--load_retry_interval_micros", type=int, default=60_000_000, help="wait before a load is tried again")
    add("--allow_version_labels_for_unavailable_models", type=_yes_or_no, nargs="?", const=True, default=False,
        help="a new label may name a version that is not AVAILABLE yet")  # fmt: skip
    add("--grpc_max_threads", type=int, default=4 * (os.cpu_count() or 1), help="requests that run at once")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit code 255 with one sentence when the server cannot start."""
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    from stack.model_server.errors import ServingError

    if bool(given.model_base_path) == bool(given.model_config_file):
        sys.stderr.write("exactly one of --model_base_path and --model_config_file must be given\n")
        return 255
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server = _server(given)
        server.start()
    except ServingError as error:
        sys.stderr.write(f"{error}\n")
        return 255
    ended.wait()
    server.stop()
    return 0


def _server(given: argparse.Namespace) -> "Server":
    from stack.model_server.config import ModelConfig
    from stack.model_server.server import Options, Server

    base = Path(given.model_base_path).absolute()
    return Server(
        Options(
            port=given.port,
            models=(ModelConfig(given.model_name, base),) if given.model_base_path else (),
            model_config_file=Path(given.model_config_file) if given.model_config_file else None,
            model_config_file_poll_wait_s=given.model_config_file_poll_wait_seconds,
            file_system_poll_wait_s=given.file_system_poll_wait_seconds,
            max_num_load_retries=given.max_num_load_retries,
            load_retry_interval_s=given.load_retry_interval_micros / 1e6,
            allow_version_labels_for_unavailable_models=given.allow_version_labels_for_unavailable_models,
            grpc_max_threads=given.grpc_max_threads,
        )
    )


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: true or false")
    return text.lower() in ("true", "1")


if __name__ == "__main__":
    sys.exit(main())
