"""Starts a part as a session of its own, tells whether it lives, and stops it with everything it started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

from stack.errors import PartFailed
from stack.part import ROOT, Part
from stack.state import Running

START_TOLERANCE_S = 2.0  # a start time is derived from the boot time, which the kernel rounds
POLL_S = 0.05
KILL_TIMEOUT_S = 10.0


def launch(part: Part, environment: Mapping[str, str]) -> tuple[Running, subprocess.Popen[bytes]]:
    """Start the part's command in a new session, its output in its log; PartFailed when there is no such program."""
    with part.log.open("ab") as out:
        try:
            process = subprocess.Popen(
                part.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
                env={**os.environ, **environment, **part.environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise PartFailed(f"{part.name} could not be started: {part.command[0]}: {error.strerror}") from None
    try:
        started = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    return Running(part.name, process.pid, started, part.ports, str(part.log)), process


def rotate_log(part: Part) -> None:
    """Begin a new log; the one of the start before is kept as `<name>.log.1`."""
    part.log.parent.mkdir(parents=True, exist_ok=True)
    if part.log.exists():
        part.log.replace(part.log.with_suffix(".log.1"))


def is_alive(running: Running) -> bool:
    """Whether that very process still runs (not a zombie, not another one with its pid)."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(running.pid)
        same = abs(process.create_time() - running.started) < START_TOLERANCE_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def family(running: Running) -> list[psutil.Process]:
    """The live processes of a part: its session and all descendants; empty when its pid now belongs to a stranger."""
    found: dict[int, psutil.Process] = {}
    if psutil.pid_exists(running.pid) and not is_alive(running) and not _is_zombie(running.pid):
        return []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == running.pid:
                for member in (process, *process.children(recursive=True)):
                    if member.status() != psutil.STATUS_ZOMBIE:
                        found[member.pid] = member
    return list(found.values())


def resident_mb(running: Running) -> float:
    """Resident memory of a part's processes together, in MB (shared pages counted once a process)."""
    total = 0
    for process in family(running):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 1e6


def stop(part: Part, running: Running) -> bool:
    """Signal the part and wait; what is left after its time is killed. True when it went by itself."""
    members = family(running)
    for process in members:
        _signal(process, part.stop_signal)
    _all_gone(members, part.stop_timeout_s)
    left = [process for process in {*members, *family(running)} if _runs(process)]
    for process in left:
        _signal(process, signal.SIGKILL)
    _all_gone(left, KILL_TIMEOUT_S)
    return not left


def holder(host: str, port: int) -> str | None:
    """Who has a port: None when it is free, else the program and its pid where that can be seen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return None
        except OSError:
            pass
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,) and connection.pid:
            with suppress(psutil.NoSuchProcess):
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
    return "another program"


def last_line(part: Part) -> str:
    """The last line of a part's log that is not empty; empty when there is none."""
    if not part.log.is_file():
        return ""
    lines = [line.strip() for line in part.log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _all_gone(members: list[psutil.Process], timeout_s: float) -> None:
    """Wait until none of them runs, or the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(_runs(process) for process in members):
        time.sleep(POLL_S)


def _runs(process: psutil.Process) -> bool:
    """A zombie counts as gone: who must collect it may be in no hurry (a container's first process)."""
    return process.is_running() and not _is_zombie(process.pid)


def _is_zombie(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return False
