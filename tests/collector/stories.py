"""What the collector's stories share: events of a small evening, and stores that crash at a chosen write."""

import copy
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collector.config import COLLECTED, CollectorConfig
from collector.report import Report
from collector.run import Collector
from events import schema as s
from events.clock import SetClock
from events.dead_letters import DeadLetter, parse_dead_letter
from events.log import Header, MemoryLog, MemoryReader, MemoryWriter, Place
from events.topics import DEAD_LETTERS, TOPICS
from features.store import MemoryStore, OnlineRecord, RecordKey
from features.tables import DeltaTables

EVENING = 1_793_556_000.0  # 2026-11-01 18:00 UTC


def at(seconds: float) -> datetime:
    """That many seconds into the evening."""
    return datetime.fromtimestamp(EVENING + seconds, UTC)


def published(item: str, seconds: float = 0.0, **also: Any) -> s.MediaPublished:
    fields = {"creator_id": "anna", "content_type": "VIDEO", "category": "music", "tags": ("music",)} | also
    return s.MediaPublished(event_id=f"pub-{item}-{seconds}", event_at=at(seconds), item_id=item, **fields)


def started(event_id: str, user: str, item: str, seconds: float, **also: Any) -> s.MediaStarted:
    also = {"creator_id": "anna"} | also
    return s.MediaStarted(event_id=event_id, event_at=at(seconds), user_id=user, item_id=item, **also)


def liked(event_id: str, user: str, item: str, seconds: float) -> s.MediaLiked:
    return s.MediaLiked(event_id=event_id, event_at=at(seconds), user_id=user, item_id=item)


class Crash(BaseException):
    """The process dies here (not an Exception: nothing may handle it)."""


class Fuse:
    """Dies at the n-th write, before or after it took effect; never when n is 0."""

    def __init__(self, at_write: int = 0, *, after: bool = False) -> None:
        self.at_write, self.after, self.writes = at_write, after, 0

    def around(self, write: Callable[[], None]) -> None:
        self.writes += 1
        if self.writes == self.at_write and not self.after:
            raise Crash
        write()
        if self.writes == self.at_write:
            raise Crash


class CrashingStore(MemoryStore):
    """A memory store that keeps copies, as a real one does, and dies when its fuse says; half of a save may be there."""

    fuse = Fuse()

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        return copy.deepcopy(super().load(keys))

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        rows = list(copy.deepcopy(dict(records)).items())
        half, refused = len(rows) // 2, list[RecordKey]()
        for part in (rows[:half], rows[half:]):
            self.fuse.around(lambda part=part: refused.extend(super(CrashingStore, self).save(dict(part))))  # type: ignore[misc]
        return refused

    def announce(self, *, items: Sequence[str] = (), creators: Sequence[str] = ()) -> None:
        self.fuse.around(lambda: super(CrashingStore, self).announce(items=items, creators=creators))

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        self.fuse.around(lambda: super(CrashingStore, self).set_room(room_id, lease_until=lease_until))

    def advance(self, progress: Mapping[Place, int]) -> None:
        self.fuse.around(lambda: super(CrashingStore, self).advance(progress))


class CrashingTables(DeltaTables):
    """Delta tables that die when their fuse says."""

    fuse = Fuse()

    def append(self, topic_name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
        self.fuse.around(lambda: super(CrashingTables, self).append(topic_name, rows, **more))


class CrashingWriter(MemoryWriter):
    """A memory writer that dies when its fuse says."""

    fuse = Fuse()

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        self.fuse.around(lambda: super(CrashingWriter, self).send_raw(topic, key=key, value=value, headers=headers))


class Evening:
    """A log, a lake and a store that outlive the collectors which work on them."""

    def __init__(self, lake: Path, *, partitions: int = 2) -> None:
        self.log = MemoryLog(partitions)
        self.lake = lake
        self.store = CrashingStore()
        self.producer = MemoryWriter(self.log)
        self.clock = SetClock(EVENING)

    def send(self, *events: s.Event) -> None:
        for event in events:
            self.producer.send(event)

    def collector(self, *, fuse: Fuse | None = None, reader: Any = None, **dials: Any) -> Collector:
        """A new process on what the earlier ones left."""
        fuse = fuse or Fuse()
        tables, writer = CrashingTables(self.lake), CrashingWriter(self.log)
        tables.fuse = writer.fuse = self.store.fuse = fuse
        config = CollectorConfig(**({"poll_limit": 20, "retry_s": 0.001, "trending_every_s": 1e9} | dials))
        return Collector(
            reader or MemoryReader(self.log, COLLECTED), writer, tables, self.store,
            config=config, clock=self.clock, stop=threading.Event(), report=Report(),
        )  # fmt: skip

    def collect(self, collector: Collector | None = None, *, commit_each: int = 2) -> Collector:
        """Read to the end: a flush after every poll, a commit after every other."""
        work = collector or self.collector()
        polls = 0
        while records := work.poll() or work.poll():  # the first poll opens partitions
            work.take(records)
            work.flush()
            polls += 1
            if polls % commit_each == 0:
                work.commit()
        work.flush()
        work.commit()
        return work

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """The offline rows of a topic in log order, less when they were written."""
        found = DeltaTables(self.lake).read(TOPICS[topic].table).to_pylist()
        found.sort(key=lambda row: (row["kafka_partition"], row["kafka_offset"]))
        return [{name: value for name, value in row.items() if name != "ingested_at"} for row in found]

    def dead_letters(self) -> list[DeadLetter]:
        """As read_dead_letters reads them: each place once."""
        lanes = [lane for place, lane in self.log.records.items() if place.topic == DEAD_LETTERS]
        letters = [parse_dead_letter(record) for lane in lanes for record in lane]
        return sorted(
            {(x.topic, x.partition, x.offset): x for x in letters}.values(),
            key=lambda x: (x.topic, x.partition, x.offset),
        )


def busy_evening(evening: Evening, *, events: int = 150, seed: int = 7) -> None:
    """Publications, rooms, viewers, and every fault: duplicates near and far, late events, unreadable bytes."""
    chance = random.Random(seed)
    evening.send(*(published(f"v{n}", n, creator_id=f"c{n % 3}", category=f"k{n % 4}") for n in range(8)))
    evening.send(s.RoomOpened(event_id="open-r", event_at=at(5), streamer_id="h", room_id="r", category="k1"))
    sent: list[s.Event] = []
    for n in range(events):
        seconds = 60.0 * n
        kind = chance.choice((s.MediaStarted, s.MediaLiked, s.MediaCompleted, s.MediaSkipped))
        late = 7200.0 if chance.random() < 0.08 and n > 130 else 0.0
        event = kind(
            event_id=f"e{n}",
            event_at=at(seconds - late),
            user_id=f"u{chance.randrange(5)}",
            item_id=f"v{chance.randrange(9)}",
            creator_id=("c0", "c1", None)[n % 3],
        )
        evening.send(event)
        sent.append(event)
        if chance.random() < 0.1:
            evening.send(sent[-1 - chance.randrange(min(len(sent), 10))])
        if n % 40 == 30:
            evening.send(sent[0])  # a duplicate from before the lateness bound, once the watermark has moved on
        if chance.random() < 0.06:
            value = chance.choice((b"{", b'{"type":"media_liked","event_id":"x"}', b"\xff\xfe"))
            evening.producer.send_raw("user.engagement.events", key=f"u{chance.randrange(5)}".encode(), value=value)
        if n % 25 == 0:
            evening.send(s.RoomHeartbeat(event_id=f"beat{n}", event_at=at(seconds), streamer_id="h", room_id="r"))
    evening.send(s.RoomClosed(event_id="close-r", event_at=at(60.0 * events), streamer_id="h", room_id="r"))
