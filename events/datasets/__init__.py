"""Real data sets as the platform's events, at their own event times; docs/guides/datasets.md states every mapping.

Event ids are built from the data, so a second replay of a set is all duplicates. What a set lacks (impressions,
creators) is constructed by a stated rule, never drawn at random.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from events.datasets import kuairand, movielens
from events.errors import BadDataset
from events.schema import Event

_READERS: dict[str, Callable[[Path], Iterator[Event]]] = {"movielens": movielens.read, "kuairand": kuairand.read}
NAMES: tuple[str, ...] = tuple(_READERS)


def read(name: str, path: Path) -> Iterator[Event]:
    """The events of data set `name` in the folder `path`, by rising event time; BadDataset names file and line.

    The files are read and checked before this returns, so a wrong path or row fails before anything is sent.
    """
    if name not in _READERS:
        raise BadDataset(f"unknown data set {name!r}; allowed are {', '.join(NAMES)}")
    if not path.is_dir():
        raise BadDataset(f"the data set path {path} is not a folder; give the folder that holds the {name} files")
    return _READERS[name](path)
