"""A bounded file of events that could not be sent: JSON lines, appended while the log is down, drained when it is back."""

import threading
from collections.abc import Sequence
from pathlib import Path

from events.errors import MalformedEvent
from events.schema import Event
from events.topics import decode, encode


class Spool:
    """One topic's waiting events on disk; safe among threads of one process."""

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
        with self._lock:
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
        with self._lock:
            try:
                body = self._path.read_bytes()
            except FileNotFoundError:
                return [], 0
        events = []
        for line in body.splitlines():
            try:
                events.append(decode(self._topic, line))
            except MalformedEvent:
                continue  # a crash tore it; its feed was answered, its impression is lost
        return events, len(body)

    def drop(self, size: int) -> None:
        """Forget the first `size` bytes: they were sent."""
        with self._lock:
            rest = self._path.read_bytes()[size:]
            scratch = self._path.with_suffix(".draft")
            scratch.write_bytes(rest)
            scratch.replace(self._path)
