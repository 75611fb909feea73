"""The locks of a lake: one for upkeep (compaction, expiry, vacuum, forgetting), one between builds of tables and forgetting.

They are file locks of the kernel, so that they end with their process and none is ever stale; the file says who took it last
and when. A build (samples, feature tables) reads rows, computes, and writes copies of them: builds share
their lock, and forgetting holds it alone, so that no copy made before comes back after. Appends share a lock of their table
that is otherwise free: only a delete that keeps losing its race against them pauses them for as long as it takes.
"""

import fcntl
import functools
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from events.clock import Clock, WallClock
from features.errors import LockHeld

UPKEEP, BUILDS, COLLECTORS = ".upkeep.lock", ".builds.lock", ".collectors.lock"
POLL_S = 0.02
APPEND_WAIT_S = 5.0
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def upkeep(lake: Path, owner: str, *, wait_s: float = 0.0, clock: Clock | None = None) -> Iterator[None]:
    """Held while tables are compacted, expired, vacuumed or erased; LockHeld after `wait_s` wall seconds."""
    with _locked(lake / UPKEEP, fcntl.LOCK_EX, owner, wait_s=wait_s, clock=clock):
        yield


@contextmanager
def building(lake: Path, owner: str, *, wait_s: float = 600.0, clock: Clock | None = None) -> Iterator[None]:
    """Held while derived tables are built from others, by any number of builds; LockHeld after `wait_s` wall seconds."""
    with _locked(lake / BUILDS, fcntl.LOCK_SH, owner, wait_s=wait_s, clock=clock):
        yield


def builds(
    owner: str,
) -> Callable[[Callable[Concatenate[Any, Path, P], R]], Callable[Concatenate[Any, Path, P], R]]:
    """A decorator: the function, whose second argument is the lake, runs as a build."""

    def locked(build: Callable[Concatenate[Any, Path, P], R]) -> Callable[Concatenate[Any, Path, P], R]:
        @functools.wraps(build)
        def run(spark: Any, lake: Path, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with building(lake, owner):
                return build(spark, lake, *args, **kwargs)

        return run

    return locked


@contextmanager
def no_builds(lake: Path, owner: str, *, wait_s: float = 0.0, clock: Clock | None = None) -> Iterator[None]:
    """Held while nothing may be built; LockHeld after `wait_s` wall seconds."""
    with _locked(lake / BUILDS, fcntl.LOCK_EX, owner, wait_s=wait_s, clock=clock):
        yield


@contextmanager
def collecting(lake: Path) -> Iterator[None]:
    """Held by every collector while it runs; waits while the online store is rebuilt."""
    with _locked(lake / COLLECTORS, fcntl.LOCK_SH, "a collector", wait_s=math.inf, clock=None):
        yield


@contextmanager
def no_collectors(lake: Path) -> Iterator[None]:
    """Held while the online store is rebuilt; LockHeld at once where a collector runs, which would write over it."""
    with _locked(lake / COLLECTORS, fcntl.LOCK_EX, "a rebuild of the online store", wait_s=0.0, clock=None):
        yield


@contextmanager
def appending(lake: Path, table: str, *, wait_s: float = APPEND_WAIT_S) -> Iterator[None]:
    """Held by every append to a table, by any number at once; LockHeld when appends are paused for longer."""
    gate, work = _append_locks(lake, table)
    with ExitStack() as held:
        with _held(gate, fcntl.LOCK_SH, wait_s=wait_s):
            held.enter_context(_held(work, fcntl.LOCK_SH, wait_s=wait_s))
        yield


@contextmanager
def appends_paused(lake: Path, table: str, *, wait_s: float = 60.0) -> Iterator[None]:
    """Held by a change that lost too many races against appends; those under way end first, new ones wait at the gate."""
    gate, work = _append_locks(lake, table)
    with (
        _locked(gate, fcntl.LOCK_EX, "a pause of appends", wait_s=wait_s, clock=None),
        _held(work, fcntl.LOCK_EX, wait_s=wait_s),
    ):
        yield


def _append_locks(lake: Path, table: str) -> tuple[Path, Path]:
    return lake / f".{table}.gate.lock", lake / f".{table}.appends.lock"


@contextmanager
def _locked(path: Path, how: int, owner: str, *, wait_s: float, clock: Clock | None) -> Iterator[None]:
    clock = clock or WallClock()
    with _held(path, how, wait_s=wait_s, clock=clock) as file:
        said = {"owner": owner, "pid": os.getpid(), "host": socket.gethostname(), "since": clock.now()}
        file.truncate(0)
        file.write(json.dumps(said))
        file.flush()
        yield


@contextmanager
def _held(path: Path, how: int, *, wait_s: float, clock: Clock | None = None) -> Iterator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        until = time.monotonic() + wait_s
        while not _try(file, how):
            if time.monotonic() >= until:
                raise LockHeld(_held_by(file, path, (clock or WallClock()).now()))
            time.sleep(POLL_S)
        yield file


def _try(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held_by(file: IO[str], path: Path, now: float) -> str:
    file.seek(0)
    try:
        said = json.loads(file.read())
        who = f"{said['owner']} (process {said['pid']} on {said['host']}) for {max(now - said['since'], 0.0):.0f} s"
    except (ValueError, KeyError, TypeError):
        who = "somebody"  # taken this instant, not signed yet
    return f"the lock {path} is held by {who}; wait until it has ended, or stop it"
