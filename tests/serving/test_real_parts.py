"""Feed and deployment on the real parts: events through Kafka, models on the model server, impressions back in Kafka."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from events.kafka import KafkaReader, KafkaWriter
from events.schema import Impression
from events.topics import IMPRESSIONS, decode
from features.redis import RedisStore
from registry.manifest import point_live, read_live, read_manifest, write_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy
from serving.tf_serving import TfServing
from stack.parts import Parts
from tests.serving.small_world import NOW, SmallWorld

pytestmark = pytest.mark.parts
PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))
LINE = "smallworld"


class Loud(SmallWorld):
    """The small world, told to Kafka as well as to its own store."""

    writer: KafkaWriter

    def tell(self, event: Any) -> None:
        super().tell(event)
        self.writer.send(event)


def until(true: Callable[[], bool], *, wait_s: float = 60.0) -> None:
    deadline = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


@pytest.fixture
def world(parts: Parts, tmp_path: Path) -> Iterator[Loud]:
    settings = parts.settings
    world = Loud(tmp_path)
    world.writer = KafkaWriter(settings.kafka)
    world.name._next = time.time_ns()  # event ids of this run alone
    world.fill()
    world.writer.flush()
    store = RedisStore(settings.redis)
    until(lambda: {"m29", "r2"} <= set(world.store.live_rooms(NOW)) | set(ids(store)))
    before = read_live(settings.releases)
    yield world
    world.writer.close()
    point_live(settings.releases, before)


def ids(store: RedisStore) -> list[str]:
    from features.definitions import Entity

    return store.ids(Entity.ITEM)


def feed(parts: Parts, **query: Any) -> dict[str, Any]:
    address = f"{parts.settings.proxy}/api/v1/content/feed"
    answer = httpx.get(address, params=query, headers={"X-Livefeed-Now": str(NOW)}, timeout=30.0)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def candidate_of(world: SmallWorld, folder: Path, version: int) -> Path:
    from tests.serving.small_models import write_models

    made = world.release(version, live=False)
    write_manifest(made, msgspec.structs.replace(read_manifest(made), line=LINE))
    write_models(made, world.encoder())
    target = folder / f"{LINE}-{version}"
    shutil.copytree(made, target)
    return target


def test_a_candidate_is_registered_deployed_and_answers_over_http(parts: Parts, world: Loud, tmp_path: Path) -> None:
    settings = parts.settings
    registry = MlflowRegistry(settings.mlflow)
    version = registry.next_version(LINE)
    candidate = candidate_of(world, tmp_path / "candidates", version)
    run = registry.register(candidate, read_manifest(candidate), {"recall_at_100": 0.5})
    assert read_manifest(candidate).mlflow_run == run
    name = deploy(
        candidate, PASS, releases=settings.releases, models=settings.models, server=TfServing(settings.model_server),
        registry=registry, wait_s=60.0,
    )  # fmt: skip
    assert registry.releases(LINE)[0].aliases == ("champion",)
    until(lambda: feed(parts, user_id="u-small", limit=5)["release"] == name)
    until(lambda: feed(parts, user_id="u-small", limit=5)["degraded"] == [])
    body = feed(parts, user_id="u-small", limit=10)
    assert (body["model_version"], len(body["items"])) == (version, 10)
    assert set(body["items"][0]["scores"]) == {"click", "completion", "like"}
    rooms = feed(parts, user_id="u-small", limit=10, content_type="LIVE")["items"]  # a page of all kinds may have none
    assert rooms and all(item["live"] for item in rooms)
    impressions = impressions_of(parts, body["request_id"])
    assert [one.item_id for one in impressions] == [item["item_id"] for item in body["items"]]
    assert all(one.features and one.release == name and one.propensity for one in impressions)


def test_a_failing_verdict_deploys_nothing(parts: Parts, world: Loud, tmp_path: Path) -> None:
    from registry.errors import NotPassed

    settings = parts.settings
    before = read_live(settings.releases)
    fail = Verdict(outcome=Outcome.FAIL, reasons=(Reason.WORSE_THAN_BASELINE,))
    with pytest.raises(NotPassed):
        deploy(
            tmp_path / "any", fail, releases=settings.releases, models=settings.models,
            server=TfServing(settings.model_server), registry=MlflowRegistry(settings.mlflow),
        )  # fmt: skip
    assert read_live(settings.releases) == before


def test_what_a_viewer_plays_is_gone_from_her_next_feed(parts: Parts, world: Loud) -> None:
    viewer = f"viewer-{time.time_ns()}"
    first = feed(parts, user_id=viewer, limit=30, content_type="VIDEO")["items"]
    played = first[0]["item_id"]
    world.plays(viewer, played)
    world.writer.flush()
    until(
        lambda: (
            played not in {i["item_id"] for i in feed(parts, user_id=viewer, limit=30, content_type="VIDEO")["items"]}
        )
    )


def impressions_of(parts: Parts, request_id: str) -> list[Impression]:
    """The impressions of one request, as they lie in Kafka, by position."""
    reader = KafkaReader(parts.settings.kafka, [IMPRESSIONS], group=f"test-{time.time_ns()}")
    found: dict[int, Impression] = {}
    deadline = time.monotonic() + 30.0
    try:
        while len(found) < 10 and time.monotonic() < deadline:
            for record in reader.poll(timeout_s=0.5, limit=1000):
                if request_id.encode() not in record.value:
                    continue  # other tests' impressions, malformed ones among them
                event = decode(IMPRESSIONS, record.value)
                if isinstance(event, Impression) and event.request_id == request_id:
                    found[event.position] = event
    finally:
        reader.close()
    return [found[place] for place in sorted(found)]
