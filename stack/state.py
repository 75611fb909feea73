"""What is running, written down so that the next command finds it, and the lock that lets one command at a time change it."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stack.errors import StackBusy, StackError


@dataclass(frozen=True)
class Running:
    """A started part: its process, told apart from a later one with the same pid by its start time (epoch seconds)."""

    name: str
    pid: int
    started: float
    ports: tuple[int, ...]
    log: str


def load(path: Path) -> dict[str, Running]:
    """Started parts by name; empty when nothing was ever started."""
    try:
        rows = json.loads(path.read_text())
        return {name: Running(**{**row, "ports": tuple(row["ports"])}) for name, row in rows.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StackError(
            f"{path} is not the stack's state file any more: stop what its pids name, then delete it"
        ) from None


def save(path: Path, running: Mapping[str, Running]) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({name: asdict(row) for name, row in running.items()}, indent=1))
    draft.replace(path)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock; StackBusy names the live process that has it. A file left by a dead one holds nobody up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise StackBusy(f"process {holder} is starting or stopping this stack (lock {path}): wait for it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
