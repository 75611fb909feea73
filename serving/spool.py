"""A bounded file of events that could not be sent: JSON lines, appended while the log is down, drained when it is back.

Another process may erase a person from it: her lines become blanks of the same length, since whoever sends the others has
read how long the file is and will cut that much off.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from events.errors import MalformedEvent
from events.schema import Event
from events.topics import decode, encode


class Spool:
    """One topic's waiting events on disk; safe among threads and processes of one machine."""

    def __init__(self, path: Path, *, topic: str, max_bytes: int) -> None:
        self._path = path
        self._topic = topic
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        """Bytes waiting."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def append(self, events: Sequence[Event]) -> int:
        """Write events, whole ones until the bound or a full disk; returns how many were written."""
        with self._alone():
            room = self._max_bytes - self.size
            lines: list[bytes] = []
            for event in events:
                line = encode(event) + b"\n"
                room -= len(line)
                if room < 0:
                    break
                lines.append(line)
            try:
                with self._path.open("ab") as file:
                    file.write(b"".join(lines))
            except OSError:
                return 0
            return len(lines)

    def take(self) -> tuple[list[Event], int]:
        """The waiting events and the size they were read at; a line torn by a crash is left out."""
        with self._alone():
            try:
                body = self._path.read_bytes()
            except FileNotFoundError:
                return [], 0
        events = []
        for line in body.splitlines():
            if not line.strip():
                continue
            try:
                events.append(decode(self._topic, line))
            except MalformedEvent:
                continue  # a crash tore it; its feed was answered, its impression is lost
        return events, len(body)

    def drop(self, size: int) -> None:
        """Forget the first `size` bytes: they were sent."""
        with self._alone():
            rest = self._path.read_bytes()[size:]
            scratch = self._draft
            scratch.write_bytes(rest)
            scratch.replace(self._path)

    @property
    def _draft(self) -> Path:
        return self._path.with_suffix(".draft")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread and no other process in the file; a lock of the kernel ends with its process."""
        with self._lock, self._path.with_suffix(".lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def erase_lines(path: Path, user_id: str) -> int:
    """Blank the lines that name a person in a spool file that others may be using; how many. 0 without a file.

    A line that names her without being an event (a crash tore it) goes too, and so does a draft that a crash left.
    """
    if not path.parent.is_dir():
        return 0
    spool = Spool(path, topic="", max_bytes=0)
    with spool._alone():
        spool._draft.unlink(missing_ok=True)
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return 0
        lines = body.split(b"\n")
        hers = [n for n, line in enumerate(lines) if _names(line, user_id)]
        for n in hers:
            lines[n] = b" " * len(lines[n])
        if hers:
            with path.open("r+b") as file:
                file.write(b"\n".join(lines))
                file.flush()
                os.fsync(file.fileno())
    return len(hers)


def _names(line: bytes, user_id: str) -> bool:
    if user_id.encode() not in line:
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return json.dumps(user_id, ensure_ascii=False).encode() in line
