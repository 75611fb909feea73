"""A person is erased from every real part while the collector runs, and a replay of the log does not bring her back."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from collector.config import COLLECTED
from collector.lag import wait_until_stored
from events import schema as s
from events.clock import WallClock, utc
from events.dead_letters import read_dead_letters
from events.kafka import KafkaWriter, end_offsets
from events.log import Record
from events.tables import to_row
from events.topics import ENGAGEMENT, IMPRESSIONS, PROFILES
from features.definitions import Entity
from features.erased import ERASED, ErasedPeople
from features.redis import RedisStore
from features.state import pair_id
from features.store import MemoryStore
from features.tables import DeltaTables
from release.forget import Places, forget, pending
from serving.spool import Spool
from settings import Settings
from stack.catalogue import with_free_ports
from stack.parts import Parts
from tests.collector.stories import at, liked, published, started

pytestmark = pytest.mark.parts
OWN_DATABASE = 11  # of the shared Redis, so that the stack's own collector is not disturbed
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Own:
    """A lake and a Redis database of this test's own, on the shared log from its end on."""

    settings: Settings
    tag: str
    store: RedisStore
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def spool(self) -> Path:
        return self.settings.var / "spool" / "impressions.jsonl"

    def collect(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.settings.environment()}
        log = (self.settings.var / f"collector-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "collector", "run"], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
        self.processes.append(process)
        return process

    def stored(self) -> DeltaTables:
        tables = DeltaTables(self.settings.lake)
        wait_until_stored(self.settings.kafka, tables, store=self.store, timeout_s=120.0)
        return tables

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, **self.settings.environment()},
        )  # fmt: skip

    def ids(self, table: str) -> list[str]:
        return sorted(DeltaTables(self.settings.lake).read(table)["event_id"].to_pylist())


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A broker and a Redis of these stories: the stack's own collector has no tombstones and would keep her letters."""
    with Parts.with_free_ports(Settings(var=tmp_path_factory.mktemp("var"))) as running:
        running.up(["kafka", "redis"], report=print)
        yield running


@pytest.fixture
def own(parts: Parts, tmp_path: Path) -> Iterator[Own]:
    given = parts.settings
    address = given.redis.rpartition("/")[0] + f"/{OWN_DATABASE}"
    redis.Redis.from_url(address).flushdb()
    settings = with_free_ports(
        given.model_copy(update={"var": tmp_path, "redis_address": address, "commit_every_s": 0.5})
    ).model_copy(update={"kafka_bootstrap": given.kafka})
    mine = Own(settings, uuid.uuid4().hex[:8], RedisStore(address))
    ends = end_offsets(given.kafka, COLLECTED)
    tables = DeltaTables(settings.lake)
    for topic in COLLECTED:
        tables.append(topic, [], offsets={place.partition: end for place, end in ends.items() if place.topic == topic})
    mine.store.advance(ends)
    yield mine
    for process in mine.processes:
        process.kill()
        process.wait()
    redis.Redis.from_url(address).flushdb()


def naming(folder: Path, name: str) -> list[str]:
    """Files below a folder that name somebody: as they lie, and Parquet decoded too."""
    out = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        text = path.read_bytes().decode(errors="replace")
        if path.name.endswith(".parquet"):
            text += json.dumps(pq.read_table(path).to_pylist(), default=str)
        if name in text:
            out.append(str(path.relative_to(folder)))
    return out


def shown(tag: str, number: int, user: str, creator: str, features: dict[str, s.FeatureValue]) -> s.Impression:
    return s.Impression(
        event_id=f"{tag}-r{number}:0", event_at=at(number), request_id=f"{tag}-r{number}", user_id=user,
        item_id=f"{tag}-v0", content_type=s.ContentType.VIDEO, creator_id=creator, position=0, features=features,
    )  # fmt: skip


def hers(tag: str, her: str) -> list[s.Event]:
    """What she did and made, and what others did with what she made."""
    return [
        s.ViewerProfile(event_id=f"{tag}-h0", event_at=at(0), user_id=her, language="pt"),
        liked(f"{tag}-h1", her, f"{tag}-v0", 1.0),
        started(f"{tag}-h2", her, f"{tag}-v0", 2.0),
        published(f"{tag}-vh", 3.0, creator_id=her),
        s.MediaStarted(
            event_id=f"{tag}-h4", event_at=at(4), user_id=f"{tag}-otto", item_id=f"{tag}-vh", creator_id=her
        ),
        shown(tag, 5, her, "anna", {"user.user_id": her}),
        shown(tag, 6, f"{tag}-otto", her, {"item.item_key": her}),
    ]


def others(tag: str, her: str) -> list[s.Event]:
    """What others did; two of these events name her."""
    otto = f"{tag}-otto"
    return [
        published(f"{tag}-v0", 0.0),
        liked(f"{tag}-o1", otto, f"{tag}-v0", 1.0),
        s.ViewerProfile(event_id=f"{tag}-o2", event_at=at(2), user_id=otto, blocked_creators=(her, "x")),
        shown(tag, 7, otto, "anna", {"user.recent_positive": [her, "film"]}),
    ]


def send(own: Own, *events: s.Event) -> None:
    writer = KafkaWriter(own.settings.kafka)
    for event in events:
        writer.send(event)
    writer.close()


def keep_sending(own: Own, sent: list[str], stop: threading.Event) -> None:
    writer = KafkaWriter(own.settings.kafka)
    while not stop.is_set():
        event = liked(f"{own.tag}-busy{len(sent)}", f"{own.tag}-u{len(sent) % 7}", f"{own.tag}-v0", 10.0)
        writer.send(event)
        sent.append(event.event_id)
        time.sleep(0.01)
    writer.close()


def test_a_person_is_erased_beside_a_running_collector_and_sending_her_events_again_brings_nothing_back(
    own: Own,
) -> None:
    tag, her = own.tag, f"vera-{own.tag}"
    collector = own.collect()
    send(own, *others(tag, her), *hers(tag, her))
    writer = KafkaWriter(own.settings.kafka)
    writer.send_raw(ENGAGEMENT, key=her.encode(), value=b"{broken")
    writer.close()
    Spool(own.spool, topic=IMPRESSIONS, max_bytes=10_000).append(
        [shown(tag, 8, her, "anna", {}), shown(tag, 9, "otto", "anna", {})]
    )
    own.stored()
    assert naming(own.settings.var, her) and own.store.read(Entity.USER, [her])[0]

    sent: list[str] = []
    stop = threading.Event()
    traffic = threading.Thread(target=keep_sending, args=(own, sent, stop))
    traffic.start()
    done = own.command("events", "forget", "--user", her)
    again = own.command("events", "forget", "--user", her)
    send(own, *hers(tag, her), liked(f"{tag}-new", her, f"{tag}-v0", 30.0))
    writer = KafkaWriter(own.settings.kafka)
    writer.send_raw(ENGAGEMENT, key=her.encode(), value=b"{broken again")
    writer.close()
    stop.set()
    traffic.join()
    own.stored()

    assert (done.returncode, done.stderr) == (0, "")
    assert "topic feed.impressions: events stay for at most 7 days" in done.stdout
    counts = dict(
        line.strip().rsplit(": ", 1) for line in again.stdout.split("removed:")[1].splitlines() if "  " in line
    )
    assert {place: count for place, count in counts.items() if count.isdigit() and count != "0"} == {}
    assert naming(own.settings.lake, her) == []
    assert naming(own.spool.parent, her) == []
    assert own.ids("engagement") == sorted([f"{tag}-o1", *sent])
    assert own.ids("impressions") == [f"{tag}-r7:0"]
    (otto,) = DeltaTables(own.settings.lake).read("profiles").to_pylist()
    assert (otto["event_id"], otto["blocked_creators"]) == (f"{tag}-o2", ["x"])
    assert not [letter for letter in read_dead_letters(own.settings.kafka) if letter.key == her.encode()]
    assert collector.poll() is None, "the collector ran through all of it"


def test_the_online_store_does_not_know_her_after_her_events_came_again(own: Own) -> None:
    tag, her = own.tag, f"vera-{own.tag}"
    own.collect()
    send(own, *others(tag, her), *hers(tag, her))
    own.stored()
    assert own.store.read(Entity.PAIR, [pair_id(her, "anna")])[0]
    assert own.command("events", "forget", "--user", her).returncode == 0
    send(own, *hers(tag, her), liked(f"{tag}-new", her, f"{tag}-v0", 30.0))
    own.stored()
    for entity, one in ((Entity.USER, her), (Entity.CREATOR, her), (Entity.PAIR, pair_id(her, "anna"))):
        assert own.store.read(entity, [one]) == [{}]
    assert own.store.erase_user(her) == 0


def places(own: Own, store: MemoryStore) -> Places:
    return Places(own.settings.lake, store, own.settings.kafka, (own.spool,))


def told(_: str) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("step", ["erase_lines", "erase_dead_letters", "forget_in_table"])
def test_a_run_that_died_at_any_step_is_finished_by_the_next(
    own: Own, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    her = f"vera-{own.tag}"
    fill(own, her)
    store = MemoryStore()
    store.apply(liked("x", her, "film", 1.0), 1.0)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"release.forget.{step}", dies)
        with pytest.raises(KeyboardInterrupt):
            forget(her, places(own, store), clock=WallClock(), settle_s=0.0, report=told)
    assert pending(own.settings.lake) == [her]
    assert forget(her, places(own, store), clock=WallClock(), settle_s=0.0, report=told).complete
    assert naming(own.settings.var, her) == []
    assert store.read(Entity.USER, [her]) == [{}]
    assert pending(own.settings.lake) == []
    people = ErasedPeople(own.settings.lake)
    people.refresh()
    assert people.state(her) == ERASED


def fill(own: Own, her: str) -> None:
    """Her order and an impression in the tables, and one waiting in the spool, without a collector."""
    tables = DeltaTables(own.settings.lake)
    order = s.ProfileErased(event_id="order", event_at=at(9), user_id=her)
    for topic, event in ((PROFILES, order), (IMPRESSIONS, shown(own.tag, 1, her, "anna", {}))):
        offset = tables.progress(topic)[0]
        row = to_row(event, Record(topic, 0, offset, None, b""), ingested_at=utc(1e9), late=False)
        tables.append(topic, [row], offsets={0: offset + 1})
    Spool(own.spool, topic=IMPRESSIONS, max_bytes=10_000).append([shown(own.tag, 2, her, "anna", {})])


def test_pending_erases_everybody_who_asked_through_the_log(own: Own) -> None:
    her = f"vera-{own.tag}"
    fill(own, her)
    done = own.command("events", "forget", "--pending", "--settle-s", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert naming(own.settings.lake, her) == []
    assert "nobody asked to be forgotten" in own.command("events", "forget", "--pending").stdout


def test_neither_or_both_of_user_and_pending_is_one_sentence(own: Own) -> None:
    for words in ((), ("--user", "vera", "--pending")):
        refused = own.command("events", "forget", *words)
        assert (refused.returncode, refused.stderr) == (2, "error: give either --user ID or --pending\n")


def test_without_a_broker_it_is_one_sentence_that_says_to_run_it_again(own: Own) -> None:
    own.settings = own.settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    refused = own.command("events", "forget", "--user", f"vera-{own.tag}", "--settle-s", "0")
    assert refused.returncode == 1
    assert (
        refused.stderr.startswith("error: ") and "run it again" in refused.stderr and "Traceback" not in refused.stderr
    )
