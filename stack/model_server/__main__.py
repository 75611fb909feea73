"""`python -m stack.model_server --port=18500 --model_config_file=...`: serve SavedModels as TensorFlow Serving does.

The flags are tensorflow_model_server's.
"""

import gc
import importlib.metadata
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from stack.model_server.flags import options, parser

__all__ = ["main", "parser"]
FAILED = 255


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit code 255 with one sentence on standard output when the server cannot start."""
    flags = parser()
    given, unknown = flags.parse_known_args(arguments)
    if given.version:
        print(f"TensorFlow ModelServer: {importlib.metadata.version('tensorflow-serving-api')}+livefeed")
        print(f"TensorFlow Library: {importlib.metadata.version('tensorflow')}")
        return 0
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{flags.format_usage()}", end="", flush=True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    from stack.model_server.errors import ServingError
    from stack.model_server.server import Server

    ended = threading.Event()
    try:
        server = Server(options(given))

        def end(*_: object) -> None:
            ended.set()
            server.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        server.start()
        # A full pass over TensorFlow's modules, which never go, takes 0.2 s in which no request is answered; after this 1 ms.
        gc.collect()
        gc.freeze()
    except ServingError as error:
        return 0 if ended.is_set() else _failed(error.status)
    except OSError as error:
        return _failed(str(error))
    ended.wait()
    server.stop()
    return 0


def _failed(reason: str) -> int:
    print(f"Failed to start server. Error: {reason}", flush=True)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
