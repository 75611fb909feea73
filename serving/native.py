"""Loops over a request's candidates as machine code, compiled by numba for the arrays they are declared for.

A feed's candidates are some 500 rows, and numpy pays each operation on them with a microsecond or two before the first number
is touched; between requests other processes have the caches, so those instructions wait for memory too. One loop for what
took twenty operations costs less than one of them did (docs/adr/0017). Compiled code checks no bounds: loops compare the row
numbers they are given with the arrays they read from.

    @native("float64(float64[::1])")
    def total(values): ...

Compiled when the module is imported and kept in a folder named by a hash of the module and of this one: beside them, else in
the user's cache, or where NUMBA_CACHE_DIR says. So the first process after a change waits some seconds, and no request ever
does. Where nothing can be kept every process compiles for itself. Helpers stand in the module of their callers.
"""

import fcntl
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
_UNKEPT = (OSError, EOFError, pickle.UnpicklingError, RuntimeError)  # a full disk, half a file, no folder


def native(*signatures: str, gil: bool = True) -> Callable[[F], F]:
    """Compile a function for arrays of those types; a call with other types is a TypeError.

    With `gil` no other thread runs Python meanwhile, so that what it reads and writes is not half written.
    """

    def compiled(function: F) -> F:
        return _compiled(function, list(signatures), gil=gil)

    return compiled


def helper(function: F) -> F:
    """A function that natives of the same module call; compiled into each of them."""
    return cast(F, numba.njit(error_model="numpy")(function))


def _compiled(function: F, signatures: list[str], *, gil: bool) -> F:
    how: dict[str, Any] = {"error_model": "numpy", "nogil": not gil}
    for folder in _folders(function):
        for _ in range(2):  # what is kept may be broken: once more without it
            try:
                with _kept_in(folder):
                    return cast(F, numba.njit(signatures, cache=True, **how)(function))
            except _UNKEPT:
                shutil.rmtree(folder, ignore_errors=True)
    return cast(F, numba.njit(signatures, **how)(function))


def _folders(function: Callable[..., Any]) -> Iterator[Path]:
    """Where a function's code may be kept, best first."""
    source = Path(function.__code__.co_filename)
    text = source.read_bytes() + Path(__file__).read_bytes()
    name = f"native-{source.stem}-{hashlib.sha256(text).hexdigest()[:16]}"
    said = os.environ.get("NUMBA_CACHE_DIR")
    if said:
        yield Path(said) / name
        return
    yield source.parent / "__pycache__" / name
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "livefeed" / name


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Let numba read and write there, one process at a time: it writes an index before what that names."""
    folder.mkdir(parents=True, exist_ok=True)
    config: Any = numba.config
    before = config.CACHE_DIR
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            config.CACHE_DIR = before
