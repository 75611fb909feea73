"""The whole loop on the real parts: a world's events become a model, the model a feed, and the feed changes the next feed."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from events import schema as s
from events.clock import utc
from events.kafka import KafkaWriter
from events.topics import IMPRESSIONS
from features.definitions import Entity
from features.history import store_as_of
from features.redis import RedisStore
from features.samples import SampleReport, build_samples
from features.state import values
from features.tables import DeltaTables
from features.training_input import Samples, read_samples
from registry.mlflow_store import MlflowRegistry
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy
from serving.tf_serving import TfServing
from simulator.config import WorldConfig
from simulator.feed import HttpFeed
from simulator.report import WorldReport
from simulator.world import World
from stack.demo.run import ask, wait_for_release
from stack.demo.stored import Ledger, Stored
from stack.parts import Parts

START = datetime(2027, 6, 1, 17, tzinfo=UTC)  # after every other test's events, so that none of these are late
HOURS = 5.0
pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]


@dataclass
class Loop:
    """The loop after its first turn: the world stands still and its release is in traffic."""

    parts: Parts
    world: World
    writer: KafkaWriter
    stored: Stored
    first: WorldReport
    ledger: Ledger
    built: SampleReport
    samples: Samples
    release: str

    @property
    def days(self) -> list[date]:
        return [START.date(), START.date() + timedelta(days=1)]


@pytest.fixture(scope="module")
def loop(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Viewers meet trending and drawn feeds, the samples of that train a candidate, and the candidate is deployed."""
    settings, stored = parts.settings, Stored(parts.settings)
    before = stored.wait()
    world = World(WorldConfig(seed=11, start_at=START, viewers=150, hosts=12, sessions_per_day=12.0, duplicate_share=0.02,
                              broken_share=0.005))  # fmt: skip
    writer, feed = KafkaWriter(settings.kafka), HttpFeed(settings.proxy)
    first = world.advance(HOURS, writer, feed, settle=stored.settle)
    feed.close()
    ledger = difference(stored.wait(), before)
    built = rebuilt(parts, [START.date()])
    samples = read_samples(settings.lake)
    release = learned(parts, samples, tmp_path_factory.mktemp("candidate"))
    wait_for_release(settings, release, say=print)
    yield Loop(parts, world, writer, stored, first, ledger, built, samples, release)
    writer.close()


def difference(after: Ledger, before: Ledger) -> Ledger:
    """What happened between two counts."""
    counts = dataclasses.asdict(before)
    return Ledger(**{name: value - counts[name] for name, value in dataclasses.asdict(after).items()})


def rebuilt(parts: Parts, dates: list[date]) -> SampleReport:
    """Samples of those dates, by Spark."""
    from features.spark import session
    from stack.jars import delta_jars

    spark = session(jars=delta_jars(parts.settings.jars), memory="1g", cores=2)
    return build_samples(spark, parts.settings.lake, dates=dates)


def learned(parts: Parts, samples: Samples, scratch: Path) -> str:
    """A small model, registered and deployed under a verdict written by hand: the gate has tests of its own."""
    from training.pipeline import TrainingConfig, train_candidate
    from training.ranking import RankerConfig
    from training.two_tower import TwoTowerConfig

    settings, registry = parts.settings, MlflowRegistry(parts.settings.mlflow)
    small = TrainingConfig(two_tower=TwoTowerConfig(max_steps=100), ranker=RankerConfig(max_steps=100))
    version = registry.next_version("loop")
    folder = scratch / f"loop-{version}"
    manifest = train_candidate(
        samples, store_as_of(settings.lake), folder, line="loop", version=version, seed=1, config=small
    )
    registry.register(folder, manifest, manifest.metrics)
    verdict = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))
    return deploy(
        folder, verdict, releases=settings.releases, models=settings.models, server=TfServing(settings.model_server),
        registry=registry, wait_s=120.0,
    )  # fmt: skip


def test_every_message_is_stored_once_or_accounted_for(loop: Loop) -> None:
    assert loop.first.duplicates > 0
    assert loop.first.broken > 0
    assert loop.ledger.duplicates == loop.first.duplicates
    assert loop.ledger.dead_letters == loop.first.broken
    assert loop.ledger.produced == loop.first.messages + loop.first.shown + loop.first.feed_empty
    assert loop.ledger.stored == loop.ledger.produced - loop.ledger.duplicates - loop.ledger.dead_letters


def test_every_impression_became_a_sample_with_the_features_it_was_shown_with(loop: Loop) -> None:
    assert loop.built.rows == loop.first.shown == loop.ledger.impressions
    assert loop.built.hydrated == 0
    assert loop.built.positives["click"] > 0
    assert all(
        row["user.user_id"] == user for row, user in zip(loop.samples.features, loop.samples.user_id, strict=True)
    )


def test_the_feed_is_ranked_by_the_release_and_only_live_rooms_are_in_it(loop: Loop) -> None:
    now = loop.world.now
    live = {room.item_id for room in loop.world.live_rooms(now)}
    for user in list(loop.world.viewers)[:20]:
        page = ask(loop.parts.settings, user, now=now, limit=20)
        assert (page["release"], page["degraded"]) == (loop.release, [])
        assert page["items"]
        assert {item["item_id"] for item in page["items"] if item["live"]} <= live
        assert all(0.0 <= p <= 1.0 for item in page["items"] for p in item["scores"].values())


def test_a_user_never_seen_gets_a_feed(loop: Loop) -> None:
    page = ask(loop.parts.settings, "nobody-has-met-her", now=loop.world.now)
    assert len(page["items"]) == 10
    assert page["degraded"] == []


def test_an_event_about_an_item_in_no_table_is_stored_and_the_item_is_never_shown(loop: Loop) -> None:
    at = utc(loop.world.now)
    for n in range(30):
        loop.writer.send(s.MediaStarted(event_id=f"ghost-{n}", event_at=at, user_id=f"fan-{n}", item_id="ghost"))
    loop.writer.flush()
    loop.stored.wait()
    rows = DeltaTables(loop.parts.settings.lake).read("engagement", columns=["item_id"]).column("item_id").to_pylist()
    assert rows.count("ghost") == 30
    page = ask(loop.parts.settings, "fan-0", now=loop.world.now, limit=100)
    assert "ghost" not in {item["item_id"] for item in page["items"]}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"user_id": "u", "limit": "-1"}, "limit"),
        ({"limit": "5"}, "user_id"),
        ({"user_id": "u", "context_item_id": "in-no-table"}, "context_item_id"),
    ],
)
def test_a_bad_question_gets_one_sentence(loop: Loop, query: dict[str, str], says: str) -> None:
    answer = httpx.get(f"{loop.parts.settings.proxy}/api/v1/content/feed", params=query)
    assert 400 <= answer.status_code < 500
    assert says in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_what_a_viewer_does_changes_her_next_feed_and_that_feed_is_the_next_sample(loop: Loop) -> None:
    settings, now = loop.parts.settings, loop.world.now
    user = "newcomer"
    before = ask(settings, user, now=now, limit=20)
    liked = [item for item in before["items"] if not item["live"]][:3]
    for n, item in enumerate(liked):
        what = {"user_id": user, "item_id": item["item_id"], "request_id": before["request_id"]}
        at = utc(now + 10 * n + 1)
        loop.writer.send(s.FeedClicked(event_id=f"n{n}c", event_at=at, position=item["position"], **what))
        loop.writer.send(s.MediaStarted(event_id=f"n{n}s", event_at=at, **what))
        loop.writer.send(s.MediaLiked(event_id=f"n{n}l", event_at=utc(now + 10 * n + 5), **what))
    loop.writer.flush()
    loop.stored.settle(now)

    after = ask(settings, user, now=now + 60, limit=20)
    known = values(Entity.USER, RedisStore(settings.redis).read(Entity.USER, [user])[0], now + 60)
    assert known["recent_positive"] == [item["item_id"] for item in reversed(liked)]
    played = {item["item_id"] for item in liked}
    assert played.isdisjoint(item["item_id"] for item in after["items"])  # what she has played is not shown again

    loop.stored.wait()
    rebuilt(loop.parts, loop.days)
    samples = read_samples(settings.lake)
    of = {(str(r), str(i)): n for n, (r, i) in enumerate(zip(samples.request_id, samples.item_id, strict=True))}
    for item in before["items"]:
        row = of[before["request_id"], item["item_id"]]
        assert samples.label("like")[row] == (item["item_id"] in played)
        assert samples.label("click")[row] == (item["item_id"] in played)
    for item in after["items"]:  # the features the ranker saw came back with the impression
        row = of[after["request_id"], item["item_id"]]
        assert samples.features[row]["user.recent_positive"] == known["recent_positive"]
    logged = DeltaTables(settings.lake).read(IMPRESSIONS.split(".")[1], columns=["request_id", "release"]).to_pylist()
    assert {row["release"] for row in logged if row["request_id"] == after["request_id"]} == {loop.release}

    both = {item["item_id"]: item["score"] for item in before["items"]}.keys() & {
        item["item_id"] for item in after["items"]
    }
    order = [[item["item_id"] for item in page["items"] if item["item_id"] in both] for page in (before, after)]
    scores = [
        {item["item_id"]: item["score"] for item in page["items"] if item["item_id"] in both}
        for page in (before, after)
    ]
    assert scores[0] != scores[1]  # what is still there was judged anew
    assert order[0] != order[1]
