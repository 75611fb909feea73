"""Feed and deployment on the real parts: events through Kafka, models on the model server, impressions back in Kafka."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from events.kafka import KafkaReader, KafkaWriter
from events.schema import Impression
from events.topics import IMPRESSIONS, decode
from features.redis import RedisStore
from registry.experiment import ArmShare, Experiment, Experiments, State
from registry.manifest import point_live, read_live, read_manifest, write_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import Outcome, Reason, Verdict
from release.deploy import deploy, withdraw
from release.variant import make_variant
from serving.tf_serving import TfServing
from stack.parts import Parts
from tests.serving.small_world import NOW, SmallWorld

pytestmark = pytest.mark.parts
PASS = Verdict(outcome=Outcome.PASS, reasons=(Reason.BEATS_BASELINE,))
LINE = "smallworld"


class Loud(SmallWorld):
    """The small world, told to Kafka as well as to its own store."""

    writer: KafkaWriter
    live_at: float = NOW  # when its rooms are live, and events are not late

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
    store = RedisStore(settings.redis)
    world.fill()
    # Other tests' events may be later than this world's: its rooms would be over, and forgotten, as they open.
    world.live_at = max(NOW, store.watermark() or NOW) + 1.0
    for n in range(world.rooms):
        world.open_room(f"r{n}", host=f"h{n}", at=world.live_at)
    world.writer.flush()
    until(lambda: "m29" in ids(store) and "r2" in store.live_rooms(world.live_at))  # as the collector wrote them
    before = read_live(settings.releases)
    yield world
    world.writer.close()
    point_live(settings.releases, before)


def ids(store: RedisStore) -> list[str]:
    from features.definitions import Entity

    return store.ids(Entity.ITEM)


def feed(parts: Parts, *, now: float = NOW, **query: Any) -> dict[str, Any]:
    address = f"{parts.settings.proxy}/api/v1/content/feed"
    answer = httpx.get(address, params=query, headers={"X-Livefeed-Now": str(now)}, timeout=30.0)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def rooms(parts: Parts, now: float) -> list[dict[str, Any]]:
    return list(feed(parts, now=now, user_id="u-small", limit=10, content_type="LIVE")["items"])


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
    until(lambda: bool(rooms(parts, world.live_at)))  # a page of all kinds may have none
    assert all(item["live"] for item in rooms(parts, world.live_at))
    impressions = impressions_of(parts, body["request_id"])
    assert [one.item_id for one in impressions] == [item["item_id"] for item in body["items"]]
    assert all(one.features and one.release == name and one.propensity for one in impressions)
    with in_shadow(parts, name, tmp_path) as variant:  # the same models, which the model server need not load again
        until(lambda: "demo-try" in admin(parts))
        until(lambda: chosen_by(parts) == {variant})


@contextmanager
def in_shadow(parts: Parts, name: str, folder: Path) -> Iterator[str]:
    """A variant of a release with its formula turned round, in shadow; taken away again."""
    settings, server = parts.settings, TfServing(parts.settings.model_server)
    variant = make_variant(
        settings.releases / name, line=f"{LINE}-back", formula={"click": -1.0}, into=folder / "variants"
    )
    one = Experiment(
        id="demo-try", salt="demo-try", line=f"{LINE}-back", release=variant.name, control_line=LINE, control_release=name,
        state=State.SHADOW, arms=(ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5)), created_at=NOW,
        phase_at=NOW,
    )  # fmt: skip
    record = Experiments(settings.releases)
    change: dict[str, Any] = {"who": "a test", "at": NOW, "what": "changed", "why": "a test"}
    traffic: dict[str, Any] = {
        "releases": settings.releases,
        "models": settings.models,
        "server": server,
        "wait_s": 60.0,
    }
    deploy(variant, PASS, label="canary", registry=MlflowRegistry(settings.mlflow), **traffic)
    try:
        record.change(lambda old: msgspec.structs.replace(old, experiment=one), **change)
        yield variant.name
    finally:
        record.change(lambda old: msgspec.structs.replace(old, experiment=None), **change)
        withdraw("canary", **traffic)


def admin(parts: Parts) -> dict[str, Any]:
    """The experiments as the proxy follows them."""
    token = {"Authorization": f"Bearer {parts.settings.admin_token}"} if parts.settings.admin_token else {}
    answer = httpx.get(f"{parts.settings.admin}/admin/experiments", headers=token, timeout=10.0)
    return dict(answer.json())


def chosen_by(parts: Parts) -> set[str | None]:
    """Whose choices a feed's explored impressions have."""
    found = impressions_of(parts, feed(parts, user_id="u-small", limit=10)["request_id"])
    told = [one.explored for one in found if one.explored is not None]
    return {None if one.shadow is None else one.shadow.release for one in told}


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
    ask: dict[str, Any] = {"now": world.live_at, "user_id": viewer, "limit": 30, "content_type": "VIDEO"}
    played = feed(parts, **ask)["items"][0]["item_id"]
    world.plays(viewer, played, at=world.live_at - 60)
    world.writer.flush()
    until(lambda: played not in {item["item_id"] for item in feed(parts, **ask)["items"]})


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
