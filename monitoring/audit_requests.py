"""How many things a month's first pages were answered with: impressions by request, and the feeds that had nothing to show.

No empty feed in a month may mean that all were answered, or that nobody logged the others yet. So requests count from the
first empty feed on that the platform ever logged; before it there is nothing to tell, and it is said so.
"""

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from events.topics import EMPTY_FEED, IMPRESSIONS, TOPICS
from features.offline_tables import PinnedTable, days, distinct, need_table

NAMES = ("event_id", "kafka_partition", "request_id", "user_id", "event_at")
_IS_EMPTY = pc.field("type") == EMPTY_FEED


def answers(lake: Path, first: date, following: date, shown: pd.DataFrame) -> pd.DataFrame | None:
    """One row a request: user_id and `results`; None where no empty feed was logged up to `following`.

    `shown` are the month's impressions, each item of a request once: request_id, user_id, event_at.
    """
    table = need_table(lake, TOPICS[IMPRESSIONS].table, made_by="the collector")
    rows = table.read(days(first, following - timedelta(days=1)), NAMES, where=_IS_EMPTY)
    empty = distinct(rows).to_pandas().drop_duplicates("request_id")
    if not _logged_before(table, first):
        if empty.empty:
            return None
        shown = shown[shown["event_at"] >= empty["event_at"].min()]
    answered = shown.groupby("request_id").agg(user_id=("user_id", "first"), results=("user_id", "size"))
    nothing = empty[~empty["request_id"].isin(answered.index)][["user_id"]].assign(results=0)
    both: pd.DataFrame = pd.concat([answered, nothing], ignore_index=True)
    return both


def _logged_before(table: PinnedTable, first: date) -> bool:
    """Whether any empty feed lies before that day; the newest days are asked first."""
    earlier = sorted((day for day in table.rows if day < first), reverse=True)
    return any(_some(table.read([day], ["event_id"], where=_IS_EMPTY)) for day in earlier)


def _some(rows: pa.Table) -> bool:
    return bool(rows.num_rows)
