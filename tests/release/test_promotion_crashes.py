"""A promotion whose process dies before any of its steps ends as if nothing had happened once it is run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.canary_log import read_log
from registry.experiment import Experiments
from registry.manifest import read_manifest, write_manifest
from release import promotion, promotion_acts
from tests.release.canaries import Canary


class Crash(BaseException):
    """The process dies here (not an Exception: nothing may handle it)."""


class Fuse:
    """Dies before the n-th step that it is put around."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, list[str]()

    def around(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*args: Any, **more: Any) -> Any:
            self.steps.append(name)
            if len(self.steps) == self.at:
                raise Crash(name)
            return step(*args, **more)

        return fused


def fused(canary: Canary, patch: pytest.MonkeyPatch, at: int) -> Fuse:
    """The fuse around everything that a promotion writes outside of its own process."""
    fuse = Fuse(at)
    for module, name in (
        (promotion_acts, "deploy"), (promotion_acts, "withdraw"), (promotion_acts, "rollback"), (Experiments, "change"),
        (Experiments, "_write"), (promotion, "write_verdict"), (type(canary.registry), "challenge"),
        (type(canary.registry), "register"),
    ):  # fmt: skip
        patch.setattr(module, name, fuse.around(name, getattr(module, name)))
    return fuse


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Canary]:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    made = iter(range(100))
    return lambda: Canary(tmp_path / str(next(made)))


def outcome(canary: Canary) -> dict[str, Any]:
    """Everything that must be the same however often it broke off."""
    one = canary.record().experiment
    assert one is not None
    return {
        "state": canary.state(), "traffic": canary.traffic(), "served": canary.served(),
        "challenger": canary.registry.challenger, "champion": canary.registry.promoted[-1:],
        "decided": [entry.decision.action for entry in read_log(canary.promotion.log(one))],
        "history": [change.what for change in canary.promotion.acts.experiments.history()],
        "arms": {canary.arm_of(viewer) for viewer in ("u1", "u2", "u3", "u4", "u5", "u6")},
    }  # fmt: skip


def with_crashes(make: Callable[[], Canary], prepare: Callable[[Canary], None], act: Callable[[Canary], object]) -> int:
    """Compare an undisturbed run with one that dies before step 1, 2, ... and is run again; how many steps there were."""
    whole = make()
    prepare(whole)
    act(whole)
    wanted, at = outcome(whole), 0
    while True:
        at += 1
        canary = make()
        prepare(canary)
        with pytest.MonkeyPatch.context() as patch:
            fuse = fused(canary, patch, at)
            try:
                act(canary)
                return len(fuse.steps)
            except Crash:
                pass
        act(canary)
        assert outcome(canary) == wanted, f"died before step {at}, {fuse.steps[-1]}"


def two_hours(canary: int, stable: int) -> Callable[[Canary], None]:
    def prepare(one: Canary) -> None:
        one.audited()
        one.start()
        for hour in (1, 2):
            one.hour(hour, canary=canary, stable=stable)

    return prepare


def test_a_start_that_broke_off_is_taken_up_again(make: Callable[[], Canary]) -> None:
    assert with_crashes(make, lambda _: None, lambda canary: canary.start()) == 5


def test_a_promotion_that_broke_off_is_taken_up_again(make: Callable[[], Canary]) -> None:
    assert with_crashes(make, two_hours(6, 3), lambda canary: canary.tick(2)) == 8


def test_a_rollback_that_broke_off_is_taken_up_again(make: Callable[[], Canary]) -> None:
    assert with_crashes(make, two_hours(2, 6), lambda canary: canary.tick(2)) == 7


def test_a_stop_that_broke_off_is_taken_up_again(make: Callable[[], Canary]) -> None:
    def begun(canary: Canary) -> None:
        canary.start()

    assert with_crashes(make, begun, lambda canary: canary.promotion.acts.stop(why="a try")) == 6


def test_a_promotion_that_broke_off_midway_and_is_then_stopped_goes_back_to_the_old_release(
    make: Callable[[], Canary],
) -> None:
    canary = make()
    two_hours(6, 3)(canary)
    with pytest.MonkeyPatch.context() as patch:
        fused(canary, patch, 2)  # deploy: stable has moved, the record has not
        with pytest.raises(Crash):
            canary.tick(2)
    assert canary.traffic()["stable"] == "demo-2"
    canary.promotion.acts.stop(why="enough")
    assert (canary.traffic(), canary.served()[0], canary.state()) == ({"stable": "demo-1"}, [1, 1], ("stopped", True))


def test_a_promotion_of_an_increment_that_broke_off_goes_back_to_what_was_stable_last(
    make: Callable[[], Canary],
) -> None:
    canary = make()
    rival = [of_line(canary, version, "rival") for version in (3, 5)]
    canary.candidate = rival[0]
    canary.audited(line="rival")
    canary.start()
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    canary.place.deploy(rival[1], label="canary")  # both lines go on incrementing
    canary.place.deploy(canary.place.candidate(4))
    with pytest.MonkeyPatch.context() as patch:
        fused(canary, patch, 4)  # the record begins, deploy: stable has moved, the record has not ended
        with pytest.raises(Crash):
            canary.tick(2)
    assert canary.traffic()["stable"] == "rival-5"
    one = canary.record().experiment
    assert one is not None and (one.state.runs, one.release, one.control_release) == (True, "rival-5", "demo-4")
    canary.promotion.acts.stop(why="enough")
    assert (canary.traffic(), canary.served()[0], canary.state()) == ({"stable": "demo-4"}, [4, 4], ("stopped", True))


def of_line(canary: Canary, version: int, line: str) -> Path:
    made = canary.place.candidate(version)
    write_manifest(made, msgspec.structs.replace(read_manifest(made), line=line))
    return made.rename(made.with_name(f"{line}-{version}"))
