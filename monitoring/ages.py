"""How long before each impression the newest of the events about its viewer, its item and its creator reached the log.

An event that was still on its way (its log partition had already shown later event times) counts as new when it arrives: no
store could have known it at the impression.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from events.topics import ENGAGEMENT, LIFECYCLE, MEDIA, PROFILES, TOPICS
from features.history import Ask
from features.offline_tables import PinnedTable, open_table

# event_id -> entity ("user", "item", "creator") -> seconds; an entity that nothing touched for a day or two is absent.
Ages = Mapping[str, Mapping[str, float]]
# Columns of each table that name the entity.
COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    ENGAGEMENT: {"user": ("user_id",), "item": ("item_id", "room_id"), "creator": ("creator_id", "streamer_id")},
    MEDIA: {"item": ("item_id",)},
    LIFECYCLE: {"item": ("room_id",), "creator": ("streamer_id",)},
    PROFILES: {"user": ("user_id",), "creator": ("user_id",)},
}
PLACE = ["kafka_partition", "kafka_offset", "event_at", "late", "type"]
SILENT = "room_heartbeat"  # renews a lease and changes no value that a model sees


def ages_before(lake: Path, shown: Sequence[tuple[Ask, str]]) -> Ages:
    """Ages by event_id of impressions, each given with its creator's id; rows flagged late are left out."""
    out: dict[str, dict[str, float]] = {ask.event_id: {} for ask, _ in shown}
    if not shown:
        return out
    asked = pd.DataFrame([
        {"event_id": ask.event_id, "at": ask.at, "user": ask.user_id, "item": ask.item_id, "creator": creator}
        for ask, creator in shown
    ]).sort_values("at")  # fmt: skip
    touches = _touches(lake, asked)
    for entity in ("user", "item", "creator"):
        mine = touches[touches["entity"] == entity].sort_values("event_at", kind="stable")
        if mine.empty:
            continue
        mine["arrived"] = mine.groupby("id")["arrived"].cummax()
        met = pd.merge_asof(
            asked, mine[["id", "event_at", "arrived"]], left_on="at", right_on="event_at", left_by=entity, right_by="id",
            allow_exact_matches=False,
        ).dropna(subset=["arrived"])  # fmt: skip
        for event_id, age in zip(met["event_id"], met["at"] - met["arrived"], strict=True):
            out[event_id][entity] = max(float(age), 0.0)
    return out


def _touches(lake: Path, asked: pd.DataFrame) -> pd.DataFrame:
    """Events about the entities asked for: entity, id, event_at, arrived (epoch seconds); one day's rows at a time."""
    first = _day(float(asked["at"].min())) - timedelta(days=1)
    last = _day(float(asked["at"].max()))
    found = [pd.DataFrame({"entity": [], "id": [], "event_at": [], "arrived": []})]
    for topic, entities in COLUMNS.items():
        table = open_table(lake, TOPICS[topic].table)
        reached: dict[int, float] = {}
        for day in sorted(table.rows) if table is not None else []:
            if table is not None and first <= day <= last:
                found += _of_day(table, day, entities, asked=asked, reached=reached)
    return pd.concat(found)


def _of_day(
    table: PinnedTable, day: date, entities: Mapping[str, Sequence[str]], *, asked: pd.DataFrame, reached: dict[int, float]
) -> list[pd.DataFrame]:  # fmt: skip
    """The touches of one event date; `reached` is the newest event time by log partition and is carried on."""
    columns = list(dict.fromkeys(name for names in entities.values() for name in names))
    rows = table.read([day], [*columns, *PLACE])
    rows = rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
    at = pc.divide(
        rows["event_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).cast(pa.float64()), 1e6
    ).to_numpy()
    lane, arrived = rows["kafka_partition"].to_numpy(), np.array(at)
    for number in np.unique(lane).tolist():
        mine = lane == number
        arrived[mine] = np.maximum(np.maximum.accumulate(at[mine]), reached.get(number, -np.inf))
        reached[number] = float(arrived[mine][-1])
    counts = ~rows["late"].to_numpy() & (rows["type"].to_numpy() != SILENT)
    out = []
    for entity, names in entities.items():
        for name in names:
            here = counts & pc.is_in(rows[name], pa.array(asked[entity].unique(), pa.string())).to_numpy()
            ids = rows[name].to_numpy()[here]
            out.append(pd.DataFrame({"entity": entity, "id": ids, "event_at": at[here], "arrived": arrived[here]}))
    return out


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, tz=UTC).date()
