"""What a feed does without when a part is late, gone or wrong; that nobody pays for finding out twice, and that it ends."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.definitions import Entity
from features.errors import BadUserTower, StoreUnavailable
from features.state import EntityState
from features.store import MemoryStore, OfViewer
from serving.arms import Arm
from serving.attempt import Deadlines, FeedConfig
from serving.errors import ModelRefused, ModelUnavailable
from serving.feed import Feed, FeedRequest
from serving.models import Matrix, MemoryModels, Tensors
from serving.pipeline import recommend, shed
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld, ask

SECONDS = FeedConfig(budget_s=10.0)


class Faulty(MemoryModels):
    """Models each of which can be made to raise, and which write down how long they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_fault: Exception | None = None
        self.rank_fault: Exception | None = None
        self.asked: list[str] = []
        self.given: dict[str, float] = {}

    def embed_user(self, version: int, user: Tensors, *, timeout_s: float) -> Matrix:
        """Written down, then as told."""
        self.asked.append("embed")
        self.given["embed"] = timeout_s
        if self.embed_fault:
            raise self.embed_fault
        return super().embed_user(version, user, timeout_s=timeout_s)

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """Written down, then as told."""
        self.asked.append("rank")
        self.given["rank"] = timeout_s
        if self.rank_fault:
            raise self.rank_fault
        return super().rank(version, inputs, timeout_s=timeout_s)


class Stuck(MemoryStore):
    """A store that can be switched off, counts how often a viewer is read, and can take its time."""

    gone = False
    items_gone = False
    takes_s = 0.0
    reads = 0

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """As told."""
        if self.items_gone:
            raise StoreUnavailable("the store does not answer about items")
        return super().read(entity, ids)

    def of_viewer(self, user_id: str) -> OfViewer:
        """After a while, or not at all."""
        type(self).reads += 1
        time.sleep(self.takes_s)
        if self.gone:
            raise StoreUnavailable("the store does not answer")
        return super().of_viewer(user_id)


@pytest.fixture
def models() -> Faulty:
    return Faulty()


@pytest.fixture
def faulty(tmp_path: Path, models: Faulty) -> SmallWorld:
    """The small world with a release, over models and a store that can fail."""
    world = SmallWorld(tmp_path, models=models, store=Stuck()).fill()
    world.release()
    return world


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The breakers' monotonic seconds, set by hand."""
    at = [1000.0]
    monkeypatch.setattr("serving.breaker.time.monotonic", lambda: at[0])
    return at


def sources(feed: Feed) -> set[str]:
    return {item.source for item in feed.items}


def metric(proxy: Proxy, name: str) -> float:
    lines = proxy.parts.metrics.text().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


# --- deadlines ---


def test_the_two_tower_may_take_two_fifths_of_what_is_left_and_the_ranker_the_rest_less_a_reserve(
    faulty: SmallWorld, models: Faulty
) -> None:
    ask(faulty.proxy(config=SECONDS))
    assert 3.0 < models.given["embed"] <= 4.0
    assert 5.0 < models.given["rank"] <= 7.5


def test_a_model_for_which_no_time_is_left_is_not_asked_and_not_blamed(faulty: SmallWorld, models: Faulty) -> None:
    config = FeedConfig(budget_s=0.05, deadlines=Deadlines(reserve=0.9))
    proxy = faulty.proxy(config=config)
    assert isinstance(faulty.store, Stuck)
    faulty.store.takes_s = 0.06
    feed = ask(proxy)
    assert (feed.degraded, models.asked) == (("model_unavailable",), [])
    assert feed.items and not proxy.parts.model_breakers.of("stable", "ranker").trouble
    assert metric(proxy, 'livefeed_feed_late_total{model="ranker"}') == 1.0


# --- the model server ---


class Tower:
    """A user tower in the proxy: the first category's unit vector, as MemoryModels has it; or not numbers."""

    def __init__(self, width: int) -> None:
        self.width, self.broken, self.asked = width, False, 0

    def embed(self, viewer: Tensors) -> Matrix:
        """Of one viewer."""
        self.asked += 1
        if self.broken:
            raise BadUserTower("user tower x gave values that are not numbers")
        one: Matrix = np.eye(self.width, dtype=np.float32)[viewer["user_categories"][0, 0] % self.width]
        return one


@pytest.fixture
def own(faulty: SmallWorld) -> tuple[Proxy, Tower]:
    """A proxy whose release brings its own user tower."""
    proxy = faulty.proxy(config=SECONDS)
    background = proxy.parts.background
    tower = Tower(faulty.models.dimensions)
    background.retrievals = {
        label: replace(one, release=replace(one.release, user_tower=tower))  # type: ignore[arg-type]
        for label, one in background.retrievals.items()
    }
    return proxy, tower


def test_a_release_with_a_user_tower_recalls_as_the_model_server_would_and_asks_it_for_the_ranking_alone(
    faulty: SmallWorld, models: Faulty, own: tuple[Proxy, Tower]
) -> None:
    faulty.plays("u1", "m1")
    served = ask(faulty.proxy(config=SECONDS), limit=20)
    models.asked.clear()
    feed = ask(own[0], limit=20)
    assert (models.asked, own[1].asked, feed.degraded) == (["rank"], 1, ())
    assert [(item.item_id, item.source) for item in feed.items] == [
        (item.item_id, item.source) for item in served.items
    ]


def test_a_user_tower_that_gives_no_numbers_costs_what_is_nearest_and_nothing_else(own: tuple[Proxy, Tower]) -> None:
    proxy, tower = own
    assert "two_tower" in sources(ask(proxy, limit=20))
    tower.broken = True
    feed = ask(proxy, limit=20)
    assert (feed.degraded, feed.model_version) == (("index_unavailable",), 1)
    assert "two_tower" not in sources(feed) and all(item.scores for item in feed.items)


def test_with_a_user_tower_a_model_server_that_is_gone_still_means_what_trends(
    faulty: SmallWorld, models: Faulty, own: tuple[Proxy, Tower]
) -> None:
    models.rank_fault = models.embed_fault = ModelUnavailable("UNAVAILABLE")
    feeds = [ask(own[0], limit=20, diversity=0.0) for _ in range(10)]
    assert {feed.degraded for feed in feeds} == {("model_unavailable",)}
    assert models.asked.count("rank") == 3  # then it is left alone
    plain = ask(faulty.proxy(config=SECONDS), limit=20, diversity=0.0)  # of which nothing nearest is known
    for feed in feeds:
        assert [item.item_id for item in feed.items] == [item.item_id for item in plain.items]
        assert "two_tower" not in sources(feed)


def test_an_overloaded_proxy_asks_no_user_tower(own: tuple[Proxy, Tower]) -> None:
    shed(FeedRequest(request_id="q", user_id="u1", now=NOW), own[0].parts)
    assert own[1].asked == 0


def test_without_an_embedding_the_other_sources_are_still_ranked(faulty: SmallWorld, models: Faulty) -> None:
    proxy = faulty.proxy(config=SECONDS)
    assert "two_tower" in sources(ask(proxy, limit=20))
    models.embed_fault = ModelRefused("the two-tower gave nonsense")
    feed = ask(proxy, limit=20)
    assert (feed.degraded, feed.model_version) == (("index_unavailable",), 1)
    assert "two_tower" not in sources(feed) and {"trending", "live"} <= sources(feed)
    assert all(item.scores for item in feed.items)


def test_when_neither_model_answers_the_answer_says_only_that_no_model_did(faulty: SmallWorld, models: Faulty) -> None:
    models.embed_fault, models.rank_fault = ModelRefused("no embedding"), ModelRefused("no scores")
    assert ask(faulty.proxy(config=SECONDS)).degraded == ("model_unavailable",)


def test_a_ranker_that_is_slow_is_left_alone_however_well_the_two_tower_answers(
    faulty: SmallWorld, models: Faulty, clock: list[float]
) -> None:
    proxy = faulty.proxy(config=SECONDS)
    models.rank_fault = ModelUnavailable("DEADLINE_EXCEEDED")
    feeds = [ask(proxy) for _ in range(10)]
    assert models.asked.count("rank") == 3
    assert {feed.degraded for feed in feeds} == {("model_unavailable",)}
    assert metric(proxy, 'livefeed_breaker_state{part="ranker/stable"}') == 2.0
    assert metric(proxy, 'livefeed_breaker_rejected_total{part="ranker/stable"}') == 7.0


def test_a_two_tower_that_does_not_answer_spares_the_request_the_ranker(faulty: SmallWorld, models: Faulty) -> None:
    proxy = faulty.proxy(config=SECONDS)
    models.embed_fault = ModelUnavailable("UNAVAILABLE")
    assert ask(proxy).degraded == ("model_unavailable",)
    assert models.asked == ["embed"]


def test_scores_of_the_wrong_shape_mean_what_trends(faulty: SmallWorld, models: Faulty) -> None:
    proxy = faulty.proxy(config=SECONDS)
    models.objectives = 2
    feed = ask(proxy, diversity=0.0)
    assert (feed.degraded, feed.model_version) == (("model_unavailable",), None)
    assert [item.item_id for item in feed.items][:2] == ["m0", "m1"]


def test_item_embeddings_of_the_wrong_shape_leave_the_release_and_what_it_holds(
    faulty: SmallWorld, models: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = faulty.proxy(config=SECONDS)
    monkeypatch.setattr(models, "embed_item", lambda *_, **__: np.zeros((1, 3), np.float32))
    faulty.publish("new", creator="c1")
    proxy.parts.background.tick()
    assert "embeddings of shape (1, 3), not (1, 8)" in proxy.parts.background.model_trouble
    assert ask(proxy).degraded == ()


# --- recovery ---


def test_a_store_that_hangs_costs_one_request_and_a_probe_finds_that_it_is_back(
    faulty: SmallWorld, clock: list[float]
) -> None:
    proxy, store = faulty.proxy(config=SECONDS), faulty.store
    assert isinstance(store, Stuck)
    store.gone = True
    before = Stuck.reads
    assert {ask(proxy).degraded for _ in range(5)} == {("features_unavailable",)}
    assert Stuck.reads - before == 1
    clock[0] += 0.3
    proxy.prober.step()
    assert ask(proxy).degraded == ("features_unavailable",)
    store.gone = False
    clock[0] += 0.3
    proxy.prober.step()
    before = Stuck.reads
    assert ask(proxy).degraded == ()
    assert Stuck.reads - before == 1
    assert metric(proxy, 'livefeed_breaker_transitions_total{part="store",to="closed"}') == 1.0


def test_a_store_that_answers_about_viewers_alone_is_still_left_alone_after_a_probe(
    faulty: SmallWorld, clock: list[float]
) -> None:
    proxy, store = faulty.proxy(config=SECONDS), faulty.store
    assert isinstance(store, Stuck)
    store.items_gone = True
    ask(proxy)
    clock[0] += 0.3
    proxy.prober.step()
    assert proxy.parts.store_breaker.is_open


def test_a_probe_finds_models_that_are_back_and_logs_no_impressions(
    faulty: SmallWorld, models: Faulty, clock: list[float]
) -> None:
    proxy = faulty.proxy(config=SECONDS)
    models.embed_fault = models.rank_fault = ModelUnavailable("UNAVAILABLE")
    for _ in range(6):
        ask(proxy)
    waiting, asked = len(proxy.parts.impressions._queue), len(models.asked)
    models.embed_fault = models.rank_fault = None
    clock[0] += 0.3
    proxy.prober.step()
    assert models.asked[asked:] == ["embed", "rank"]
    assert len(proxy.parts.impressions._queue) == waiting
    assert ask(proxy).degraded == ()


def test_a_probe_asks_the_ranker_although_the_two_tower_is_still_gone(
    faulty: SmallWorld, models: Faulty, clock: list[float]
) -> None:
    proxy = faulty.proxy(config=SECONDS)
    models.embed_fault = ModelUnavailable("NOT_FOUND")
    for _ in range(4):
        assert ask(proxy).degraded == ("model_unavailable",)
    assert "rank" not in models.asked
    clock[0] += 0.3
    proxy.prober.step()
    assert ask(proxy).degraded == ("index_unavailable",)


def test_nothing_is_probed_while_everything_answers(faulty: SmallWorld, models: Faulty) -> None:
    proxy = faulty.proxy(config=SECONDS)
    ask(proxy)
    asked = len(models.asked)
    proxy.prober.step()
    assert len(models.asked) == asked


# --- the release ---


def test_a_release_that_cannot_be_loaded_means_what_trends_and_not_drawn_places(tmp_path: Path, models: Faulty) -> None:
    world = SmallWorld(tmp_path, models=models).fill()
    (world.release() / "index.npz").unlink()
    feed = ask(world.proxy(config=SECONDS), limit=10)
    assert feed.degraded == ("model_unavailable",)
    assert "explore" not in sources(feed)
    assert len(feed.items) == 10


def test_an_arm_whose_release_is_not_loaded_blames_the_release_that_answers_for_it(
    faulty: SmallWorld, models: Faulty, clock: list[float]
) -> None:
    proxy = faulty.proxy(config=SECONDS)
    parts = replace(proxy.parts, assign=lambda _: Arm("canary", "canary", "new-2"))
    models.embed_fault = ModelUnavailable("UNAVAILABLE")
    request = FeedRequest(request_id="q1", user_id="u1", now=NOW)
    for _ in range(3):
        recommend(request, parts)
        proxy.prober.step()  # it forgets labels that are not in traffic
    asked = len(models.asked)
    recommend(request, parts)
    assert len(models.asked) == asked
    assert set(parts.model_breakers.troubles) == {"stable"}


def test_the_thread_that_follows_outlives_what_nobody_expected(
    faulty: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, background, seen = faulty.proxy(config=SECONDS), None, list[int]()
    background = proxy.parts.background

    def broken(*_: Any) -> None:
        seen.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(proxy.parts.catalogue, "refresh", broken)
    for thread in background._threads:
        thread.start()
    until = time.monotonic() + 30.0
    while len(seen) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    background.close()
    assert len(seen) >= 3
