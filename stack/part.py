"""What the stack starts: one frozen description a part, and the questions that tell whether it answers."""

import json
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ASK_TIMEOUT_S = 2.0
SETTLE_TIMEOUT_S = 30.0
Ready = Callable[[], bool]


def nothing() -> None:
    """A part that needs no preparation."""


@dataclass(frozen=True)
class Part:
    """One process (with its children) of the stack.

    `ports` are what it binds on loopback; `ready` asks it once and never raises; `prepare` makes its folders and files before
    the start; `settle` runs once when it first answers (topics of a broker); `needs` are parts that must answer first.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    ready: Ready
    ports: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] = nothing
    settle: Callable[[], None] = nothing
    stop_signal: signal.Signals = signal.SIGTERM
    look: str = ""
    start_timeout_s: float = 300.0
    stop_timeout_s: float = 30.0


# glibc asks the kernel for pages of 2 MB for what it allocates, where the machine allows it on request: a feed and a ranking
# take a tenth less CPU. Of no effect elsewhere.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module with this interpreter."""
    return (sys.executable, "-m", module, *arguments)


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=ASK_TIMEOUT_S):
            return True
    except OSError:
        return False


def answers_http(url: str) -> Ready:
    """Ready when a GET gets any status below 500."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False

    return ask


def ask_json(url: str, question: dict[str, str]) -> Any:
    """The JSON answer to a JSON POST; OSError or ValueError when there is none."""
    request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SETTLE_TIMEOUT_S) as answer:
        return json.load(answer)


def log_says(log: Path, words: str) -> bool:
    """Whether a part's log, which starts anew with each start, holds `words`."""
    return log.is_file() and words in log.read_text(errors="replace")
