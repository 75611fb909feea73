"""Who works on the online store: any number of collectors together, or one rebuild alone. A lock that ends with its process.

The lock is a file beside the offline tables, so it covers the machines that share that folder. A file system without locks
cannot say who runs; then a rebuild is refused by what it finds in the store, not by this.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.errors import CannotRebuild

LOCK = ".collectors.lock"


@contextmanager
def collecting(lake: Path) -> Iterator[None]:
    """Held by every collector while it runs; waits while a rebuild is at work."""
    with _locked(lake, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(lake: Path) -> Iterator[None]:
    """Held by a rebuild; CannotRebuild while a collector runs."""
    with _locked(lake, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _locked(lake: Path, how: int) -> Iterator[None]:
    lake.mkdir(parents=True, exist_ok=True)
    with (lake / LOCK).open("a") as held:
        try:
            fcntl.flock(held, how)
        except BlockingIOError:
            raise CannotRebuild(
                f"a collector works on {lake}; stop it first (`livefeed stack down --only collector`)"
            ) from None
        yield
