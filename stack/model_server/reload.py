"""The configuration in force and the way to another one, over gRPC or by a changed file."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from stack.model_server.config import ModelConfig, check_list, check_platforms, models_of, platform_of, read
from stack.model_server.errors import ServingError
from stack.model_server.protos import read_file
from stack.model_server.table import ModelTable

log = logging.getLogger("model_server")
LIST = "model_config_list"
LOOK_AGAIN_S = 0.01
SETTLED_NS = 2 * 10**9  # since a file was written: file systems tell times apart by milliseconds, some by seconds


class Configuration:
    """Applies ModelServerConfig messages to a table, one at a time, with upstream's checks in upstream's order."""

    def __init__(self, table: ModelTable, *, looks: bool = True) -> None:
        self._table = table
        self._looks = looks  # False: versions on disk are never looked for
        self._kind: str | None = None
        self._platforms: dict[str, Any] = {}
        self._served: tuple[ModelConfig, ...] | None = None
        self._read: tuple[Any, tuple[ModelConfig, ...]] = None, ()  # the message last read, and its models
        self._awaited: frozenset[str] = frozenset()
        self._applying = threading.Lock()

    def reload(self, message: Any) -> frozenset[str]:
        """Apply it; the models to wait for: those that are new, and those of an earlier reload that are not settled yet."""
        new = self.apply(message)
        with self._applying:
            waiting = {name for name in self._awaited | new if name in self._table.names() and not self._settled(name)}
            self._awaited = frozenset(waiting)
            return self._awaited | new

    def apply(self, message: Any) -> frozenset[str]:
        """Label and serve what the message lists; the names of models that are new. ServingError when it may not be.

        As upstream, a configuration becomes the current one before its labels are checked: after a refusal the old models and
        labels answer on, and the next one is compared with the refused one.
        """
        with self._applying:
            kind = message.WhichOneof("config")
            if self._kind is not None and not (self._kind == LIST == kind):
                raise ServingError.precondition(
                    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
                    "another."
                )
            if kind is None:
                log.info("Taking no action for empty config.")
                return frozenset()
            rows = message.model_config_list.config
            check_list(rows)
            self._check_changes(rows)
            self._kind, self._platforms = kind, {row.name: row for row in rows}
            if kind != LIST:
                raise ServingError.invalid("Missing custom_model_config_loader in ServerCore Options")
            models = self._read[1] if self._read[0] is message else models_of(rows)  # of a file that is applied again
            self._read = message, models
            self._table.label(models)
            check_platforms(rows)
            new = self._table.serve(models)
            # A file is applied again at every poll; the disk has a poll of its own.
            if self._looks and models != self._served:
                self._table.look()
            self._served = models
            return new

    def _settled(self, name: str) -> bool:
        return self._table.serves(name) or bool(self._table.failures(name))

    def _check_changes(self, rows: Any) -> None:
        for row in rows:
            if row.name not in self._platforms:
                continue
            before, after = platform_of(self._platforms[row.name]), platform_of(row)
            if before != after:
                raise ServingError.invalid(
                    f"Illegal to change a model's platform. For model {row.name} platform was {before} and new platform "
                    f"requested is {after}"
                )


class ConfigFile:
    """A configuration file that is applied again and again, so that it wins over a reload; a complaint is logged once."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self._path = path
        self._configuration = configuration
        self._seen = ""  # the text of the file
        self._bad_text: str | None = None
        self._text, self._message = "", None  # as last read: at most polls the file is as it was
        self._stamp: tuple[int, ...] | None = None  # of the file that was seen; None: it may change and keep its stamp
        self._complaint = ""

    def apply(self) -> frozenset[str]:
        """Apply the file as it is now; ServingError when it cannot be read or may not be applied."""
        return self._apply(self._read())

    def poll(self) -> None:
        """Apply it again; a bad one changes nothing and is logged."""
        try:
            text = self._read()
            if text != self._bad_text:
                self._apply(text)
                self._complaint = ""
        except ServingError as error:
            if str(error) != self._complaint:
                log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error)
            self._complaint = str(error)

    def _read(self) -> str:
        """The file's text, the last one where the file is the same: TensorFlow's reading costs a millisecond."""
        stamp = _stamp(self._path)  # before the text: what is written in between is seen at the next poll
        if stamp is None or stamp != self._stamp:
            self._seen, self._stamp = read_file(self._path), stamp
        return self._seen

    def _apply(self, text: str) -> frozenset[str]:
        if self._message is None or text != self._text:
            self._bad_text = text
            self._text, self._message = text, read(text, file=str(self._path))
        self._bad_text = None
        return self._configuration.apply(self._message)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What any writing of the file changes; None where there is none, or it was written so lately that it may not."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if time.time_ns() - found.st_ctime_ns < SETTLED_NS:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def wait_until_available(table: ModelTable, names: Iterable[str], *, what: str, going_on: Callable[[], bool]) -> None:
    """Return once every model answers or `going_on` is false; UNKNOWN as soon as one cannot become AVAILABLE any more."""
    waiting = set(names)
    while waiting and going_on():
        failed = {name: table.failures(name) for name in waiting}
        settled = {name for name in waiting if failed[name] or table.serves(name)}
        if settled == waiting:
            rows = [
                f"{{{{name: {name} version: {version.number}}} due to error: {version.error.status}}}, "
                for name in sorted(waiting)
                for version in sorted(failed[name], key=lambda version: version.number)
                if version.error is not None
            ]
            if rows:
                raise ServingError(
                    grpc.StatusCode.UNKNOWN, f"{len(rows)} {what} did not become available: {{{''.join(rows)}}}"
                )
            return
        time.sleep(LOOK_AGAIN_S)
