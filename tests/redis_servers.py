"""Redis servers of the tests' own: one, or three in cluster mode, each a process that can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from stack.redis import server

PATIENCE_S = 30.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until it holds; an AssertionError that says what did not after 30 s."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{what} not within {PATIENCE_S:g} s")


def free_port() -> int:
    """A free port whose cluster bus port, 10,000 above, is free too."""
    while True:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port


@dataclass
class Server:
    """One redis-server with an append-only file in a folder of its own."""

    home: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5.0)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self.home / "appendonly.aof"

    def start(self) -> "Server":
        self.home.mkdir(parents=True, exist_ok=True)
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.home), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "no", *self.options]
        self.process = subprocess.Popen([shutil.which("redis-server") or server(), *words], stdout=subprocess.DEVNULL)
        wait_for(lambda: bool(self.client.ping()), "redis-server answered")
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


class Cluster:
    """Three primaries without replicas, each with a third of the slots."""

    def __init__(self, home: Path, size: int = 3) -> None:
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500")
        self.servers = [Server(home / f"node{n}", cluster) for n in range(size)]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    def start(self) -> "Cluster":
        for one in self.servers:
            one.start()
        first, size = self.servers[0], len(self.servers)
        for n, one in enumerate(self.servers):
            start, end = (REDIS_CLUSTER_HASH_SLOTS * m // size for m in (n, n + 1))
            one.client.execute_command("CLUSTER ADDSLOTS", *range(start, end))
            one.client.execute_command("CONFIG SET", "cluster-require-full-coverage", "yes")
        for one in self.servers[1:]:
            first.client.execute_command("CLUSTER MEET", "127.0.0.1", one.port)
        self.await_whole()
        return self

    def await_whole(self) -> None:
        """Until every server knows all slots as held by servers that answer."""

        def whole() -> bool:
            infos = [one.client.cluster("INFO") for one in self.servers]
            return all(
                info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == len(self.servers)
                for info in infos
            )

        wait_for(whole, "the cluster was whole")

    def flush(self) -> None:
        for one in self.servers:
            one.client.flushall()

    def stop(self) -> None:
        for one in self.servers:
            one.stop()
