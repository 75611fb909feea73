"""Loads a version: its SavedModel, then its warm-up records, then what batching puts around it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stack.model_server.observer import Observer
from stack.model_server.servable import Servable, Served, Threads
from stack.model_server.table import Load
from stack.model_server.tflite import FILE, LiteServable
from stack.model_server.warmup import replay


@dataclass(frozen=True)
class LoadOptions:
    """How versions are loaded; names follow upstream's flags."""

    threads: Threads = field(default_factory=Threads)
    tags: tuple[str, ...] = ("serve",)
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    prefer_tflite_model: bool = False


def loader(options: LoadOptions, observer: Observer, *, wrap: Callable[[Served], Served] | None = None) -> Load:
    """A function that loads a version's folder; a version whose warm-up fails is closed and not returned."""

    def load(path: Path, name: str, version: int) -> Served:
        servable = _loaded(options, path, name=name, version=version)
        if options.enable_model_warmup:
            try:
                replay(servable, path, times=options.num_request_iterations_for_warmup, observer=observer)
            except BaseException:
                servable.close()
                raise
        return wrap(servable) if wrap else servable

    return load


def _loaded(options: LoadOptions, path: Path, *, name: str, version: int) -> Served:
    """The TensorFlow Lite model where it is preferred and there, else the SavedModel."""
    lite = path / FILE
    if options.prefer_tflite_model and lite.is_file():
        return LiteServable(lite, name=name, version=version, threads=options.threads)
    return Servable(path, name=name, version=version, threads=options.threads, tags=options.tags)
