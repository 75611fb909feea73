"""Tab-separated rows of a data set's file, checked as they are read: every error names the file and the line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from events.errors import BadDataset

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of a file by column name; `number` counts from 1, the header included."""

    path: Path
    number: int
    cells: dict[str, str]

    def refuse(self, what: str) -> BadDataset:
        """The error for this row: `what` completes "<file> line <n> "."""
        return BadDataset(f"{self.path} line {self.number} {what}")

    def word(self, column: str) -> str:
        """The cell's text; BadDataset when it is empty."""
        if not (cell := self.cells[column].strip()):
            raise self.refuse(f"has an empty {column}")
        return cell

    def integer(self, column: str, *, low: int, high: int) -> int:
        """The cell as a whole number within [low, high]; BadDataset otherwise."""
        cell = self.cells[column]
        try:
            number = int(cell)
        except ValueError:
            raise self.refuse(f"has {column} {cell!r}; a whole number is needed") from None
        if not low <= number <= high:
            raise self.refuse(f"has {column} {number}; allowed are {low} to {high}")
        return number


def read_rows(path: Path, header: Sequence[str], parse: Callable[[Row], T]) -> list[T]:
    """Every row of a file through `parse`; BadDataset for a missing file, another header or another width."""
    return [parse(row) for row in _rows(path, header)]


def _rows(path: Path, header: Sequence[str]) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as lines:
            found = lines.readline().rstrip("\n").split("\t")
            if found != list(header):
                raise BadDataset(f"{path} line 1 has columns {', '.join(found)!r}; needed are {', '.join(header)!r}")
            names = [name.partition(":")[0] for name in header]
            for number, line in enumerate(lines, start=2):
                cells = line.rstrip("\n").split("\t")
                if len(cells) != len(names):
                    raise BadDataset(f"{path} line {number} has {len(cells)} columns; needed are {len(names)}")
                yield Row(path, number, dict(zip(names, cells, strict=True)))
    except FileNotFoundError:
        raise BadDataset(f"{path} is missing; the data set needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path} cannot be read: {error}") from None
