"""Logged requests put in order again by two releases: a file that training writes and the audit of a month reads.

Parquet, a row a request and item; what it was made of stands in its metadata. It names viewers: whoever made it removes it
when the audit is done.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from registry.errors import BadReranked
from registry.experiment import Experiments
from registry.manifest import MANIFEST, read_live

# Ranks count from 0 within a request, null for what a side does not show; `predicted` is the candidate's click probability,
# null where it has no such objective; `clicked` is 0 or 1, null where no label is known.
SCHEMA = pa.schema([
    ("request_id", pa.string()), ("user_id", pa.string()), ("item_id", pa.string()), ("creator_id", pa.string()),
    ("candidate_rank", pa.float64()), ("incumbent_rank", pa.float64()), ("predicted", pa.float64()), ("clicked", pa.int8()),
])  # fmt: skip
STABLE = "stable"  # label of what answers everybody else
_CARD = b"livefeed.reranked"


class Card(Struct, frozen=True, kw_only=True):
    """What a file of re-ranked requests was made of; releases by name, times in ISO 8601."""

    month: str
    line: str
    candidate: str
    incumbent: str
    logged: int  # requests of the month that showed something
    drawn: int  # of them, at random
    requests: int  # of the drawn, put in order again
    rows: int
    left_out: dict[str, int]  # why -> requests of the drawn
    candidate_until: str = ""  # newest sample that the candidate was trained on
    incumbent_until: str = ""


def month_days(month: str) -> tuple[date, date]:
    """First day of a month, and of the next; BadReranked when it is none."""
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise BadReranked(f"{month!r} is no month; write it like 2027-01") from None
    return first, date(first.year + first.month // 12, first.month % 12 + 1, 1)


@contextmanager
def writing(path: Path) -> Iterator[pq.ParquetWriter]:
    """A writer of SCHEMA whose file is there only when all went well; give it `card_of` its card before the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
            yield writer
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sign(writer: pq.ParquetWriter, card: Card) -> None:
    """Say in the file what it was made of."""
    writer.add_key_value_metadata({_CARD.decode(): msgspec.json.encode(card).decode()})


def read_reranked(path: Path, *, month: str, line: str) -> tuple[Card, pa.Table]:
    """A file's card and rows; BadReranked when it cannot be read or is of another month or line."""
    try:
        with pq.ParquetFile(path) as file:
            said = (file.metadata.metadata or {}).get(_CARD)
            if said is None:
                raise BadReranked(f"{path} is no file of re-ranked requests; `livefeed training rerank` makes one")
            card, rows = msgspec.json.decode(said, type=Card), file.read(columns=SCHEMA.names)
    except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        raise BadReranked(f"re-ranked requests {path} cannot be read: {str(error).splitlines()[0]}") from None
    for what, of, wanted in (("month", card.month, month), ("line", card.line, line)):
        if of != wanted:
            raise BadReranked(f"{path} has the re-ranked requests of {what} {of}; asked for is {wanted}")
    return card, rows.cast(SCHEMA)


def line_in_question(releases: Path, default: str) -> str:
    """The line of the canary that runs, which an audit is about; the given one where none does."""
    one = Experiments(releases).read().experiment
    return one.line if one is not None and one.state.runs else default


def to_rerank(releases: Path, candidates: Path, line: str) -> tuple[Path, Path] | None:
    """Folders of a line's release that is or may become a canary, and of what it is held against; None where there is none.

    The canary that runs goes first, as it is in traffic now; else the newest of the line, released or waiting.
    """
    live, one = read_live(releases), Experiments(releases).read().experiment
    stable = live.get(STABLE, "")
    if one is not None and one.state.runs and one.line == line:
        canary = next((live.get(arm.label, "") for arm in one.arms if arm.name == one.canary), "")
        return releases / (canary if _line(canary) == line else one.release), releases / (stable or one.control_release)
    found = sorted(_versions(releases, line) + _versions(candidates, line))
    if not stable or _line(stable) == line or not found:
        return None
    return found[-1][1], releases / stable


def _versions(folder: Path, line: str) -> list[tuple[int, Path]]:
    return [
        (int(one.parent.name.rpartition("-")[2]), one.parent)
        for one in folder.glob(f"{line}-*/{MANIFEST}")
        if _line(one.parent.name) == line
    ]


def _line(release: str) -> str:
    name, _, version = release.rpartition("-")
    return name if version.isdigit() else ""
