"""Values in Spark as of a moment: small stories with hand-made numbers; test_parity.py compares every feature."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from events import schema as s
from events.log import Record
from events.tables import to_row
from events.topics import topic_of
from features.definitions import Entity
from features.errors import BadRange, NoTable
from features.state import pair_id
from features.tables import DeltaTables
from features.values_at import values_at
from tests.features.conftest import at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Told = Iterable[tuple[s.Event, float]]  # an event, and the minutes after noon at which it was ingested
Point = tuple[Any, ...]
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ask(lake: Path, spark: "SparkSession") -> Ask:
    """Store events with their ingestion times, then ask for points: (id, minutes) or (id, minutes, seen minutes)."""

    def values(told: Told, points: list[Point], *names: str, entity: Entity = Entity.USER) -> list[dict[str, Any]]:
        store(lake, told)
        rows = [(n, one[0], *(at(minutes).timestamp() for minutes in one[1:])) for n, one in enumerate(points)]
        schema = "n int, id string, at double" + (", seen_at double" if len(points[0]) == 3 else "")
        found = values_at(spark, lake, spark.createDataFrame(rows, schema), entity=entity, features=names or None)
        return [row.asDict() for row in found.orderBy("n").collect()]

    return values


def store(lake: Path, told: Told) -> None:
    tables = DeltaTables(lake)
    rows: dict[str, list[dict[str, object]]] = {}
    for number, (event, minutes) in enumerate(told):
        name = topic_of(event).name
        record = Record(name, 0, number, None, b"")
        rows.setdefault(name, []).append(to_row(event, record, ingested_at=at(minutes), late=False))
    for name, found in rows.items():
        tables.progress(name, partitions=[0])
        tables.append(name, found, offsets={0: len(found)})


def started(event_id: str, minutes: float, item_id: str = "i1") -> s.MediaStarted:
    return s.MediaStarted(event_id=event_id, event_at=at(minutes), user_id="u1", item_id=item_id)


def published(event_id: str, minutes: float, category: str, item_id: str = "i1") -> s.MediaPublished:
    return s.MediaPublished(
        event_id=event_id, event_at=at(minutes), item_id=item_id, creator_id="c1", content_type="VIDEO", category=category
    )  # fmt: skip


def seconds(when: datetime) -> float:
    return when.timestamp()


def test_a_value_counts_events_up_to_its_moment_that_instant_included(ask: Ask) -> None:
    told = [(started("a", 0), 0), (started("b", 10), 10)]
    found = ask(told, [("u1", -1), ("u1", 0), ("u1", 9.9), ("u1", 10)], "plays")
    assert [row["plays"] for row in found] == [0.0, 1.0, 1.0, 2.0]


def test_a_bound_on_ingestion_leaves_out_what_was_stored_later(ask: Ask) -> None:
    told = [(started("a", 0), 0), (started("b", 1), 30)]  # the second took half an hour
    found = ask(told, [("u1", 60, 29), ("u1", 60, 30)], "plays")
    assert [row["plays"] for row in found] == [1.0, 2.0]


def test_words_are_those_known_at_the_moment_by_event_time_and_by_ingestion(ask: Ask) -> None:
    told = [(started("a", 0), 0), (published("m1", 5, "jazz"), 5), (published("m2", 10, "rock"), 40)]
    points = [("u1", 1, 60), ("u1", 6, 60), ("u1", 20, 30), ("u1", 20, 60)]
    assert [row["top_categories_7d"] for row in ask(told, points, "top_categories_7d")] == [
        [],
        ["jazz"],
        ["jazz"],
        ["rock"],
    ]


def test_the_same_point_asked_twice_is_answered_twice(ask: Ask) -> None:
    found = ask([(started("a", 0), 0)], [("u1", 5), ("u1", 5), ("u2", 5)], "plays")
    assert [(row["id"], row["at"], row["plays"]) for row in found] == [
        ("u1", seconds(at(5)), 1.0), ("u1", seconds(at(5)), 1.0), ("u2", seconds(at(5)), 0.0),
    ]  # fmt: skip


def test_an_entity_never_seen_has_every_default(ask: Ask) -> None:
    (nobody,) = ask([(started("a", 0), 0)], [("u9", 5)])
    assert nobody["preferred_language"] == "unknown" and nobody["plays"] == 0.0 and nobody["satisfaction"] == 0.6
    assert nobody["recent_positive"] == [] and nobody["tag_affinity"] == {} and nobody["avg_session_duration"] == 0.0


def test_a_viewer_in_two_rooms_is_present_in_each_until_leaving_or_for_a_lease(ask: Ask) -> None:
    def room(event_id: str, minutes: float, room_id: str) -> dict[str, Any]:
        return {"event_id": event_id, "event_at": at(minutes), "user_id": "u1", "room_id": room_id, "streamer_id": "h1"}

    told = [
        (s.RoomEntered(**room("a", 0, "r1")), 0), (s.RoomEntered(**room("b", 0.5, "r2")), 0),
        (s.RoomLeft(**room("c", 1, "r1"), watched_s=60.0), 0), (s.WatchHeartbeat(**room("d", 1, "r1")), 0),
    ]  # fmt: skip
    found = ask(told, [("r1", 0.9), ("r1", 1), ("r2", 1.9), ("r2", 2)], "current_viewers", entity=Entity.ITEM)
    assert [row["current_viewers"] for row in found] == [1.0, 0.0, 1.0, 0.0]


def test_an_unknown_feature_is_named_with_those_there_are(ask: Ask) -> None:
    with pytest.raises(BadRange, match="no feature 'clicks' of the entity pair; allowed are watches, last_watch_at"):
        ask([(started("a", 0), 0)], [("u1|c1", 5)], "clicks", entity=Entity.PAIR)


def test_a_lake_without_events_says_who_makes_them(ask: Ask) -> None:
    with pytest.raises(NoTable, match="the collector makes them"):
        ask([], [("u1", 5)])


def test_spark_keeps_the_pairs_of_viewers_apart_whose_ids_hold_a_bar(ask: Ask) -> None:
    def entered(event_id: str, user: str, host: str) -> s.RoomEntered:
        return s.RoomEntered(event_id=event_id, event_at=at(0), user_id=user, room_id="r", streamer_id=host)

    told = [(entered("a", "u|x", "h"), 0), (entered("b", "u|x", "h"), 1), (entered("c", "u", "x|h"), 0)]
    asked = [(pair_id("u|x", "h"), 5), (pair_id("u", "x|h"), 5), (pair_id("u", "h"), 5)]
    assert [row["watches"] for row in ask(told, asked, "watches", entity=Entity.PAIR)] == [2.0, 1.0, 0.0]
