"""The stack as one thing: bring parts up, say how they are, take them down."""

import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from settings import Settings
from stack import processes, state
from stack.catalogue import ADDRESSES, catalogue, chosen, leaning_on, setting_of, with_free_ports
from stack.errors import PartFailed
from stack.jars import Report, silent
from stack.part import Part
from stack.state import Running

Condition = Literal["running", "silent", "died", "stopped"]
POLL_S = 0.05


@dataclass(frozen=True)
class PartStatus:
    """How a part is: running (answers), silent (lives, does not answer), died, stopped; memory in MB."""

    name: str
    condition: Condition
    pid: int | None
    ports: tuple[int, ...]
    look: str
    log: str
    resident_mb: float = 0.0


@dataclass
class Start:
    """One `up` at work: what it started, and the flag that makes its threads give up."""

    environment: dict[str, str]
    report: Report
    given_up: threading.Event = field(default_factory=threading.Event)
    ready: dict[str, threading.Event] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)


class Parts:
    """The parts of one `var` folder; as a context manager it takes them down at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"var": settings.var.expanduser().absolute()})
        self._state = self.settings.var / "stack" / "state.json"
        self._lock = self.settings.var / "stack" / "lock"
        self._guard = threading.Lock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @classmethod
    def with_free_ports(cls, settings: Settings) -> Self:
        """Parts on ports that are free now, for tests."""
        return cls(with_free_ports(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(report=silent)

    def up(self, names: Iterable[str] | None = None, *, report: Report = print) -> list[PartStatus]:
        """Start the named parts (all by default) and what they need, at once where they can, and wait until they answer.

        What runs already is left. On an error or an interrupt, what this call started is stopped again.
        """
        parts = chosen(catalogue(self.settings, report=report), names)
        with state.exclusive(self._lock):
            self._forget_dead()
            start = Start(self.settings.environment(), report, ready={part.name: threading.Event() for part in parts})
            try:
                self._start_all(parts, start)
            except BaseException:
                start.given_up.set()
                self._stop([part for part in parts if part.name in start.started], report)
                raise
        return [status for status in self.status() if status.name in start.ready]

    def status(self) -> list[PartStatus]:
        """Every part, as it is now."""
        running = state.load(self._state)
        return [self._status_of(part, running.get(part.name)) for part in catalogue(self.settings).values()]

    def down(self, names: Iterable[str] | None = None, *, report: Report = print) -> None:
        """Stop the named parts (all by default) and what needs them; nothing of them stays but their data and logs."""
        every = {part.name: part for part in self._every()}
        with state.exclusive(self._lock):
            self._stop(list(every.values()) if names is None else leaning_on(every, names), report)

    def _every(self) -> list[Part]:
        """Every part there could be: one that runs here is stopped even when its address now points elsewhere."""
        return list(catalogue(self.settings.model_copy(update=dict.fromkeys(ADDRESSES, ""))).values())

    def _status_of(self, part: Part, running: Running | None) -> PartStatus:
        if running is None:
            return PartStatus(part.name, "stopped", None, part.ports, part.look, str(part.log))
        self._reap(running)
        if not processes.is_alive(running):
            return PartStatus(part.name, "died", running.pid, running.ports, part.look, running.log)
        condition: Condition = "running" if part.ready() else "silent"
        memory = processes.resident_mb(running)
        return PartStatus(part.name, condition, running.pid, running.ports, part.look, running.log, memory)

    def _start_all(self, parts: Sequence[Part], start: Start) -> None:
        """One thread a part; the first error ends the wait and is raised once the other threads have given up."""
        pool = ThreadPoolExecutor(max_workers=len(parts) or 1, thread_name_prefix="up")
        futures: list[Future[None]] = [pool.submit(self._bring_up, part, start) for part in parts]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            start.given_up.set()
            pool.shutdown(wait=True)
        for future in futures:
            future.result()

    def _bring_up(self, part: Part, start: Start) -> None:
        for name in part.needs:
            while not start.ready[name].wait(POLL_S):
                if start.given_up.is_set():
                    return
        running = state.load(self._state).get(part.name)
        if running is None:
            running = self._launch(part, start)
        elif running.ports != part.ports:
            raise PartFailed(
                f"{part.name} already runs on port {running.ports[0]} but the settings say {part.ports[0]}: "
                "take the stack down first"
            )
        else:
            start.report(f"{part.name}: already runs, pid {running.pid}")
        if self._await_answer(part, running, start):
            start.ready[part.name].set()

    def _launch(self, part: Part, start: Start) -> Running | None:
        for port in part.ports:
            if taken := processes.holder(self.settings.host, port):
                raise PartFailed(
                    f"{part.name} cannot start because port {port} is taken ({taken}): stop that, or set "
                    f"{setting_of(self.settings, port)} to another port (log of {part.name}: {part.log})"
                )
        processes.rotate_log(part)
        part.prepare()
        with self._guard:
            if start.given_up.is_set():
                return None
            running, child = processes.launch(part, start.environment)
            self._children[running.pid] = child
            start.started.append(part.name)
            state.save(self._state, {**state.load(self._state), part.name: running})
        start.report(f"{part.name}: starting, pid {running.pid}")
        return running

    def _await_answer(self, part: Part, running: Running | None, start: Start) -> bool:
        """Wait until the part answers, then settle it; False when this start was given up."""
        begun = time.monotonic()
        while running and not start.given_up.is_set():
            if part.ready():
                part.settle()
                start.report(f"{part.name}: ready after {time.monotonic() - begun:.1f} s")
                return True
            self._reap(running)
            where = f"port {part.ports[0]}, log {part.log}" if part.ports else f"no port, log {part.log}"
            if not processes.is_alive(running):
                said = processes.last_line(part) or "nothing"
                raise PartFailed(f"{part.name} died while starting ({where}); its log ends with: {said}")
            if time.monotonic() - begun > part.start_timeout_s:
                raise PartFailed(f"{part.name} runs but did not answer within {part.start_timeout_s:.0f} s ({where})")
            start.given_up.wait(POLL_S)
        return False

    def _stop(self, parts: Sequence[Part], report: Report) -> None:
        """Stop in waves: at once what nothing left needs, then what those needed."""
        recorded = state.load(self._state)
        left = [part for part in parts if part.name in recorded]
        while left:
            needed = {name for part in left for name in part.needs}
            wave = [part for part in left if part.name not in needed]
            with ThreadPoolExecutor(max_workers=len(wave), thread_name_prefix="down") as pool:
                list(pool.map(lambda part: self._stop_one(part, recorded[part.name], report), wave))
            left = [part for part in left if part.name in needed]

    def _stop_one(self, part: Part, running: Running, report: Report) -> None:
        went = processes.stop(part, running)
        self._reap(running)
        with self._guard:
            self._children.pop(running.pid, None)
            state.save(self._state, {name: row for name, row in state.load(self._state).items() if name != part.name})
        report(f"{part.name}: {'stopped' if went else f'killed after {part.stop_timeout_s:.0f} s'}")

    def _forget_dead(self) -> None:
        """Drop the records of parts that no longer live, and stop what children of theirs still do."""
        running = state.load(self._state)
        dead = {row.name for row in running.values() if not processes.is_alive(row)}
        self._stop([part for part in self._every() if part.name in dead], silent)

    def _reap(self, running: Running) -> None:
        """Collect the exit status of a child of this process, so that it does not stay a zombie."""
        if child := self._children.get(running.pid):
            child.poll()
