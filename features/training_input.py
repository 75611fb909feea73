"""The samples table as training reads it: numpy columns and parsed snapshots in event-time order, without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from events.schema import FeatureValue
from features.errors import BadRange, NoSamples
from features.offline_tables import open_table
from features.samples import TABLE

Words = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
_READ = msgspec.json.Decoder(dict[str, FeatureValue])


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
    completion: Labels
    like: Labels
    hydrated: npt.NDArray[np.bool_]
    features: Sequence[Mapping[str, FeatureValue]]

    def __len__(self) -> int:
        return len(self.event_at)

    def label(self, objective: str) -> Labels:
        """The 0/1 labels of `click`, `completion` or `like`."""
        found: Labels = {"click": self.click, "completion": self.completion, "like": self.like}[objective]
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


def read_samples(lake: Path, *, until: date | None = None) -> Samples:
    """The samples with event dates up to and with `until` (None: all); NoSamples when there are none."""
    table = open_table(lake, TABLE)
    dates = [] if table is None else [day for day in table.rows if until is None or day <= until]
    if table is None or not dates:
        when = "" if until is None else f" up to {until}"
        raise NoSamples(f"no samples{when} are in {lake}; `livefeed features samples` builds them")
    names = [one.name for one in fields(Samples)]
    rows = table.read(dates, names)
    return to_samples(rows.sort_by([(name, "ascending") for name in ("event_at", "request_id", "position")]))


def to_samples(rows: pa.Table) -> Samples:
    """Arrow rows, already in order, as columns."""
    out: dict[str, Any] = {"features": [_READ.decode(text) for text in rows["features"].to_pylist()]}
    for one in fields(Samples):
        kind = rows.schema.field(one.name).type
        if one.name == "features":
            continue
        if pa.types.is_timestamp(kind):
            micros = rows[one.name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
            out[one.name] = pc.divide(micros.cast(pa.float64()), 1e6).to_numpy().astype(np.float64)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            out[one.name] = np.array(rows[one.name].to_pylist(), dtype=object)
        else:
            out[one.name] = np.asarray(rows[one.name].to_numpy())
    return Samples(**out)
