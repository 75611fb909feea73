"""Online features as the collector keeps them: order across topics, rooms and their leases, failing stores."""

import copy
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from collector.config import COLLECTED, CollectorConfig
from collector.report import Report
from collector.run import collect
from events import schema as s
from events.clock import WallClock
from events.log import MemoryReader, Place
from events.topics import ENGAGEMENT
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.snapshot import look_in
from features.state import values
from features.store import OnlineRecord, RecordKey
from features.tables import DeltaTables
from tests.collector.stories import EVENING, CrashingStore, Evening, at, published, started


@pytest.fixture
def evening(tmp_path: Path) -> Evening:
    return Evening(tmp_path)


def user(evening: Evening, name: str = "vera") -> dict[str, object]:
    state = evening.store.read(Entity.USER, [name])[0]
    return values(Entity.USER, state, EVENING + 60, look_in(evening.store, state))


def test_engagement_may_be_read_before_its_items_publication(evening: Evening) -> None:
    evening.send(started("e1", "vera", "film", 1), published("film", category="music"))
    evening.collect(evening.collector(poll_limit=1))
    assert user(evening)["top_categories_7d"] == ["music"]
    creator = evening.store.read(Entity.CREATOR, ["anna"])[0]
    assert values(Entity.CREATOR, creator, EVENING)["plays"] == 1.0


def test_an_item_that_nobody_ever_published_counts_for_what_is_known(evening: Evening) -> None:
    evening.send(started("e1", "vera", "ghost", 1))
    evening.collect()
    assert user(evening)["plays"] == 1.0
    assert user(evening)["top_categories_7d"] == []


def room(kind: type[s.RoomEvent], seconds: float, **more: object) -> s.RoomEvent:
    return kind(event_id=f"{kind.__name__}{seconds}", event_at=at(seconds), streamer_id="h", room_id="r", **more)


def test_a_room_lives_90_s_from_its_last_sign_of_life(evening: Evening) -> None:
    evening.send(room(s.RoomOpened, 0, category="music"), room(s.RoomHeartbeat, 30))
    evening.collect()
    assert evening.store.live_rooms(EVENING + 119) == ["r"]
    assert evening.store.live_rooms(EVENING + 120) == []
    evening.send(room(s.RoomStatusChanged, 60, status="dance"))
    evening.collect()
    assert evening.store.live_rooms(EVENING + 149) == ["r"]


def test_a_closed_room_ends_at_its_close_even_if_a_heartbeat_comes_after(evening: Evening) -> None:
    evening.send(room(s.RoomOpened, 0, category="music"), room(s.RoomClosed, 40), room(s.RoomHeartbeat, 30))
    evening.collect()
    assert evening.store.live_rooms(EVENING + 39) == ["r"]
    assert evening.store.live_rooms(EVENING + 40) == []


def test_a_room_opened_again_after_its_close_is_live(evening: Evening) -> None:
    evening.send(
        room(s.RoomOpened, 0, category="music"), room(s.RoomClosed, 40), room(s.RoomOpened, 50, category="music")
    )
    evening.collect()
    assert evening.store.live_rooms(EVENING + 100) == ["r"]


class Flaky(CrashingStore):
    """A store that does not answer `down` times, wherever it is asked."""

    down = 0

    def _answer(self) -> None:
        if self.down > 0:
            self.down -= 1
            raise StoreUnavailable("the online store is away")

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        self._answer()
        return super().load(keys)

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        self._answer()
        return super().save(records)

    def advance(self, progress: Mapping[Place, int]) -> None:
        self._answer()
        super().advance(progress)


def test_while_the_store_is_away_the_collector_waits_and_then_has_everything(evening: Evening) -> None:
    evening.store = store = Flaky()
    evening.send(published("film"), *(started(f"e{n}", "vera", "film", n) for n in range(50)))
    work = evening.collector()
    work.poll()
    for _ in range(3):
        store.down = 3
        work.take(work.poll())
        store.down = 3
        work.flush()
    evening.collect(work)
    assert work.report.retries >= 10
    assert user(evening)["plays"] == 50.0
    assert len(evening.rows(ENGAGEMENT)) == 50


def test_a_stop_while_the_store_is_away_ends_at_once_and_loses_nothing(evening: Evening) -> None:
    evening.store = store = Flaky()
    store.down = 10**9
    evening.send(published("film"), started("e1", "vera", "film", 1))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    dials = CollectorConfig(retry_s=0.05)
    reader, tables = MemoryReader(evening.log, COLLECTED), DeltaTables(evening.lake)
    collect(reader, evening.producer, tables, store, config=dials, clock=WallClock(), stop=stop, report=Report())
    store.down = 0
    evening.collect()
    assert user(evening)["plays"] == 1.0


def test_a_store_set_back_to_an_earlier_state_is_caught_up(evening: Evening) -> None:
    """A Redis that lost its last second of writes: the running collector notices and applies them again."""
    evening.send(published("film"), started("e1", "vera", "film", 1))
    work = evening.collect()
    records, offsets = copy.deepcopy(evening.store.records), dict(evening.store.offsets)
    evening.send(started("e2", "otto", "film", 2))
    evening.collect(work)
    evening.store.records, evening.store.offsets = records, offsets
    evening.send(started("e3", "vera", "film", 3))
    evening.collect(work)
    assert (user(evening)["plays"], user(evening, "otto")["plays"]) == (2.0, 1.0)
    assert len(evening.rows(ENGAGEMENT)) == 3


def test_of_two_collectors_on_the_same_partition_the_slower_gives_way(evening: Evening) -> None:
    evening.send(published("film"), *(started(f"e{n}", "vera", "film", n) for n in range(10)))
    slow, quick = evening.collector(), evening.collector()
    slow.poll()
    slow.take(slow.poll())  # holds everything, has written nothing
    evening.collect(quick)
    evening.send(started("last", "vera", "film", 11))
    evening.collect(slow)
    evening.collect(quick)
    assert user(evening)["plays"] == 11.0
    assert [row["event_id"] for row in evening.rows(ENGAGEMENT)] == [*(f"e{n}" for n in range(10)), "last"]


class Lending(MemoryReader):
    """A reader whose partitions can be taken away and given back."""

    lent = False

    def assignment(self) -> frozenset[Place]:
        return frozenset() if self.lent else super().assignment()


def test_partitions_lost_in_a_rebalance_leave_nothing_behind(evening: Evening) -> None:
    evening.send(published("film"), *(started(f"e{n}", "vera", "film", n) for n in range(10)))
    reader = Lending(evening.log, COLLECTED)
    work = evening.collector(reader=reader)
    work.poll()
    work.take(work.poll())
    reader.lent = True
    work.take(work.poll())
    work.flush()
    work.commit()
    assert evening.store.progress() == {} and evening.rows(ENGAGEMENT) == []
    evening.collect()
    reader.lent = False
    evening.collect(work)
    assert user(evening)["plays"] == 10.0
    assert len(evening.rows(ENGAGEMENT)) == 10


def test_records_put_out_of_memory_are_loaded_again(evening: Evening) -> None:
    evening.send(published("film"), *(started(f"e{n}", f"u{n % 7}", "film", n) for n in range(70)))
    evening.collect(evening.collector(cached_records=2))
    assert [user(evening, f"u{n}")["plays"] for n in range(7)] == [10.0] * 7


def test_collect_is_the_whole_way_and_writes_what_is_left_when_stopped(evening: Evening) -> None:
    evening.send(published("film"), started("e1", "vera", "film", 1))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    report = collect(
        MemoryReader(evening.log, COLLECTED), evening.producer, DeltaTables(evening.lake), evening.store,
        config=CollectorConfig(commit_every_s=1e6, flush_every_s=1e6), clock=WallClock(), stop=stop, report=Report(),
    )  # fmt: skip
    assert report.total("stored") == 2
    assert user(evening)["plays"] == 1.0


def test_a_collector_that_wakes_up_behind_its_rival_changes_nothing_and_starts_again(evening: Evening) -> None:
    """Between the look at the store's progress and the write another collector went on: the store refuses old records."""
    evening.send(published("film"), *(started(f"e{n}", "vera", "film", n) for n in range(10)))
    slow, quick = evening.collector(), evening.collector()
    slow.poll()
    slow.take(slow.poll())
    slow._still_ours = lambda moving: moving  # type: ignore[method-assign]  # it looked before the other wrote
    evening.send(started("last", "vera", "film", 11))
    evening.collect(quick)
    slow.flush()
    assert user(evening)["plays"] == 11.0
    evening.collect(slow)
    assert user(evening)["plays"] == 11.0


def test_readers_are_told_what_changed_also_again_after_a_crash(evening: Evening) -> None:
    begin = evening.store.cursor()
    evening.send(published("film"), started("e1", "vera", "film", 1))
    evening.collect()
    told = evening.store.changed(begin)
    assert told is not None and told.items == {"film"} and told.creators == {"anna"}
    assert evening.store.changed(told.cursor) == (told.cursor, frozenset(), frozenset())
