"""A bounded file of events that could not be sent: JSON lines, appended while the log is down, drained when it is back.

It is drained in pieces; a mark beside it says how many bytes of it were sent, and from time to time these are cut off. What
is killed at whatever moment leaves every line that was written whole; at most some are sent once more.

Another process may erase a person from it: her lines become blanks of the same length, since whoever sends the others has
read how long the piece is and will mark that much as sent.
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

PIECE_BYTES = 256 * 1024  # sent at once: the log confirms that much in a fraction of its time limit
CUT_SHARE = 8  # what was sent is cut off when it is half of the file, or this part of the most it may hold


class Spool:
    """One topic's waiting events on disk; safe among threads and processes of one machine."""

    def __init__(self, path: Path, *, topic: str, max_bytes: int) -> None:
        self._path = path
        self._topic = topic
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.trouble = ""  # why the file could not be written or read the last time; empty when it could
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        """Bytes waiting."""
        length = self._length
        return length - min(self._sent, length) if length else 0  # mostly there is no file, and no mark to read

    @property
    def _length(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    @property
    def _sent(self) -> int:
        """Bytes that were sent and are still there; a mark that a crash tore means none."""
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0

    def append(self, events: Sequence[Event]) -> int:
        """Write events, whole ones until the bound or a full disk; returns how many were written, 0 when none can be."""
        try:
            with self._alone():
                before = self._length
                lines = [b"\n"] if self._is_torn(before) else []
                torn = len(lines)
                room = self._max_bytes - before - torn
                for event in events:
                    line = encode(event) + b"\n"
                    room -= len(line)
                    if room < 0:
                        break
                    lines.append(line)
                return self._write(b"".join(lines), before, len(lines) - torn)
        except OSError as error:  # no descriptor left, a full disk, another's file
            self.trouble = f"the spool cannot be written: {error}"
            return 0

    def _write(self, body: bytes, before: int, count: int) -> int:
        """Add the body to the file; what does not get there whole is taken back."""
        with self._path.open("ab", buffering=0) as file:
            if file.write(body) != len(body):
                file.truncate(before)
                self.trouble = f"the spool cannot be written: the disk took a part of {len(body)} bytes"
                return 0
        self.trouble = ""
        return count

    def _is_torn(self, length: int) -> bool:
        """Whether a crash left a line without its end: what is written next must not become part of it."""
        if not length:
            return False
        with self._path.open("rb") as file:
            file.seek(length - 1)
            return file.read(1) != b"\n"

    def take(self, limit: int = PIECE_BYTES) -> tuple[list[Event], int]:
        """The waiting events that come first, of about `limit` bytes, and the bytes they take; a torn line is left out."""
        with self._alone():
            body = self._piece(limit)
        events = []
        for line in body.splitlines():
            if not line.strip():
                continue
            try:
                events.append(decode(self._topic, line))
            except MalformedEvent:
                continue  # a crash tore it; its feed was answered, its impression is lost
        return events, len(body)

    def _piece(self, limit: int) -> bytes:
        """Whole lines from the mark on, one at least."""
        try:
            with self._path.open("rb") as file:
                file.seek(min(self._sent, self._length))
                return file.read(limit) + file.readline()
        except FileNotFoundError:
            return b""

    def drop(self, size: int) -> None:
        """Forget the first `size` waiting bytes: they were sent."""
        with self._alone():
            length = self._length
            if not length:
                return
            sent = min(self._sent + size, length)
            if 2 * sent < length and sent < self._max_bytes // CUT_SHARE:
                self._mark.write_text(str(sent))
                self.trouble = ""
                return
            with self._path.open("rb") as file:
                file.seek(sent)
                rest = file.read()
            self._draft.write_bytes(rest)
            # The mark goes first: killed in between, what was sent is sent again, and nothing is passed over.
            self._mark.unlink(missing_ok=True)
            self._draft.replace(self._path)
        self.trouble = ""

    @property
    def _draft(self) -> Path:
        return self._path.with_suffix(".draft")

    @property
    def _mark(self) -> Path:
        return self._path.with_suffix(".sent")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread and no other process in the file; a lock of the kernel ends with its process."""
        with self._lock, self._path.with_suffix(".lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Whether this process is the one that drains now: two would mark each other's pieces as sent."""
        with self._path.with_suffix(".drain").open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


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
