"""The arithmetic of the memory benchmark."""

from benchmarks.memory import by_kind, projected_gb
from events.log import Place
from features.definitions import Entity
from features.store import OnlineRecord, RecordKey

P0, P1 = Place("user.engagement.events", 0), Place("stream.lifecycle", 1)


def test_records_are_told_apart_by_what_they_are_of() -> None:
    room, there = RecordKey(Entity.ITEM, "r", P1), RecordKey(Entity.ITEM, "r", P0)
    film, vera = RecordKey(Entity.ITEM, "film", P0), RecordKey(Entity.USER, "vera", P0)
    idle, pair = RecordKey(Entity.USER, "idle", P0), RecordKey(Entity.PAIR, "vera|anna", P0)
    live, plays = OnlineRecord(1, {"content_type": [1.0, "LIVE"]}), OnlineRecord(1, {"plays": {0: 1}})
    profile = OnlineRecord(1, {"preferred_language": [1.0, "de"]})
    kinds = by_kind({there: plays, room: live, film: plays, vera: plays, idle: profile, pair: plays})
    assert {name: set(some) for name, some in kinds.items()} == {
        "user": {vera}, "item": {film}, "room": {room, there}, "creator": set(), "pair": {pair},
    }  # fmt: skip


def test_the_projection_counts_ten_million_viewers_and_three_million_items() -> None:
    each = {"user": 1000.0, "pair": 50.0, "item": 500.0, "creator": 200.0, "vector": 100.0}
    whole = projected_gb(each, pairs_per_user=20.0, creators_per_item=0.5)
    assert whole == 10e6 * (1000 + 1000) / 1e9 + 3e6 * (500 + 100 + 100) / 1e9
