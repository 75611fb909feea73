"""The samples tables as training reads them: numpy columns and parsed snapshots in time order, without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from events.schema import FeatureValue
from events.topics import TOPICS
from features.attribution import Kind
from features.errors import BadRange, NoSamples
from features.history import APPLIED
from features.labels import NAMES, OBJECTIVES
from features.offline_tables import PinnedTable, open_table
from features.samples import CORRECTED, TABLE

# What a release is trained on: read at one version each (offline_tables.versions_now), which its manifest names.
TRAINED_ON = (TABLE, *(TOPICS[name].table for name in APPLIED))
Words = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
_READ = msgspec.json.Decoder(dict[str, FeatureValue])
_DELAYS = msgspec.json.Decoder(dict[str, float])


@dataclass(frozen=True)
class Samples:
    """One row an impression, sorted by (event_at, request_id, position); every column has the same length.

    Times are epoch seconds; `propensity` and `positive_at` are NaN where unknown; labels are 0 or 1.
    """

    request_id: Words
    item_id: Words
    user_id: Words
    item_key: Words
    content_type: Words
    creator_id: Words
    surface: Words
    source: Words
    arm: Words
    release: Words
    position: npt.NDArray[np.int32]
    propensity: Numbers
    event_at: Numbers
    positive_at: Numbers
    click: Labels
    watch: Labels
    effective_watch: Labels
    interaction: Labels
    follow: Labels
    gift: Labels
    completion: Labels
    like: Labels
    share: Labels
    hydrated: npt.NDArray[np.bool_]
    features: Sequence[Mapping[str, FeatureValue]]

    def __len__(self) -> int:
        return len(self.event_at)

    def label(self, objective: str) -> Labels:
        """The 0/1 labels of an objective; BadRange names the ones there are."""
        if objective not in NAMES:
            raise BadRange(f"there is no objective {objective!r}; allowed are {', '.join(NAMES)}")
        found: Labels = getattr(self, objective)
        return found

    def take(self, rows: npt.NDArray[Any]) -> Samples:
        """Those rows, given as indices or as a mask, in their order."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = {one.name: getattr(self, one.name)[index] for one in fields(self) if one.name != "features"}
        return Samples(**columns, features=[self.features[place] for place in index.tolist()])

    def split(self, fraction: float = 0.8) -> tuple[Samples, Samples]:
        """The earlier `fraction` of the samples and the rest; impressions of one instant stay together, in the rest.

        BadRange when the fraction is not between 0 and 1, NoSamples when either side would be empty.
        """
        if not 0.0 < fraction < 1.0:
            raise BadRange(f"a split at {fraction} is not possible; the fraction must lie between 0 and 1")
        if len(self) < 2:
            raise NoSamples(f"{len(self)} samples cannot be split by time; at least 2 are needed")
        cut = self.event_at[int(len(self) * fraction)]
        earlier = int(np.searchsorted(self.event_at, cut, side="left"))
        if earlier == 0:
            raise NoSamples(
                f"all of the first {fraction:.0%} of {len(self)} samples fall on one instant: no split by time"
            )
        place = np.arange(len(self))
        return self.take(place[:earlier]), self.take(place[earlier:])


@dataclass(frozen=True)
class CorrectedSamples:
    """Rows of the correction by the time they became known: windowed samples, delayed positives, real negatives.

    `rows` are their features and labels, `objective` is empty on windowed rows, `mask` [n, objectives] int8 (in the order of
    features.labels.NAMES) says which labels count. `elapsed_s` are seconds from the impression to `known_at` (epoch seconds),
    `delays` seconds from the impression to the first positive by objective: what corrected losses weigh by.
    """

    rows: Samples
    kind: Words
    objective: Words
    mask: Labels
    elapsed_s: Numbers
    known_at: Numbers
    delays: Sequence[Mapping[str, float]]

    def __len__(self) -> int:
        return len(self.known_at)


def read_samples(lake: Path, *, until: date | None = None, version: int | None = None) -> Samples:
    """The samples with event dates up to and with `until` (None: all); NoSamples when there are none.

    With `version`, as the table was then; VersionGone when that can no longer be read.
    """
    table, dates = _dated(lake, TABLE, None, until, version=version)
    rows = table.read(dates, [one.name for one in fields(Samples)])
    return to_samples(rows.sort_by([(name, "ascending") for name in ("event_at", "request_id", "position")]))


def read_corrected(lake: Path, *, since: float | None = None, until: float | None = None) -> CorrectedSamples:
    """What the correction learned after `since` and up to `until` (epoch seconds of event time; None: no bound).

    Of a windowed row only the objectives count whose observation window ended in between, so that consecutive intervals
    give every label once. NoSamples when nothing is there.
    """
    table, dates = _dated(lake, CORRECTED, since, None if until is None else _day(until))
    masks = [f"mask_{name}" for name in NAMES]
    said = ("kind", "objective", "elapsed_s", "known_at", "delays")
    rows = table.read(dates, [*(one.name for one in fields(Samples)), *said, *masks])
    rows = rows.sort_by([(name, "ascending") for name in ("known_at", "request_id", "item_id", "kind", "objective")])
    found = to_samples(rows)
    mask = np.stack([rows[name].to_numpy() for name in masks], axis=1).astype(np.int8)
    kind, known_at = _words(rows["kind"]), _seconds(rows["known_at"])
    ends = np.where(
        (kind == Kind.WINDOWED.value)[:, None],
        found.event_at[:, None] + np.array([one.observe_s for one in OBJECTIVES]),
        known_at[:, None],
    )
    mask *= (ends > (-np.inf if since is None else since)) & (ends <= (np.inf if until is None else until))
    kept = np.flatnonzero(mask.any(axis=1))
    if not len(kept):
        raise NoSamples(f"no corrected sample in {lake} became known {_between(since, until)}")
    delays = [_DELAYS.decode(text) for text in rows["delays"].take(pa.array(kept)).to_pylist()]
    elapsed = rows["elapsed_s"].to_numpy()[kept]
    return CorrectedSamples(
        found.take(kept), kind[kept], _words(rows["objective"])[kept], mask[kept], elapsed, known_at[kept], delays
    )


def to_samples(rows: pa.Table) -> Samples:
    """Arrow rows, already in order, as columns."""
    for name in NAMES:
        if rows[name].null_count:
            raise NoSamples(
                f"{rows[name].null_count} samples of older builds have no label {name!r}; "
                "`livefeed features samples` builds their days anew"
            )
    out: dict[str, Any] = {"features": [_READ.decode(text) for text in rows["features"].to_pylist()]}
    for one in fields(Samples):
        kind = rows.schema.field(one.name).type
        if one.name == "features":
            continue
        if pa.types.is_timestamp(kind):
            out[one.name] = _seconds(rows[one.name])
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            out[one.name] = _words(rows[one.name])
        else:
            out[one.name] = np.asarray(rows[one.name].to_numpy())
    return Samples(**out)


def _dated(
    lake: Path, name: str, since: float | None, until: date | None, *, version: int | None = None
) -> tuple[PinnedTable, list[date]]:
    """The table and its dates that can hold rows of the interval; NoSamples when there are none."""
    table = open_table(lake, name, version=version)
    longest = max(one.attribute_s for one in OBJECTIVES)
    first = None if since is None else _day(since - longest)
    held = [] if table is None else table.rows
    dates = [day for day in held if (until is None or day <= until) and (first is None or day >= first)]
    if table is None or not dates:
        when = "" if until is None else f" up to {until}"
        how = "" if name == TABLE else " --attribution correction"
        raise NoSamples(
            f"no {name.replace('_', ' ')}{when} are in {lake}; `livefeed features samples{how}` builds them"
        )
    return table, dates


def _between(since: float | None, until: float | None) -> str:
    after = "" if since is None else f"after {datetime.fromtimestamp(since, tz=UTC).isoformat()} "
    return after + ("" if until is None else f"up to {datetime.fromtimestamp(until, tz=UTC).isoformat()}")


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, tz=UTC).date()


def _words(column: pa.ChunkedArray) -> Words:
    return np.array(column.to_pylist(), dtype=object)


def _seconds(column: pa.ChunkedArray) -> Numbers:
    micros = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    seconds: Numbers = pc.divide(micros.cast(pa.float64()), 1e6).to_numpy().astype(np.float64)
    return seconds
