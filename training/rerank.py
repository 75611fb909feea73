"""Puts a month's logged requests in order again by two releases: what the audit judges a candidate by that few have met.

    card = rerank(lake, "2027-01", candidate=Path("var/candidates/rival-3"), incumbent=Path("var/releases/demo-7"), out=file)

Each request's shown items are scored from the very values that were logged, by each release's ranker over its own encoder and
formula; equal scores are settled by a hash, so that no side inherits the logged order. Each side shows the first third of
what it orders: with all places a group that is always put last would still have two thirds of its exposure, and nobody would
see it. Items that were not shown are not in it: what a candidate's own recall would have found is not known. Requests are
drawn uniformly by a hash of their id, and read a thousand at a time.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from events.schema import FeatureValue
from events.topics import IMPRESSION, IMPRESSIONS, TOPICS
from features.encoder import Encoder
from features.offline_tables import PinnedTable, days, distinct, need_table
from features.samples import TABLE
from registry.errors import BadReranked
from registry.formula import Formula, parse
from registry.manifest import ENCODER, Manifest, read_manifest
from registry.reranked import SCHEMA, Card, month_days, sign, writing
from training.errors import NothingToRerank
from training.evaluate import Answer, in_batches
from training.export import load_ranker
from training.progress import Report, silent
from training.serving_signatures import RANK_TENSORS

# By default. A group of 2 % of the viewers has the audit's floor of 1,000 then, where each viewer is drawn once; of a smaller
# log all are drawn.
REQUESTS = 50_000
AT_ONCE = 1_000  # requests in memory
# Of so many items of a request a side shows one, rounded up. Simulated (100 recalled, 10 shown by another ranker): a group
# with 0.68 of its merit on a ranker's own pages has 0.93 over all re-ranked places, 0.80 over the first half, 0.76 over 3.
ONE_OF = 3
CLICK = "click"
NO_FEATURES = "no logged features"
_READ = msgspec.json.Decoder(dict[str, FeatureValue])
_SHOWN = (
    "event_id",
    "kafka_partition",
    "request_id",
    "user_id",
    "item_id",
    "creator_id",
    "position",
    "event_at",
    "features",
)
Row = dict[str, Any]
Snapshots = Sequence[Mapping[str, FeatureValue]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One release as it orders what it is given."""

    manifest: Manifest
    encoder: Encoder
    rank: Answer
    formula: Formula

    @staticmethod
    def load(folder: Path) -> "Side":
        """Of a candidate's or release's folder; errors name what of it cannot be read."""
        manifest = read_manifest(folder)
        formula = parse(manifest.formula, manifest.objectives)
        return Side(manifest, Encoder.load(folder / ENCODER), load_ranker(folder), formula)

    @property
    def reads(self) -> frozenset[str]:
        """The features that its encoder looks for."""
        config = self.encoder.config
        numbers = (name for features in config.numbers.values() for name in features)
        return frozenset([*config.words.values(), *(name for name, _ in config.lists.values()), *numbers])

    def scores(self, rows: Snapshots) -> tuple[Floats, Floats | None]:
        """The formula's scores [n], and the click probabilities [n] (None: not an objective of this release)."""
        tensors = self.encoder.encode(rows)
        answers = in_batches(self.rank, tensors, np.arange(len(rows)), RANK_TENSORS)
        names = self.manifest.objectives
        clicks = answers[:, names.index(CLICK)].astype(np.float64) if CLICK in names else None
        return self.formula.score(answers, names), clicks


def rerank(
    lake: Path, month: str, *, candidate: Path, incumbent: Path, out: Path, requests: int = REQUESTS,
    report: Report = silent,
) -> Card:  # fmt: skip
    """Write the re-ranked requests of a month; NothingToRerank, and no file, when there is none that both sides can order."""
    sides = Side.load(candidate), Side.load(incumbent)
    ours, theirs = (one.manifest for one in sides)
    if ours.name == theirs.name:
        raise BadReranked(f"release {ours.name} cannot be held against itself; give another as the incumbent")
    first, following = month_days(month)
    shown = need_table(lake, TOPICS[IMPRESSIONS].table, made_by="the collector")
    labels = need_table(lake, TABLE, made_by="`livefeed features samples`")
    logged, drawn = draw(shown, days(first, following - timedelta(days=1)), requests)
    total = sum(map(len, drawn.values()))
    done, left_out, kept, rows = 0, Counter[str](), 0, 0
    with writing(out) as writer:
        for day, wanted in _portions(drawn):
            report("rerank", done, total, day.isoformat())
            whole, why = _whole(_logged(shown, labels, day, wanted), sides[0].reads | sides[1].reads)
            left_out.update(why)
            done, kept, rows = done + len(wanted), kept + len(whole), rows + sum(map(len, whole))
            if whole:
                writer.write_table(ordered(whole, *sides))
        if not rows:
            raise NothingToRerank(f"no request of {month} can be put in order again: {said(logged, left_out)}")
        card = Card(
            month=month, line=ours.line, candidate=ours.name, incumbent=theirs.name, logged=logged, drawn=total,
            requests=kept, rows=rows, left_out=dict(left_out), candidate_until=ours.data_until,
            incumbent_until=theirs.data_until,
        )  # fmt: skip
        sign(writer, card)
    report("rerank", total, total)
    return card


def said(logged: int, left_out: Mapping[str, int]) -> str:
    """What there was and what of it was left out, for people."""
    reasons = ", ".join(f"{count:,} with {why}" for why, count in sorted(left_out.items()))
    return f"{logged:,} were logged" + (f", left out were {reasons}" if reasons else "")


def draw(shown: PinnedTable, dates: Sequence[date], requests: int) -> tuple[int, dict[date, list[str]]]:
    """How many requests those days have, and a uniform sample of them by day: the ids of the smallest hashes."""
    if requests < 1:
        raise BadReranked(f"{requests} requests cannot be drawn; give 1 or more")
    logged, kept = 0, dict[str, tuple[bytes, date]]()
    for day in dates:
        found = pc.unique(shown.read([day], ["request_id"], where=pc.field("type") == IMPRESSION)["request_id"])
        new = [one for one in found.to_pylist() if one not in kept]
        logged += len(new)
        kept |= {one: (_hash(one), day) for one in new}
        kept = dict(sorted(kept.items(), key=lambda item: item[1])[:requests])
    out: dict[date, list[str]] = {}
    for one, (_, day) in kept.items():
        out.setdefault(day, []).append(one)
    return logged, dict(sorted(out.items()))


def _hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode(), digest_size=8).digest()


def _portions(drawn: Mapping[date, Sequence[str]]) -> Iterator[tuple[date, Sequence[str]]]:
    for day, ids in drawn.items():
        for start in range(0, len(ids), AT_ONCE):
            yield day, ids[start : start + AT_ONCE]


def _logged(shown: PinnedTable, labels: PinnedTable, day: date, wanted: Sequence[str]) -> list[list[Row]]:
    """The impressions of those requests with their click, each item once by its earliest: a list a request."""
    hers = pc.field("request_id").isin(list(wanted))
    rows = distinct(shown.read([day], _SHOWN, where=hers & (pc.field("type") == IMPRESSION))).to_pylist()
    told = labels.read([day], ["request_id", "item_id", CLICK], where=hers).to_pylist()
    clicks = {(row["request_id"], row["item_id"]): row[CLICK] for row in told}
    out: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: (row["event_at"], row["position"], row["event_id"])):
        row["clicked"] = clicks.get((row["request_id"], row["item_id"]))
        out.setdefault(row["request_id"], {}).setdefault(row["item_id"], row)
    return [list(items.values()) for items in out.values()]


def _whole(requests: Sequence[list[Row]], reads: frozenset[str]) -> tuple[list[list[Row]], Counter[str]]:
    """The requests of which every item has all that is read, their features decoded; why the others were left out.

    A request is ordered whole or not at all: among fewer items than were shown its places would say something else.
    """
    whole, why = [], Counter[str]()
    for rows in requests:
        lacks = _decoded(rows, reads)
        if lacks:
            why[lacks] += 1
        else:
            whole.append(rows)
    return whole, why


def _decoded(rows: Sequence[Row], reads: frozenset[str]) -> str:
    """Decode a request's features in place; what it lacks, empty for nothing. A feature may be null, but must be named."""
    for row in rows:
        if row["features"] is None:
            return NO_FEATURES
        row["features"] = _READ.decode(row["features"])
        absent = reads - row["features"].keys()
        if absent:
            return f"no feature {min(absent)}"
    return ""


def ordered(requests: Sequence[Sequence[Row]], candidate: Side, incumbent: Side) -> pa.Table:
    """The requests as both sides order them, a row an item."""
    rows = [row for request in requests for row in request]
    of = np.repeat(np.arange(len(requests)), [len(request) for request in requests])
    tie = np.array([_hash(f"{row['request_id']} {row['item_id']}") for row in rows])
    features = [row["features"] for row in rows]
    (ours, predicted), (theirs, _) = candidate.scores(features), incumbent.scores(features)
    columns: dict[str, Any] = {
        "candidate_rank": _places(of, ours, tie), "incumbent_rank": _places(of, theirs, tie), "predicted": predicted,
    }  # fmt: skip
    for name in SCHEMA.names:
        if name not in columns:
            columns[name] = [row[name] for row in rows]
    none = pa.nulls(len(rows), pa.float64())
    arrays = [
        none if columns[one.name] is None else pa.array(columns[one.name], one.type, from_pandas=True) for one in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def _places(of: npt.NDArray[np.int64], scores: Floats, tie: npt.NDArray[np.bytes_]) -> Floats:
    """Each row's place in its request, best score first, from 0, NaN for what is not shown; a request's rows lie together."""
    order = np.lexsort((tie, -scores, of))
    begins = np.searchsorted(of, of)  # of the request that a row belongs to
    place = np.arange(len(of)) - begins
    fits = -(-np.bincount(of)[of] // ONE_OF)
    out = np.empty(len(of))
    out[order] = np.where(place < fits, place, np.nan)  # ordering moves rows only within their request
    return out
