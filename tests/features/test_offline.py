"""The Spark columns say what the definitions say: the same events, the same values, by Spark and event by event."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import schema as s
from events.clock import SetClock
from features.columns import spark_features
from features.definitions import Entity
from features.history import replayed
from features.offline import DAILY, build_feature_tables, table_of
from features.offline_tables import days, open_table
from features.state import values
from features.store import MemoryStore
from tests.features.conftest import Store, at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST, LAST = date(2026, 11, 10), date(2026, 11, 20)
CATEGORIES = ("music", "sport", "children's", "news")


def story(seed: int = 7, events: int = 1_500) -> list[s.Event]:
    """Ten days of viewers, items that change, rooms that open and close; many events share an instant."""
    draw = random.Random(seed)
    out: list[s.Event] = list(_described(draw))
    for number in range(events):
        when = at(draw.randrange(0, 10 * 24 * 60) - 720 + draw.choice((0, 0.5)))
        out.append(_engaged(draw, f"e{number}", when, f"u{draw.randrange(8)}"))
    return out


def _described(draw: random.Random) -> Iterator[s.Event]:
    for number in range(60):
        when = at(draw.randrange(-720, 9 * 24 * 60))
        item, category = f"i{draw.randrange(15)}", draw.choice(CATEGORIES)
        common = {"event_id": f"m{number}", "event_at": when, "item_id": item}
        match number % 6:
            case 0:
                yield s.MediaHidden(**common)
            case 1:
                yield s.MediaRemoved(**common)
            case _:
                yield s.MediaPublished(
                    **common, creator_id=f"c{draw.randrange(3)}", content_type=draw.choice(("VIDEO", "AUDIO")),
                    category=category, tags=draw.choice(((), (category,), (category, "live"))),
                    duration_s=draw.choice((None, 61.5, 90.0)),
                )  # fmt: skip
    for number in range(20):
        when, room = (
            at(draw.randrange(-720, 9 * 24 * 60)),
            {"streamer_id": f"c{number % 4}", "room_id": f"r{number % 6}"},
        )
        yield s.RoomOpened(event_id=f"o{number}", event_at=when, **room, category=draw.choice(CATEGORIES))
        yield s.RoomHeartbeat(event_id=f"h{number}", event_at=when + timedelta(seconds=30), **room)
        yield s.RoomClosed(event_id=f"x{number}", event_at=when + timedelta(minutes=draw.choice((0, 9))), **room)
    for number in range(12):
        language = draw.choice((None, "ko", "en"))
        yield s.ViewerProfile(
            event_id=f"p{number}", event_at=at(draw.randrange(3) * 60), user_id=f"u{number % 6}", language=language
        )


def _engaged(draw: random.Random, event_id: str, when: datetime, user: str) -> s.Event:
    common: dict[str, Any] = {"event_id": event_id, "event_at": when, "user_id": user}
    if draw.random() < 0.6:
        kinds = (*[s.MediaStarted] * 4, *s.MEDIA_ENGAGEMENT, s.SubscriptionToCreator)
        kind = draw.choice(kinds)
        item = f"i{draw.randrange(18)}"  # three of them were never published
        if kind is s.SubscriptionToCreator:
            return kind(**common, creator_id=f"c{draw.randrange(3)}", item_id=draw.choice((None, item)))
        creator = draw.choice((None, f"c{draw.randrange(3)}"))  # not every player says whose item it is
        return kind(**common, item_id=item, creator_id=creator)
    number = draw.randrange(6)
    live = {**common, "room_id": f"r{number}", "streamer_id": f"c{number % 4}"}
    kind = draw.choice((*[s.RoomEntered] * 4, *s.LIVE_ENGAGEMENT))
    if kind is s.GiftSent:
        return kind(**live, amount=5.0)
    return kind(**live, watched_s=40.0) if kind is s.RoomLeft else kind(**live)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, (int, float)):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    return list(left) == list(right) if isinstance(left, (list, tuple)) else left == right


def rows_of(lake: Path, entity: Entity, day: date) -> dict[str, dict[str, Any]]:
    table = open_table(lake, table_of(entity))
    assert table is not None
    names = [field.name for field in table.delta.schema().fields]
    return {row[f"{entity.value}_id"]: row for row in table.read([day], names).to_pylist()}


def applied(lake: Path, *, until: float) -> MemoryStore:
    """Every event before `until`, one by one."""
    store = MemoryStore()
    for past in replayed(lake, until=until):
        store.apply(past.event, past.at)
    return store


def has_column(entity: Entity, store: MemoryStore, one: str) -> bool:
    """Whether an event said something to one of the daily columns."""
    return any(feature.state in store.read(entity, [one])[0] for feature in spark_features(entity))


def test_a_second_build_changes_nothing_and_a_correction_has_the_time_of_its_writing(
    lake: Path, store_events: Store, spark: "SparkSession"
) -> None:
    def build(minutes: float) -> dict[str, dict[str, Any]]:
        clock = SetClock(at(minutes).timestamp())
        build_feature_tables(spark, lake, dates=[FIRST], entities=[Entity.USER], clock=clock)
        return rows_of(lake, Entity.USER, FIRST)

    def started(event_id: str, user: str) -> s.MediaStarted:
        return s.MediaStarted(event_id=event_id, event_at=at(0), user_id=user, item_id="i1")

    store_events([started("a", "u1"), started("b", "u2")])
    first = build(800)
    assert build(900) == first and {row["written_at"] for row in first.values()} == {at(800)}
    store_events([started("c", "u2")])
    third = build(1_000)
    assert third["u1"] == first["u1"]
    assert third["u2"]["plays"] == 2.0 and third["u2"]["written_at"] == at(1_000)


def test_spark_and_replay_give_every_feature_the_same_value_on_every_day(
    lake: Path, store_events: Store, spark: "SparkSession"
) -> None:
    told = story()
    store_events(told[:800])
    store_events(told[500:])  # 300 events twice
    store_events([_engaged(random.Random(n), f"late{n}", at(n), "u1") for n in range(40)], late=True)
    written = build_feature_tables(spark, lake, dates=days(FIRST, LAST))
    compared = 0
    for day in days(FIRST, LAST):
        end = datetime.combine(day + timedelta(days=1), time(), UTC).timestamp()
        store = applied(lake, until=end)
        for entity in DAILY:
            got = rows_of(lake, entity, day)
            assert {one for one in store.ids(entity) if has_column(entity, store, one)} == set(got)
            for one, row in got.items():
                want = values(entity, store.read(entity, [one])[0], end, store.look)
                for feature in spark_features(entity):
                    left, right = want[feature.name], row[feature.name]
                    assert same(left, right), (day, entity, one, feature.name, left, right)
                    compared += 1
    assert compared > 3_000
    assert rows_of(lake, Entity.USER, LAST)  # a day without events has everybody's values too
    assert written["user_features"] == sum(len(rows_of(lake, Entity.USER, day)) for day in days(FIRST, LAST))
