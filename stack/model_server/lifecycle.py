"""The life of a model's versions: their states, and which load or unload comes next."""

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from stack.model_server.config import ModelConfig
from stack.model_server.errors import ServingError
from stack.model_server.servable import Served


class State(IntEnum):
    """A version's life, numbered as in ModelVersionStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version of a model: its folder, state, what went wrong if its load failed, and the model while it is loaded.

    `busy` while a thread is loading it.
    """

    number: int
    path: Path
    state: State = State.START
    error: ServingError | None = None
    attempts: int = 0
    retry_at: float = 0.0
    servable: Served | None = None
    wanted: bool = True
    busy: bool = False


@dataclass
class Model:
    """A configured model and every version of it that was ever aspired; `missing` are asked for and not on disk."""

    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    def available(self) -> list[Version]:
        """Versions that answer, highest first."""
        return sorted((v for v in self.versions.values() if v.state is State.AVAILABLE), key=lambda v: -v.number)

    def aspire(self, wanted: dict[int, Path]) -> None:
        """Want these versions from now on; one that ended is begun anew, one that failed only if it was unwanted between."""
        versions = dict(self.versions)
        for number, path in wanted.items():
            known = versions.get(number)
            if known is None or (known.state is State.END and (known.error is None or not known.wanted)):
                versions[number] = Version(number, path)
        for number, version in versions.items():
            version.wanted = number in wanted
            if not version.wanted and version.state in (State.START, State.LOADING) and not version.busy:
                version.state = State.END
        self.versions = versions

    def to_unload(self) -> Version | None:
        """The lowest unwanted version that may go: when a wanted one answers, none is wanted, or another unwanted answers."""
        unwanted = [version for version in self.available() if not version.wanted]
        answers = any(version.wanted for version in self.available())
        none_wanted = not any(version.wanted for version in self.versions.values())
        if unwanted and (answers or none_wanted or len(unwanted) > 1):
            return unwanted[-1]
        return None

    def to_load(self, *, now: float) -> Version | None:
        """The highest wanted version whose load is due at `now` (monotonic seconds)."""
        due = (
            v
            for v in self.versions.values()
            if v.wanted and v.state in (State.START, State.LOADING) and v.retry_at <= now
        )
        return max(due, key=lambda version: version.number, default=None)

    def rest_s(self, *, now: float) -> float | None:
        """Seconds from `now` (monotonic) until a load or unload is due; None: none is before other versions are wanted."""
        if self.to_unload() is not None or self.unloading():
            return 0.0
        due = [v.retry_at for v in self.versions.values() if v.wanted and v.state in (State.START, State.LOADING)]
        return max(min(due) - now, 0.0) if due else None

    def unloading(self) -> list[Version]:
        """Versions that still answer their last requests."""
        return [version for version in self.versions.values() if version.state is State.UNLOADING]


def failed(model: Model) -> list[Version]:
    """The model's versions that ended with an error, when none of its wanted versions can become AVAILABLE any more."""
    wanted = [version for version in model.versions.values() if version.wanted]
    if not wanted or any(version.state is not State.END for version in wanted):
        return []
    return [version for version in wanted if version.error is not None]
