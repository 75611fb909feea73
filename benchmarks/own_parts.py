"""Parts of a benchmark's own: on free ports, with their state in a temporary folder, gone afterwards."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.result import BenchError
from settings import Settings
from stack.parts import Parts

Say = Callable[[str], None]


@contextmanager
def own_parts(settings: Settings, names: Sequence[str], *, say: Say) -> Iterator[tuple[Parts, Settings]]:
    """Start those parts beside whatever runs already; yields them and the settings that reach them."""
    with tempfile.TemporaryDirectory(prefix="livefeed-bench-") as folder:
        own = settings.model_copy(update={"var": Path(folder)})
        with Parts.with_free_ports(own) as parts:
            parts.up(names, report=say)
            yield parts, parts.settings


def process_of(parts: Parts, name: str) -> psutil.Process:
    """The process of a running part."""
    pid = next((status.pid for status in parts.status() if status.name == name), None)
    if pid is None:
        raise BenchError(f"the part {name} does not run")
    return psutil.Process(pid)


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used, user and system, all its threads."""
    times = process.cpu_times()
    return float(times.user + times.system)
