"""A collector may die before or after any write: the next one leaves both stores as if nothing had happened."""

from pathlib import Path
from typing import Any

from collector.config import TIMED_TOPICS
from events.errors import MalformedEvent
from events.topics import ENGAGEMENT, TOPICS, decode
from features.definitions import Entity
from features.store import MemoryStore
from tests.collector.stories import Crash, Evening, Fuse, busy_evening

LATENESS_S = 3600.0


def outcome(evening: Evening) -> dict[str, Any]:
    """Everything that a reader of the stores could see."""
    return {
        "rows": {topic: evening.rows(topic) for topic in TOPICS},
        "states": states(evening.store),
        "progress": evening.store.progress(),
        "rooms": evening.store.leases_of,
        "watermark": evening.store.watermark(),
        "dead": evening.dead_letters(),
    }


def states(store: MemoryStore) -> dict[Any, Any]:
    return {(kind, one): store.read(kind, [one])[0] for kind in Entity for one in store.ids(kind)}


def by_hand(evening: Evening) -> tuple[dict[tuple[str, int, int], bool], MemoryStore]:
    """What must be stored (place -> late) and applied, from the log alone, in the plainest way."""
    kept: dict[tuple[str, int, int], bool] = {}
    applied = MemoryStore()
    for topic in sorted(TOPICS, key=lambda name: name == ENGAGEMENT):  # what is about comes before what is done with it
        for place in sorted(place for place in evening.log.records if place.topic == topic):
            seen: set[str] = set()
            mark = float("-inf")
            for record in evening.log.records[place]:
                try:
                    event = decode(topic, record.value)
                except MalformedEvent:
                    continue
                if event.event_id in seen:
                    continue
                seen.add(event.event_id)
                late = event.event_at.timestamp() < mark - LATENESS_S and topic in TIMED_TOPICS
                mark = max(mark, event.event_at.timestamp())
                kept[topic, record.partition, record.offset] = late
                if not late:
                    applied.apply(event, event.event_at.timestamp(), place=place)
    return kept, applied


def test_an_undisturbed_run_stores_and_applies_what_a_plain_reading_of_the_log_gives(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    busy_evening(evening)
    report = evening.collect().report
    kept, applied = by_hand(evening)
    found = {(t, r["kafka_partition"], r["kafka_offset"]): r["late"] for t in TOPICS for r in evening.rows(t)}
    assert found == kept
    assert states(evening.store) == states(applied)
    sent = sum(len(lane) for place, lane in evening.log.records.items() if place.topic in TOPICS)
    assert report.total("stored") == sent - report.total("duplicate") - report.total("dead_letter") == len(kept)
    assert report.total("late") == sum(kept.values()) > 0
    assert min(report.total("duplicate"), report.total("dead_letter")) > 4
    assert len(evening.dead_letters()) == report.total("dead_letter")


def test_a_crash_before_or_after_any_write_changes_nothing(tmp_path: Path) -> None:
    calm = Evening(tmp_path / "calm")
    busy_evening(calm)
    fuse = Fuse()
    calm.collect(calm.collector(fuse=fuse))
    expected = outcome(calm)
    assert fuse.writes > 40
    for number in range(1, fuse.writes + 1):
        after = bool(number % 2)
        stormy = Evening(tmp_path / f"{number}")
        busy_evening(stormy)
        try:
            stormy.collect(stormy.collector(fuse=Fuse(number, after=after)))
        except Crash:
            stormy.collect()
        assert outcome(stormy) == expected, f"crash {'after' if after else 'before'} write {number}"


def test_many_crashes_in_a_row_change_nothing(tmp_path: Path) -> None:
    calm, stormy = Evening(tmp_path / "calm"), Evening(tmp_path / "stormy")
    busy_evening(calm, seed=11)
    busy_evening(stormy, seed=11)
    calm.collect()
    crashes = 0
    while True:
        try:
            stormy.collect(stormy.collector(fuse=Fuse(7 + crashes % 5, after=bool(crashes % 2))))
            break
        except Crash:
            crashes += 1
    assert crashes >= 3
    assert outcome(stormy) == outcome(calm)


def test_a_second_reading_of_the_whole_log_by_other_sends_is_all_duplicates(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    busy_evening(evening)
    evening.collect()
    before = outcome(evening)
    for place, lane in list(evening.log.records.items()):
        for record in list(lane) if place.topic in TOPICS else ():
            evening.log.append(record.topic, record.key, record.value)
    report = evening.collect().report
    assert report.total("stored") == 0
    assert outcome(evening)["rows"] == before["rows"]
    assert outcome(evening)["states"] == before["states"]


def test_an_online_store_that_lost_everything_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    busy_evening(evening)
    evening.collect()
    before = outcome(evening)
    evening.store = type(evening.store)()
    report = evening.collect().report
    assert report.total("stored") == 0
    assert outcome(evening) == before
