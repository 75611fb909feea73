"""A month's audit rows from the offline tables: impressions with their labels, profiles, the catalogue, and what came before.

Labels are those of the samples table (features/labels.py); an impression whose windows are not over has none yet, and the
audit is then held rather than made of half a month.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from events.topics import ENGAGEMENT, IMPRESSION, IMPRESSIONS, LIFECYCLE, MEDIA, PROFILES, TOPICS
from features.definitions import FOLLOWS, STARTS
from features.offline_tables import PinnedTable, days, distinct, need_table, open_table
from features.samples import TABLE
from monitoring.audit import AuditPlan, month_days, sides_of
from monitoring.audit_record import AuditConfig
from monitoring.audit_requests import answers
from monitoring.audit_rows import COLUMNS, AuditRows, Reranked

_SCORES = msgspec.json.Decoder(dict[str, float])
_SHOWN = ("event_id", "kafka_partition", "request_id", "user_id", "item_id", "creator_id", "position", "event_at", "release",
          "propensity", "scores")  # fmt: skip
_LABELS = {"click": "clicked", "watch": "started", "completion": "completed"}
_ROOM_REACH = timedelta(days=1)  # a room opened on the day before the month may have been live in it


def audit_plan(rows: AuditRows, *, month: str, line: str, against: str, config: AuditConfig) -> AuditPlan:
    """The plan of a line's month; `against` names the incumbent's line, empty for all others that were in traffic."""
    releases = [str(one) for one in pc.unique(rows.impressions["release"]).to_pylist()]
    candidate, incumbent = sides_of(releases, line, against=against)
    return AuditPlan(line=line, month=month, candidate=candidate, incumbent=incumbent, config=config)


def audit_rows(lake: Path, month: str, *, reranked: Reranked | None = None) -> AuditRows:
    """Everything an audit of that month reads, of all lines; NoTable names the command that makes what is not there.

    A month that is not over, or in which traffic stopped, ends with its newest impression.
    """
    first, following = month_days(month)
    items = _items(lake, first, following)
    profiles = _profiles(lake, following)
    past = _engagement(lake, first)
    shown = _shown(lake, first, following)
    impressions, found = _impressions(lake, first, following, shown), answers(lake, first, following, shown)
    newest = pc.max(impressions["event_at"]).as_py()
    return AuditRows(
        until=_epoch(following) if newest is None else min(newest, _epoch(following)), impressions=impressions,
        viewers=_viewers(profiles), creators=_creators(profiles, items, past), items=_table("items", items),
        history=_history(past), requests=None if found is None else _table("requests", found), reranked=reranked,
    )  # fmt: skip


def _shown(lake: Path, first: date, following: date) -> pd.DataFrame:
    """Each item of a request once, by its earliest impression, as the samples have it."""
    table = need_table(lake, TOPICS[IMPRESSIONS].table, made_by="the collector")
    rows = table.read(days(first, following - timedelta(days=1)), _SHOWN, where=pc.field("type") == IMPRESSION)
    found: pd.DataFrame = distinct(rows).to_pandas().sort_values(["event_at", "position", "event_id"])
    return found.drop_duplicates(["request_id", "item_id"])


def _impressions(lake: Path, first: date, following: date, shown: pd.DataFrame) -> pa.Table:
    """What was shown, with the samples' labels."""
    labels = need_table(lake, TABLE, made_by="`livefeed features samples`")
    dates = days(first, following - timedelta(days=1))
    told = labels.read(dates, ["request_id", "item_id", *_LABELS]).to_pandas().rename(columns=_LABELS)
    found = shown.merge(told, how="left", on=["request_id", "item_id"])
    found["predicted"] = [_click(one) for one in found["scores"]]
    found["event_at"] = _seconds(found["event_at"])
    return _table("impressions", found)


def _click(scores: str | None) -> float | None:
    """The click probability among an impression's scores; None where the ranker did not answer."""
    return None if scores is None else _SCORES.decode(scores).get("click")


def _profiles(lake: Path, until: date) -> pd.DataFrame:
    """The last profile of each person and type before `until`; of erased people none."""
    names = (
        "event_id",
        "kafka_partition",
        "type",
        "user_id",
        "event_at",
        "language",
        "age_band",
        "gender",
        "joined_at",
    )
    rows = _before(open_table(lake, TOPICS[PROFILES].table), until, names).sort_values("event_at", kind="stable")
    erased = rows[rows["type"] == "profile_erased"].groupby("user_id")["event_at"].max()
    gone = rows["event_at"] <= rows["user_id"].map(erased)
    return rows[~gone].drop_duplicates(["user_id", "type"], keep="last")


def _viewers(profiles: pd.DataFrame) -> pa.Table:
    return _table("viewers", profiles[profiles["type"] == "viewer_profile"])


def _creators(profiles: pd.DataFrame, items: pd.DataFrame, past: pd.DataFrame) -> pa.Table:
    """Whoever made something of the catalogue, with what the profile says; size are followers before the month."""
    known = profiles[profiles["type"] == "creator_profile"].rename(columns={"user_id": "creator_id"})
    follows = past[past["type"].isin(FOLLOWS)].drop_duplicates(["user_id", "creator"])
    size = follows.groupby("creator").size()
    out = pd.DataFrame({"creator_id": sorted(set(items["creator_id"].dropna()))}, dtype=object)
    out = out.merge(known[["creator_id", "language", "joined_at"]], how="left", on="creator_id")
    out["size"] = out["creator_id"].map(size).fillna(0.0).astype(float)
    out["joined_at"] = _seconds(out["joined_at"])
    return _table("creators", out)


def _items(lake: Path, first: date, following: date) -> pd.DataFrame:
    """Media and rooms as last described before the month's end; listed is what was not removed, or opened, in time."""
    names = ("event_id", "kafka_partition", "type", "item_id", "event_at", "creator_id", "category", "language")
    media = _before(open_table(lake, TOPICS[MEDIA].table), following, names).sort_values("event_at", kind="stable")
    last = media.drop_duplicates("item_id", keep="last").set_index("item_id")
    removed = last[(last["type"] != "media_published") & (last["event_at"] < _instant(first))].index
    items = media[media["type"] == "media_published"].drop_duplicates("item_id", keep="last").copy()
    items["listed"] = (~items["item_id"].isin(removed)).astype("int8")
    names = ("event_id", "kafka_partition", "type", "room_id", "event_at", "streamer_id", "category", "language")
    rooms = _before(open_table(lake, TOPICS[LIFECYCLE].table), following, names, kinds=["room_opened"])
    rooms = rooms.sort_values("event_at", kind="stable").drop_duplicates("room_id", keep="last")
    rooms = rooms.rename(columns={"room_id": "item_id", "streamer_id": "creator_id"})
    rooms["listed"] = (rooms["event_at"] >= _instant(first - _ROOM_REACH)).astype("int8")
    wanted = COLUMNS["items"].names
    both: pd.DataFrame = pd.concat([items[wanted], rooms[wanted]], ignore_index=True)
    return both.drop_duplicates("item_id")


def _engagement(lake: Path, until: date) -> pd.DataFrame:
    """Starts and follows before the month: who, which item, whose."""
    names = ("event_id", "kafka_partition", "type", "user_id", "item_id", "room_id", "creator_id", "streamer_id")
    rows = _before(open_table(lake, TOPICS[ENGAGEMENT].table), until, names, kinds=[*STARTS, *FOLLOWS])
    rows["item"] = rows["item_id"].fillna(rows["room_id"])
    rows["creator"] = rows["creator_id"].fillna(rows["streamer_id"])
    return rows


def _history(past: pd.DataFrame) -> pa.Table:
    taken = past[past["type"].isin(STARTS)][["user_id", "item"]].dropna().drop_duplicates()
    return _table("history", taken.rename(columns={"item": "item_id"}))


def _before(
    table: PinnedTable | None, until: date, names: Sequence[str], *, kinds: Collection[str] = ()
) -> pd.DataFrame:
    """A table's rows of days before `until`, each event once; no rows where there is no table yet."""
    if table is None:
        return pd.DataFrame({name: pd.Series(dtype=_DTYPES.get(name, "object")) for name in names})
    where = pc.field("type").isin(list(kinds)) if kinds else None
    dates = [day for day in table.rows if day < until]
    found: pd.DataFrame = distinct(table.read(dates, names, where=where)).to_pandas()
    return found


_DTYPES = {"event_at": "datetime64[us, UTC]", "joined_at": "datetime64[us, UTC]"}


def _table(name: str, rows: pd.DataFrame) -> pa.Table:
    """The audit's table of that name from a frame's columns of the same names; what is missing is null."""
    schema = COLUMNS[name]
    columns: dict[str, Any] = {field.name: _column(rows[field.name], field.type) for field in schema}
    return pa.table(columns, schema=schema)


def _column(values: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array(values.astype(object), kind, from_pandas=True)
    return pa.array(pd.to_numeric(values).astype("float64"), pa.float64(), from_pandas=True).cast(kind)


def _seconds(times: "pd.Series[Any]") -> "pd.Series[Any]":
    """Epoch seconds, NaN for no time."""
    whole = pd.to_datetime(times, utc=True)
    return (whole - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def _instant(day: date) -> pd.Timestamp:
    return pd.Timestamp(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _epoch(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
