"""A release in shadow: what it would have shown is logged, answers and impressions are what they are without it."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import schema as s
from events.topics import IMPRESSIONS, decode
from registry.experiment import ArmShare, Experiment, Experiments, State
from registry.manifest import point_live, read_manifest, write_manifest
from serving.arrange import ArrangeConfig, Page, Ranked, arrange, choice_at
from serving.attempt import FeedConfig
from serving.catalogue_view import FRESH_S
from serving.errors import ModelUnavailable
from serving.feed import Feed
from serving.models import Matrix, MemoryModels, Tensors
from serving.shadow import ShadowConfig, explored_at
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld, ask

ALIKE = {"click": 2.0, "completion": 2.0, "like": 2.0}  # the default formula's order
BACKWARDS = {"click": -1.0}


class OnCue(MemoryModels):
    """Models whose version 2 is the shadow's, and can be slow or gone."""

    slow_s = 0.0
    gone = False
    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.until: threading.Event | None = None  # version 2 answers when it is set
        self.asked = threading.Event()

    def rank(self, version: int, inputs: Tensors, *, timeout_s: float) -> Matrix:
        """As ever, but for version 2."""
        if version == 2:
            self.asked.set()
            if self.until is not None:
                self.until.wait(10.0)
            time.sleep(self.slow_s)
            if self.gone:
                raise ModelUnavailable("the shadow's ranker does not answer")
            if self.broken:
                raise ValueError("nobody thought of this")
        return super().rank(version, inputs, timeout_s=timeout_s)


def experiment(**more: Any) -> Experiment:
    given: dict[str, Any] = {
        "id": "try", "salt": "try", "line": "demo", "release": "demo-2", "control_line": "demo", "control_release": "demo-1",
        "state": State.SHADOW, "created_at": NOW, "phase_at": NOW,
        "arms": (ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5)),
    }  # fmt: skip
    return Experiment(**(given | more))


def shadowed(tmp_path: Path, formula: dict[str, Any] = ALIKE, **more: Any) -> SmallWorld:
    """demo-1 answers, demo-2 is in shadow."""
    world = SmallWorld(tmp_path, models=OnCue(), media=60).fill()
    world.release(1)
    folder = world.release(2, live=False)
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), formula=formula))
    point_live(world.folder / "releases", {"stable": "demo-1", "canary": "demo-2"})
    begin(world, experiment(**more))
    return world


def begin(world: SmallWorld, one: Experiment) -> None:
    Experiments(world.folder / "releases").change(
        lambda record: msgspec.structs.replace(record, experiment=one), who="ann", at=NOW, what="began", why="a test"
    )


def feeds(proxy: Proxy, count: int = 40, **more: Any) -> list[Feed]:
    return [ask(proxy, user_id=f"u{n}", request_id=f"q{n}", limit=10, **more) for n in range(count)]


def warm(world: SmallWorld, viewers: int) -> None:
    """Each has played something, so that the model alone says what she likes."""
    for n in range(viewers):
        world.plays(f"u{n}", "m59")


def logged(world: SmallWorld, proxy: Proxy) -> list[s.Impression]:
    """What is in the log once everything that waits is sent, by request and position."""
    proxy.shadow.close()
    proxy.parts.impressions.step()
    records = [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]
    events = [decode(IMPRESSIONS, record.value) for record in records]
    found = [event for event in events if isinstance(event, s.Impression)]
    return sorted(found, key=lambda one: (int(one.request_id[1:]), one.position))


def outcomes(proxy: Proxy) -> dict[str, float]:
    (family,) = proxy.parts.metrics.shadowed.collect()
    return {one.labels["outcome"]: one.value for one in family.samples if one.name.endswith("_total")}


def bare(impressions: Sequence[s.Impression]) -> list[s.Impression]:
    """The same impressions without what the shadow says."""
    return [
        one if one.explored is None
        else msgspec.structs.replace(one, explored=msgspec.structs.replace(one.explored, shadow=None))
        for one in impressions
    ]  # fmt: skip


def the_last(impressions: Sequence[s.Impression]) -> list[s.Impression]:
    return [one for one in impressions if one.position == 9]


def test_every_explored_place_says_its_dice_and_no_other_place_does(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    proxy = world.proxy()
    feeds(proxy)
    found = logged(world, proxy)
    assert {one.position for one in found if one.explored is not None} == {9}
    for one in the_last(found):
        assert one.explored is not None and one.propensity is not None
        odds = 0.8 if one.explored.rank is None else 0.2 / one.explored.pool
        assert one.propensity == pytest.approx(odds)
    assert {one.explored.rank is None for one in the_last(found) if one.explored} == {True, False}


def test_a_page_laid_out_anew_says_nothing_of_its_dice(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    for n in range(3, 12):
        world.open_room(f"r{n}", host=f"h{n}")
    proxy = world.proxy()
    ask(proxy, request_id="q1", limit=4, content_type=s.ContentType.LIVE)
    for n in range(3):
        world.store.set_room(f"r{n}", lease_until=NOW - 1)
    late = NOW + FRESH_S + 0.1  # when a page's rooms are asked for again
    for n in range(2, 20):
        ask(proxy, request_id=f"q{n}", limit=4, content_type=s.ContentType.LIVE, now=late)
    proxy.shadow.step()
    last = [one for one in logged(world, proxy) if one.position == 3]
    assert (last[0].propensity is None, last[0].explored is None) == (False, False)
    anew = [one for one in last if one.propensity is None]
    assert anew and all(one.explored is None for one in anew)


def test_the_first_feeds_which_draw_most_places_otherwise_say_nothing_of_dice(tmp_path: Path) -> None:
    world = SmallWorld(tmp_path, media=60).fill()
    proxy = world.proxy()
    feeds(proxy, 10)
    found = logged(world, proxy)
    assert len(found) == 100 and all(one.explored is None for one in found)


def test_a_release_that_orders_everything_alike_chooses_what_was_shown_by_merit(tmp_path: Path) -> None:
    world = shadowed(tmp_path, ALIKE)
    proxy = world.proxy()
    feeds(proxy)
    proxy.shadow.step()
    for one in the_last(logged(world, proxy)):
        assert one.explored is not None and one.explored.shadow is not None
        assert one.explored.shadow.release == "demo-2"
        assert one.explored.shadow.chose_shown == (one.explored.rank is None)
        assert one.explored.shadow.expected_target == one.explored.shadow.expected_incumbent


def test_a_backward_release_chooses_another_row_and_expects_fewer_clicks_by_the_answering_ones_scores(
    tmp_path: Path,
) -> None:
    world = shadowed(tmp_path, BACKWARDS)
    warm(world, 40)
    proxy = world.proxy()
    feeds(proxy, diversity=0.0)
    proxy.shadow.step()
    told = [one.explored.shadow for one in the_last(logged(world, proxy)) if one.explored and one.explored.shadow]
    assert len(told) == 40
    assert all(one.expected_target["click"] < one.expected_incumbent["click"] for one in told)


def test_expectations_are_the_answering_releases_scores_over_what_might_have_stood_there(tmp_path: Path) -> None:
    """A pool of one: what stands there is either the row by merit, seen here, or the other one."""
    world = shadowed(tmp_path, BACKWARDS)
    warm(world, 60)
    proxy = world.proxy(config=FeedConfig(arrange=ArrangeConfig(pool=1, epsilon=0.25)))
    feeds(proxy, 60, diversity=0.0)
    proxy.shadow.step()
    last = the_last(logged(world, proxy))
    by_merit = [one for one in last if one.explored is not None and one.explored.rank is None]
    seen = 0
    for one in by_merit:
        assert one.explored is not None and one.explored.shadow is not None and one.scores is not None
        told, own = one.explored.shadow, one.scores["click"]
        if told.chose_shown:
            assert told.expected_target == told.expected_incumbent
            continue
        seen += 1
        # incumbent 0.75 own + 0.25 other, target 0.75 other + 0.25 other
        other = (told.expected_incumbent["click"] - 0.75 * own) / 0.25
        assert told.expected_target["click"] == pytest.approx(other)
        assert 0.0 < other < own
    assert seen > 20


@pytest.mark.parametrize("trouble", ["none", "gone", "broken", "slow", "full"])
def test_whatever_the_shadow_does_answers_and_impressions_are_what_they_are_without_it(
    tmp_path: Path, trouble: str
) -> None:
    world, other = shadowed(tmp_path / "with", BACKWARDS), shadowed(tmp_path / "without", state=State.STOPPED)
    assert isinstance(world.models, OnCue)
    world.models.gone, world.models.broken = trouble == "gone", trouble == "broken"
    world.models.slow_s = 0.03 if trouble == "slow" else 0.0
    limits = ShadowConfig(queue=3 if trouble == "full" else 1_000, patience_s=0.05 if trouble == "slow" else 60.0)
    proxy, alone = world.proxy(config=FeedConfig(shadow=limits)), other.proxy()
    answers = feeds(proxy)
    if trouble == "slow":
        proxy.shadow.step()
    elif trouble != "none":
        thread = threading.Thread(target=proxy.shadow.step)
        thread.start()
        thread.join()
    assert answers == feeds(alone)
    found, expected = logged(world, proxy), logged(other, alone)
    assert bare(found) == expected
    assert len({one.event_id for one in found}) == len(found) == 400


def test_why_a_page_is_not_scored_is_counted(tmp_path: Path) -> None:
    world = shadowed(tmp_path, BACKWARDS)
    assert isinstance(world.models, OnCue)
    proxy = world.proxy(config=FeedConfig(shadow=ShadowConfig(queue=5)))
    feeds(proxy, 7)
    proxy.shadow.step()
    assert outcomes(proxy) == {"full": 2.0, "scored": 5.0}
    world.models.gone = True
    feeds(proxy, 4)
    proxy.shadow.step()
    assert outcomes(proxy) == {"full": 2.0, "scored": 5.0, "failed": 3.0, "rests": 1.0}
    assert "does not answer" in proxy.shadow.trouble


def test_a_page_that_waited_too_long_is_logged_as_it_is(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    proxy = world.proxy(config=FeedConfig(shadow=ShadowConfig(patience_s=0.0)))
    feeds(proxy, 3)
    proxy.shadow.step()
    assert outcomes(proxy) == {"late": 3.0}
    assert len(logged(world, proxy)) == 30


def test_a_share_of_the_requests_is_looked_at_and_it_is_the_same_ones_again(tmp_path: Path) -> None:
    world = shadowed(tmp_path, shadow_share=0.3)
    proxy = world.proxy(config=FeedConfig(shadow=ShadowConfig(queue=1_000)))
    feeds(proxy, 200)
    once = outcomes(proxy)["not_drawn"]
    assert 110 <= once <= 170
    feeds(proxy, 200)
    assert outcomes(proxy)["not_drawn"] == 2 * once


@pytest.mark.parametrize("state", [State.RAMP, State.CANARY, State.STOPPED])
def test_outside_the_shadow_phase_nothing_waits_and_no_model_is_asked_twice(tmp_path: Path, state: State) -> None:
    world = shadowed(tmp_path, state=state, exposure=0.0, started_at=NOW)
    proxy = world.proxy()
    calls = world.models.calls
    feeds(proxy, 5)
    assert world.models.calls == calls + 10
    proxy.parts.impressions.step()
    assert outcomes(proxy) == {}


@pytest.mark.parametrize("switched", [{"killed": True}, {"pin": "stable"}])
def test_while_experiments_are_switched_off_or_everybody_is_pinned_the_shadow_is_not_asked(
    tmp_path: Path, switched: dict[str, Any]
) -> None:
    world = shadowed(tmp_path)
    Experiments(world.folder / "releases").change(
        lambda record: msgspec.structs.replace(record, **switched), who="ann", at=NOW, what="switched", why="a test"
    )
    proxy = world.proxy()
    feeds(proxy, 3)
    proxy.shadow.step()
    assert outcomes(proxy) == {}


def test_answers_and_the_other_impressions_come_while_the_shadow_is_still_being_asked(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    assert isinstance(world.models, OnCue)
    world.models.until = threading.Event()
    proxy = world.proxy()
    proxy.start()
    try:
        assert len(feeds(proxy, 3)) == 3
        assert world.models.asked.wait(10.0)  # and is not answered
        assert outcomes(proxy) == {}
    finally:
        world.models.until.set()
        proxy.close()
    records = [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]
    assert len(records) == 30


def test_without_the_answering_releases_scores_the_shadow_is_not_asked(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    proxy = world.proxy()
    world.models.down = True
    feeds(proxy, 2)
    assert outcomes(proxy) == {"unscored": 2.0}


def test_a_running_proxy_logs_what_waits_when_it_stops(tmp_path: Path) -> None:
    world = shadowed(tmp_path)
    proxy = world.proxy()
    proxy.start()
    feeds(proxy, 20)
    proxy.close()
    records = [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]
    assert len(records) == 200


CODES = st.integers(0, 3)


@st.composite
def pages(draw: st.DrawFn) -> tuple[Ranked, Page, float, int, ArrangeConfig]:
    """Candidates with ties, a page of them, and how it was laid out."""
    n = draw(st.integers(6, 30))
    merit = np.array(draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=n, max_size=n)))
    kind, category = (np.array(draw(st.lists(CODES, min_size=n, max_size=n))) for _ in range(2))
    creator = np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    ranked = Ranked(
        merit, (kind % 3).astype(np.int8), creator.astype(np.int32), (category - 1).astype(np.int32),
        np.array(draw(st.permutations(range(n)))),
    )  # fmt: skip
    config = ArrangeConfig(explored_share=0.4, epsilon=0.5, pool=draw(st.integers(2, 20)))
    diversity, preferred = draw(st.sampled_from([0.0, 0.2, 0.7, 1.0])), draw(st.integers(-1, 2))
    dice = draw(st.randoms(use_true_random=False))
    page = arrange(ranked, limit=5, diversity=diversity, preferred=preferred, config=config, dice=dice)
    return ranked, page, diversity, preferred, config


@settings(max_examples=300, deadline=None)
@given(made=pages())
def test_the_merits_that_laid_a_page_out_choose_its_row_by_merit_at_every_explored_place(
    made: tuple[Ranked, Page, float, int, ArrangeConfig],
) -> None:
    ranked, page, diversity, preferred, config = made
    for at in np.flatnonzero(page.explored).tolist():
        chosen = choice_at(ranked, page, at, diversity=diversity, preferred=preferred, config=config)
        told = explored_at(page, at, epsilon=config.epsilon)
        assert chosen == page.by_merit[at]
        assert (chosen == page.places[at]) == (told.rank is None)
        assert told.pool == len(page.pool_at(at))
        if told.rank is not None:
            assert page.pool_at(at)[told.rank] == page.places[at]


def test_another_merit_chooses_the_best_of_the_places_own_pool_less_what_diversity_takes() -> None:
    """Places 0 and 1 show video; at the explored place 2 an audio row of merit 0.5 beats a video row of 0.6 at diversity 0.2.

    Video: 0.8 x 0.6 - 0.2 x 2 / 2 = 0.28; audio: 0.8 x 0.5 = 0.40; without diversity 0.6 wins.
    """
    zeros = np.zeros(5, np.int32)
    ranked = Ranked(
        np.array([1.0, 0.9, 0.8, 0.1, 0.0]), np.array([0, 0, 0, 0, 1], np.int8), np.arange(5, dtype=np.int32), zeros - 1,
        np.arange(5),
    )  # fmt: skip
    config = ArrangeConfig(explored_share=0.3, epsilon=0.2, creator_cap=1)
    page = Page(
        np.array([0, 1, 2]), np.ones(3), np.array([False, False, True]), np.array([0, 1, 2]), np.array([3, 4])
    )  # fmt: skip
    other = replace(ranked, merit=np.array([0.0, 0.0, 0.2, 0.6, 0.5]))
    assert choice_at(other, page, 2, diversity=0.2, preferred=-1, config=config) == 4
    assert choice_at(other, page, 2, diversity=0.0, preferred=-1, config=config) == 3
    assert choice_at(other, page, 2, diversity=0.0, preferred=1, config=replace(config, preference=0.2)) == 4


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every proxy that was started is stopped."""
    yield
    assert not [one for one in threading.enumerate() if one.name == "shadow"]
