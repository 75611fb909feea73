"""The ground of a faults drill: a broker and a Redis of its own, and collectors as processes; all of it can be killed.

Nothing here knows what a collector is made of: it is started, killed and asked by its commands.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Self

import psutil

from benchmarks.result import BenchError
from benchmarks.tape import Message
from events.errors import LogUnavailable
from events.kafka import KafkaWriter
from settings import Settings
from stack import processes, state
from stack.part import ROOT
from stack.parts import Parts

PartName = Literal["kafka", "redis"]
POLL_S = 0.05
STOP_S = 60.0  # a collector that was told to stop writes what is left
STATUS_S = 180.0
Say = Any


def silent(line: str) -> None:
    """A Say that says nothing."""


@contextmanager
def ground(var: Path, *, lateness_s: float) -> Iterator["Ground"]:
    """A broker and a Redis on free ports with empty state under `var`; both are gone at the end."""
    settings = Settings(var=var, lateness_s=lateness_s, commit_every_s=0.4, flush_every_s=0.05)
    with Parts.with_free_ports(settings) as parts:
        parts.up(["kafka", "redis"], report=silent)
        yield Ground(parts)


@contextmanager
def temporary_ground(*, lateness_s: float) -> Iterator["Ground"]:
    """The same in a folder that goes away."""
    folder = tempfile.TemporaryDirectory(prefix="livefeed-drill-", ignore_cleanup_errors=True)
    with folder as name, ground(Path(name), lateness_s=lateness_s) as place:
        yield place


@dataclass
class Ground:
    """The parts, and who may kill them."""

    parts: Parts
    kills: dict[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The parts' settings; a run's own are `settings_of`."""
        return self.parts.settings

    def settings_of(self, run: str, *, database: int) -> Settings:
        """Settings of one run over the same log: a lake of its own, a Redis database of its own."""
        here = self.settings
        return here.model_copy(
            update={
                "var": here.var / run,
                "kafka_bootstrap": here.kafka,
                "redis_address": f"redis://{here.host}:{here.redis_port}/{database}",
            }
        )

    def kill(self, name: PartName, *, down_s: float) -> None:
        """kill -9 of a part; it is started again on what it left after `down_s` seconds."""
        running = state.load(self.settings.var / "stack" / "state.json")[name]
        os.kill(running.pid, signal.SIGKILL)
        self.kills[name] = self.kills.get(name, 0) + 1
        time.sleep(down_s)
        while any(processes.holder(self.settings.host, port) for port in running.ports):
            time.sleep(POLL_S)  # a broker's many threads do not die at once
        self.parts.up([name], report=silent)


@dataclass
class Collectors:
    """The collectors of one run; `mind` starts one again for each that died, killed or not."""

    settings: Settings
    group: str = ""
    wanted: int = 1
    kills: int = 0
    deaths: list[str] = field(default_factory=list)  # of those that nobody killed: their last words
    alive: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def __enter__(self) -> Self:
        self.mind()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.alive:
            process.kill()
            process.wait()

    @property
    def log(self) -> Path:
        """Where all of them write."""
        return self.settings.logs / "collector.log"

    def mind(self) -> None:
        """Bury the dead and start as many as are wanted."""
        for process in [one for one in self.alive if one.poll() is not None]:
            self.alive.remove(process)
            self.deaths.append(f"exit code {process.returncode}: {last_line(self.log)}")
        while len(self.alive) < self.wanted:
            self._start()

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        own = self.settings.model_copy(update={"metrics_port": free_port(self.settings.host)})
        command = [sys.executable, "-m", "collector", "run", *(["--group", self.group] if self.group else [])]
        with self.log.open("ab") as out:
            self.alive.append(_python(command, own, out))
        self.started += 1

    def kill(self, chance: random.Random) -> None:
        """kill -9 of one of them."""
        victim = self.alive.pop(chance.randrange(len(self.alive)))
        victim.kill()
        victim.wait()
        self.kills += 1

    def kill_all(self) -> None:
        """kill -9 of every one of them, and start none."""
        self.wanted = 0
        while self.alive:
            self.kill(random.Random(0))

    def resume(self, wanted: int) -> None:
        """Have that many again."""
        self.wanted = wanted
        self.mind()

    def await_stored(self) -> None:
        """Wait until both stores have the log as it is now; BenchError after three minutes."""
        command = [sys.executable, "-m", "collector", "status", "--wait", "--timeout-s", f"{STATUS_S:g}"]
        asking = _python(command, self.settings, subprocess.PIPE)
        with asking:
            while asking.poll() is None:
                self.mind()
                time.sleep(POLL_S)
            said = asking.stdout.read().decode() if asking.stdout else ""
        if asking.returncode:
            raise BenchError(f"the stores of {self.settings.var.name} did not catch up: {said.strip()[-300:]}")

    def stop(self) -> None:
        """SIGTERM, and wait until each has written what was left."""
        for process in self.alive:
            process.terminate()
        for process in self.alive:
            code = process.wait(STOP_S)
            if code not in (0, -signal.SIGTERM):  # the latter had hardly started
                self.deaths.append(f"exit code {code} when told to stop: {last_line(self.log)}")
        self.alive.clear()
        self.wanted = 0

    def cpu_s(self) -> float:
        """Processor seconds of those that live."""
        return sum(sum(psutil.Process(one.pid).cpu_times()[:2]) for one in self.alive)


def _python(command: Sequence[str], settings: Settings, out: IO[bytes] | int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
    )


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def last_line(path: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


class Producer:
    """Sends a tape piece by piece; a broker that is gone is waited for and what it did not confirm is sent again."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.sent = 0

    def send(self, messages: Sequence[Message]) -> None:
        """Send and wait until they are durable."""
        while True:
            try:
                writer = KafkaWriter(self._bootstrap)
                for message in messages:
                    writer.send_raw(message.topic, key=message.key, value=message.value)
                writer.close()
            except LogUnavailable:
                continue  # again, whole: the ids are the same
            self.sent += len(messages)
            return

    @contextmanager
    def sending(self, messages: Sequence[Message], *, pieces: int, over_s: float) -> Iterator[None]:
        """Send in pieces over about that long, in the background; joined at the end."""
        size = -(-len(messages) // pieces)

        def run() -> None:
            for start in range(0, len(messages), size):
                self.send(messages[start : start + size])
                time.sleep(over_s / pieces)

        thread = threading.Thread(target=run, name="producer", daemon=True)
        thread.start()
        yield
        thread.join()
