"""How the proxy's process is set up: one thread for linear algebra, and one JSON line a log entry."""

import os
import resource
import signal

import structlog
from threadpoolctl import threadpool_limits

MOST_FILES = 65_536


def limit_threads() -> None:
    """Pin BLAS and OpenMP to one thread: spinning threads took 20 times as long for a live set of 20,000 rows."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by libraries that load later
    threadpool_limits(1)  # numpy is there already: the modules that are imported first bring it


def allow_files() -> None:
    """As many open files as the process may have: each connection is one, and the usual 1,024 are fewer than connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def outlive_signals() -> None:
    """Let SIGTERM and SIGINT end the server, not the process: uvicorn raises them again when it has stopped, and what waits
    must still be sent.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def log_json() -> None:
    """Entries as JSON lines with level and UTC time."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
