"""Who is in which arm: balanced, sticky, nested, independent of other experiments; and a proxy that follows the record."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare, kstest

from events.clock import SetClock
from events.topics import IMPRESSIONS
from registry.experiment import EXPERIMENTS, ArmShare, Experiments, Record, State, switched_off
from registry.manifest import point_live
from serving.arms import Arm
from serving.assignment import Assignment, assign, place
from serving.errors import AdminRefused
from tests.registry.test_experiment import experiment
from tests.serving.small_world import SmallWorld, ask

VIEWERS = [f"u{n}" for n in range(200_000)]
RAREST = 1e-4  # p below which a test fails: these ids and salts are fixed, so it fails always or never


def record(**changes: Any) -> Record:
    return Record(version=1, experiment=experiment(**changes))


def arms_of(one: Record, viewers: list[str] = VIEWERS) -> list[str]:
    return [assign(one, viewer).name for viewer in viewers]


def test_without_an_experiment_everybody_gets_the_stable_release() -> None:
    assert assign(Record(), "u1") == Arm("stable", "stable", "")


def test_arms_have_their_shares() -> None:
    counts = Counter(arms_of(record()))
    seen = [counts["canary"], counts["baseline"], counts["stable"]]
    assert chisquare(seen, [10_000, 10_000, 180_000]).pvalue > RAREST


def test_an_arm_names_its_release_and_its_experiment() -> None:
    found = {arm.name: arm for arm in (assign(record(), viewer) for viewer in VIEWERS[:1_000])}
    assert found == {
        "canary": Arm("canary", "canary", "new-2"), "baseline": Arm("baseline", "stable", "new-2"),
        "stable": Arm("stable", "stable", "new-2"),
    }  # fmt: skip


def test_places_are_uniform_also_among_viewers_who_have_something_in_common() -> None:
    assert kstest([place("pepper", viewer) for viewer in VIEWERS[:50_000]], "uniform").pvalue > RAREST
    for segment in (VIEWERS[::7], VIEWERS[:5_000], [f"anna.smith+{n}@mail" for n in range(50_000)]):
        counts = Counter(arms_of(record(), segment))
        expected = [len(segment) * share for share in (0.05, 0.05, 0.9)]
        seen = [counts["canary"], counts["baseline"], counts["stable"]]
        assert chisquare(seen, expected).pvalue > RAREST


def test_a_viewer_stays_in_her_arm_whatever_else_changes() -> None:
    later = record(phase_at=9e9, started_at=9e9, config={"share": 0.05}, read_back="seen")
    assert arms_of(later, VIEWERS[:20_000]) == arms_of(record(), VIEWERS[:20_000])


def test_a_ramp_keeps_who_was_in_and_leaves_the_arms_apart() -> None:
    before, after = arms_of(record(state=State.RAMP, exposure=0.2)), arms_of(record())
    moves = Counter(zip(before, after, strict=True))
    assert {move for move in moves if move[0] != "stable"} == {("canary", "canary"), ("baseline", "baseline")}
    assert moves["canary", "canary"] / len(VIEWERS) == pytest.approx(0.01, rel=0.1)
    assert moves["stable", "canary"] / len(VIEWERS) == pytest.approx(0.04, rel=0.05)


def test_two_experiments_are_independent_of_each_other() -> None:
    halves = (ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5))
    one, other = (arms_of(record(arms=halves, baseline="", salt=salt)) for salt in ("pepper", "paprika"))
    pairs = Counter(zip(one, other, strict=True))
    table = np.array([[pairs[a, b] for b in ("canary", "stable")] for a in ("canary", "stable")])
    assert chi2_contingency(table).pvalue > RAREST
    assert chisquare(table.ravel()).pvalue > RAREST


def test_a_salt_of_any_length_places_viewers_and_each_salt_its_own_way() -> None:
    salts = ["s", "s" * 64, "s" * 65, "s" * 65 + "t"]
    assert len({place(salt, "u1") for salt in salts}) == 4


@pytest.mark.parametrize("state", [State.SHADOW, State.PROMOTED, State.ROLLED_BACK, State.STOPPED])
def test_nobody_sees_a_canary_in_the_shadow_or_after_its_end(state: State) -> None:
    assert set(arms_of(record(state=state), VIEWERS[:2_000])) == {"stable"}


def test_the_kill_switch_is_stronger_than_a_pin_and_a_pin_than_the_experiment() -> None:
    pinned = msgspec.structs.replace(record(), pin="canary")
    assert {assign(pinned, viewer) for viewer in VIEWERS[:100]} == {Arm("pinned", "canary", "")}
    killed = msgspec.structs.replace(pinned, killed=True)
    assert {assign(killed, viewer) for viewer in VIEWERS[:100]} == {Arm()}


class Following:
    """A proxy's assignment and the store it follows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.store = Experiments(folder)
        self.assignment = Assignment(folder, clock=SetClock(50.0), report=self.said.append)

    def write(self, **changes: Any) -> None:
        self.store.change(lambda old: msgspec.structs.replace(old, **changes), who="ada", at=1.0, what="a", why="b")


@pytest.fixture
def following(tmp_path: Path) -> Following:
    return Following(tmp_path)


def test_the_record_is_followed_and_said_once_a_change(following: Following) -> None:
    following.write(experiment=experiment())
    following.assignment.poll()
    following.assignment.poll()
    assert following.said == ["experiments: version 1, new-2 is canary: canary 0.05, baseline 0.05, stable 0.9"]
    assert {following.assignment(viewer).name for viewer in VIEWERS[:1_000]} == {"canary", "baseline", "stable"}
    following.write(killed=True)
    following.assignment.poll()
    assert {following.assignment(viewer).name for viewer in VIEWERS[:1_000]} == {"stable"}


def test_a_broken_record_leaves_the_last_good_one_in_force_and_is_said(following: Following) -> None:
    following.write(experiment=experiment())
    following.assignment.poll()
    (following.folder / EXPERIMENTS).write_text("{")
    following.assignment.poll()
    assert "cannot be read" in following.assignment.refused
    assert following.said[-1].endswith("version 1 stays in force")
    assert "canary" in {following.assignment(viewer).name for viewer in VIEWERS[:1_000]}


def test_a_kill_switch_that_could_not_be_read_is_read_at_the_next_look_and_its_trouble_said_once(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    following.write(experiment=experiment())
    following.assignment.poll()
    following.write(killed=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        for _ in range(3):
            following.assignment.poll()
    assert "Input/output error" in following.assignment.refused
    assert len(following.said) == 2
    following.assignment.poll()  # the file is what it was
    assert following.assignment.record.killed and following.assignment.refused == ""


def failing(_: Path) -> bytes:
    raise OSError(5, "Input/output error")


def test_a_proxy_may_be_told_to_pin_or_kill_and_it_holds_for_all(following: Following) -> None:
    following.write(experiment=experiment())
    following.assignment.poll()
    following.assignment.pin("new-2", "baseline")
    assert following.store.read().pin == "stable"
    with pytest.raises(AdminRefused, match=r"^arm='x' is not one of new-2; allowed are canary, baseline, stable$"):
        following.assignment.pin("new-2", "x")
    following.assignment.kill("new-2")
    assert following.assignment.record.killed
    assert [(one.who.rstrip("0123456789"), one.what) for one in following.store.history()[1:]] == [
        ("administration of proxy ", "pinned to stable"),
        ("administration of proxy ", "stopped, experiments switched off"),
    ]
    with pytest.raises(AdminRefused, match=r"^experiment 'new-2' does not run; running is none$"):
        following.assignment.kill("new-2")


def test_the_administration_shows_what_this_proxy_follows(following: Following) -> None:
    assert following.assignment.status() == {}
    following.write(experiment=experiment(state=State.RAMP, exposure=0.5))
    following.assignment.poll()
    shown = following.assignment.status()["new-2"]
    assert (shown["state"], shown["version"], shown["arms"]["canary"]) == (
        "ramp",
        1,
        {"label": "canary", "share": 0.025},
    )


def test_a_proxy_serves_each_viewer_her_arms_release_and_logs_both(world: SmallWorld) -> None:
    world.release(1)
    world.release(2, live=False)
    releases = world.folder / "releases"
    point_live(releases, {"stable": "demo-1", "canary": "demo-2"})
    halves = (ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5))
    proxy = world.proxy()
    Experiments(releases).change(
        lambda _: record(arms=halves, baseline=""), who="ada", at=1.0, what="started", why="a try"
    )
    proxy.parts.background.tick()
    feeds = {viewer: ask(proxy, viewer) for viewer in VIEWERS[:20]}
    assert {(feed.arm, feed.release) for feed in feeds.values()} == {("canary", "demo-2"), ("stable", "demo-1")}
    assert {viewer: feed.arm for viewer, feed in feeds.items()} == {
        viewer: assign(record(arms=halves, baseline=""), viewer).name for viewer in feeds
    }
    proxy.parts.impressions.step()
    logged = [json.loads(one.value) for lane in world.log.records.values() for one in lane if one.topic == IMPRESSIONS]
    assert {(one.get("arm", "stable"), one["release"]) for one in logged} == {
        ("canary", "demo-2"),
        ("stable", "demo-1"),
    }


def test_a_kill_switch_reaches_a_running_proxy_by_itself(world: SmallWorld) -> None:
    releases = world.folder / "releases"
    releases.mkdir(exist_ok=True)
    store, halves = Experiments(releases), (ArmShare("canary", "canary", 0.5), ArmShare("stable", "stable", 0.5))
    store.change(lambda _: record(arms=halves, baseline=""), who="ada", at=1.0, what="started", why="a try")
    proxy = world.proxy()
    viewer = next(one for one in VIEWERS if proxy.assignment(one).name == "canary")
    proxy.parts.background.start()
    try:
        store.change(lambda old: switched_off(old, at=2.0), who="ada", at=2.0, what="killed", why="harm")
        deadline = time.monotonic() + 20.0
        while proxy.parts.assign(viewer).name == "canary" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert proxy.parts.assign(viewer) == Arm()
    finally:
        proxy.parts.background.close()
