"""The collector's main path: poll, take, apply, flush, commit.

Each partition goes on, after any stop, at the smaller of the two offsets that its stores hold. Rows below the offline
offset are not written again, records at or above an event's offset do not take it again: nothing is lost and nothing counts
twice.

What an event contributes depends on the event alone, and no state on the order of arrival; so topics and partitions may be
read at any pace, by any number of collectors.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from collector import intake, offline, restart
from collector.config import COLLECTED, CollectorConfig
from collector.errors import Stopped
from collector.lane import Lane, Taken
from collector.online import OnlineSide, Rival
from collector.report import Report
from collector.tombstones import Tombstones
from collector.trending import Trending
from events.clock import Clock
from events.errors import LogUnavailable
from events.log import EventReader, EventWriter, Place, Record
from events.schema import ProfileErased
from events.topics import topic
from features.errors import StoreSetBack, StoreUnavailable
from features.store import OnlineStore
from features.tables import DeltaTables, Fenced, TablesUnavailable

log = structlog.get_logger("collector")
T = TypeVar("T")
_OUTAGES = (StoreUnavailable, TablesUnavailable, LogUnavailable)


def collect(
    reader: EventReader, writer: EventWriter, tables: DeltaTables, store: OnlineStore, *,
    config: CollectorConfig, clock: Clock, stop: threading.Event, report: Report, tombstones: Tombstones | None = None,
) -> Report:  # fmt: skip
    """Read the log into both stores until `stop` is set; then flush, commit and return the counts."""
    work = Collector(
        reader, writer, tables, store, config=config, clock=clock, stop=stop, report=report, tombstones=tombstones
    )
    try:
        while not stop.is_set():
            records = work.poll()
            work.take(records)
            work.flush_if_due(behind=len(records) >= config.poll_limit // 2)
            work.commit_if_due()
        work.flush()
        work.commit()
    except Stopped as error:
        log.warning("stopped without a last write; the next start goes on from the stores", reason=str(error))
    return report


class Collector:
    """The steps of `collect`, and what they hold between them."""

    def __init__(
        self, reader: EventReader, writer: EventWriter, tables: DeltaTables, store: OnlineStore, *,
        config: CollectorConfig, clock: Clock, stop: threading.Event, report: Report, tombstones: Tombstones | None = None,
    ) -> None:  # fmt: skip
        self._reader, self._writer, self._tables, self._store = reader, writer, tables, store
        self._config, self._clock, self._stop, self.report = config, clock, stop, report
        self._tombstones = tombstones
        self._online = OnlineSide(store, cached=config.cached_records)
        self._trending = Trending(store)
        self._flushed_at = self._committed_at = self._listed_at = clock.now()
        self._listed_mark = float("-inf")
        self.lanes: dict[Place, Lane] = {}

    # --- poll and take ---

    def poll(self) -> list[Record]:
        """The next records of the partitions held, after opening gained ones and dropping lost ones."""
        config = self._config
        records = self._until(lambda: self._reader.poll(timeout_s=config.poll_s, limit=config.poll_limit))
        held = self._reader.assignment()
        lost, gained = self.lanes.keys() - held, frozenset(held - self.lanes.keys())
        if lost:
            self._drop(lost, why="another collector reads them now")
        if gained:
            self._open(gained)
        return [record for record in records if record.place in self.lanes and record.place not in gained]

    def take(self, records: Sequence[Record]) -> None:
        """Decode, drop duplicates, mark late ones, and fold what counts into the online records."""
        if not records:
            return
        now, ahead_s = self._clock.now(), self._config.ahead_s
        self._forget_erased()
        batch = intake.take(
            records, self.lanes, self._writer, ingested_at=now, ahead_s=ahead_s, tombstones=self._tombstones
        )
        batch = self._obey_erasures(batch)
        timely = [taken for taken in batch if not offline.is_late(taken)]
        self.report.applied += self._until(lambda: self._online.apply(timely))
        self.report.watermark = self._online.watermark

    def _obey_erasures(self, batch: list[Taken]) -> list[Taken]:
        """Write the tombstones that events of the batch ask for; what is left of the batch then."""
        tombstones, asked = self._tombstones, [taken.event for taken in batch if isinstance(taken.event, ProfileErased)]
        if tombstones is None or not asked:
            return batch
        for event in asked:
            self._until(lambda event=event: tombstones.note(event))  # type: ignore[misc]
        self._drop_erased(tombstones)
        return [taken for taken in batch if not tombstones.is_erased(taken.event)]

    def _forget_erased(self) -> None:
        """Look at the tombstones from time to time; of people who are new among them nothing waits any more."""
        tombstones = self._tombstones
        if tombstones is not None and self._until(tombstones.refresh_if_due):
            self._drop_erased(tombstones)

    def _drop_erased(self, tombstones: Tombstones) -> None:
        self._online.forget(tombstones.holds)
        for lane in self.lanes.values():
            lane.rows = [taken for taken in lane.rows if not tombstones.is_erased(taken.event)]

    # --- flush and commit ---

    def flush_if_due(self, *, behind: bool) -> None:
        """Flush when its time has come; while behind less often, since freshness is lost then and throughput is not."""
        every = self._config.catch_up_flush_s if behind else self._config.flush_every_s
        if self._is_due(self._flushed_at, every):
            self.flush()

    def flush(self) -> None:
        """Bring the online store up to what was read, unless somebody else moved its progress."""
        self._flushed_at = self._clock.now()
        moving = {place: lane.next for place, lane in self.lanes.items() if lane.next != (lane.advanced or 0)}
        if not moving:
            return
        begun = time.perf_counter()
        moving = self._still_ours(moving)
        try:
            self._until(lambda: self._online.flush(moving))
        except (Rival, StoreSetBack) as rival:
            self._restart(rival.places, why=str(rival))
            return
        for place, offset in moving.items():
            self.lanes[place].advanced = offset
        self.report.flushes += 1
        self.report.flush_s += time.perf_counter() - begun
        self._list_trending()

    def _still_ours(self, moving: dict[Place, int]) -> dict[Place, int]:
        """Partitions whose progress stands where this collector left it; the others start again from the stores."""
        found = self._until(self._store.progress)
        moved = [place for place, lane in self.lanes.items() if found.get(place) != lane.advanced]
        if moved:
            self._restart(moved, why="the online store's progress is not what this collector wrote")
        return {place: offset for place, offset in moving.items() if place not in moved}

    def commit_if_due(self) -> None:
        """Commit when its time has come or enough rows wait."""
        waiting = sum(len(lane.rows) for lane in self.lanes.values())
        if waiting >= self._config.commit_rows or self._is_due(self._committed_at, self._config.commit_every_s):
            self.commit()

    def commit(self) -> None:
        """Write rows and offsets to the offline tables, after the dead letters are durable."""
        self._committed_at = self._clock.now()
        begun = time.perf_counter()
        self._until(self._writer.flush)
        wrote = [name for name in COLLECTED if self._commit_topic(name)]
        if wrote:
            self.report.commits += 1
            self.report.commit_s += time.perf_counter() - begun
            if self.report.commits % self._config.compact_every == 0:
                self._until(self._compact)
        self._measure_lag()

    def _commit_topic(self, name: str) -> bool:
        lanes = [lane for place, lane in self.lanes.items() if place.topic == name]
        try:
            return self._until(lambda: offline.commit_topic(self._tables, name, lanes, self.report))
        except Fenced as error:
            self._restart([lane.place for lane in lanes], why=str(error))
            return False

    def _compact(self) -> None:
        gc.collect()  # the full pass that the process does not make by itself (features/garbage.py)
        for name in COLLECTED:
            self._tables.compact(topic(name).table)

    def _measure_lag(self) -> None:
        ends = self._until(self._reader.end_offsets)
        self.report.lag = {
            place: max(end - self.lanes[place].stored, 0) for place, end in ends.items() if place in self.lanes
        }

    def _list_trending(self) -> None:
        """Learn some of what changed; write the lists after 15 event minutes at once, or after 10 wall seconds bit by bit."""
        now, config, lists = self._online.watermark, self._config, self._trending
        if now is None or not (self._online.touched or lists.writing):
            return
        lists.note(self._online.touched)
        self._online.touched.clear()
        if now - self._listed_mark >= config.trending_event_s:
            self._until(lambda: lists.refresh({}, now=now))
            self._listed_at, self._listed_mark = self._clock.now(), now
            return
        self._until(lambda: lists.learn(now, at_most=config.learned_at_once))
        if lists.writing or self._is_due(self._listed_at, config.trending_every_s):
            if not lists.writing:
                self._listed_at, self._listed_mark = self._clock.now(), now
            self._until(lambda: lists.write(now, at_most=config.scored_at_once))

    # --- partitions come and go, stores fail ---

    def _open(self, places: frozenset[Place]) -> None:
        opened = self._until(
            lambda: restart.open_lanes(places, self._tables, self._store, lateness_s=self._config.lateness_s)
        )
        for place, lane in opened.items():
            self._reader.seek(place, lane.next)
        self.lanes.update(opened)
        log.info(
            "partitions opened",
            places=len(opened),
            read_again=sum(max(o.stored, o.advanced or 0) - o.next for o in opened.values()),
        )

    def _drop(self, places: Iterable[Place], *, why: str) -> None:
        gone = list(places)
        for place in gone:
            self.lanes.pop(place).open = False
        self._online.drop(gone)
        log.info("partitions dropped", places=len(gone), why=why)

    def _restart(self, places: Iterable[Place], *, why: str) -> None:
        again = frozenset(places)
        self._drop(again, why=why)
        self._open(again & self._reader.assignment())

    def _is_due(self, last: float, every: float) -> bool:
        return abs(self._clock.now() - last) >= every  # abs: a clock set back must not stop the writes

    def _until(self, step: Callable[[], T]) -> T:
        """Do it; while a store or the log does not answer only wait, twice as long each time, and try again."""
        wait = self._config.retry_s
        while True:
            try:
                return step()
            except _OUTAGES as error:
                self.report.retries += 1
                log.warning("waiting", reason=str(error), seconds=wait)
                if self._stop.wait(wait):
                    raise Stopped(str(error)) from None
                with suppress(LogUnavailable):  # whether the log answers is found out by the next poll
                    self._reader.stay()
                wait = min(wait * 2, self._config.retry_max_s)
