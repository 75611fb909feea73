"""Who may come under a label: stable's own line, a promoted one, whoever says why; a running canary keeps its label."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.clock import SetClock
from registry.errors import NotPassed
from registry.experiment import Experiment, Experiments, Record, State
from registry.manifest import read_manifest, write_manifest
from registry.verdict import Outcome, Reason, Verdict, read_verdict, write_verdict
from release.deploy import deploy, rollback
from release.errors import Barred
from release.guard import Guard, barred, taken
from release.variant import make_variant
from tests.registry.test_experiment import experiment
from tests.release.place import PASS, Place

ALONE = "it comes to stable by a promotion alone"


def guarded(place: Place, *, back: bool = False, **more: Any) -> Guard:
    return Guard(releases=place.releases, clock=SetClock(50.0), who="ada", back=back, **more)


def of_line(place: Place, version: int, line: str) -> Path:
    made = place.candidate(version)
    write_manifest(made, msgspec.structs.replace(read_manifest(made), line=line))
    return made.rename(made.with_name(f"{line}-{version}"))


def ran(place: Place, *those: Experiment) -> None:
    """Write experiments into the history, one after the other."""
    store = Experiments(place.releases)
    for one in those:
        store.change(
            lambda old, one=one: msgspec.structs.replace(old, experiment=one), who="x", at=1.0, what="x", why="x"
        )  # type: ignore[misc]


RIVAL = {"id": "rival-2", "line": "rival", "release": "rival-2", "control_line": "demo", "control_release": "demo-1"}


@pytest.mark.parametrize(
    ("line", "control", "state", "stable", "bars"),
    [
        ("new", "old", State.CANARY, "old-1", {"new", "third"}),  # the champion's line goes on incrementing
        ("new", "old", State.ROLLED_BACK, "old-1", {"new", "third"}),
        ("new", "old", State.PROMOTED, "new-2", {"old", "third"}),  # who was stable before does not come back by itself
        ("new", "old", State.PROMOTED, "old-3", {"new", "third"}),  # nor does what was promoted once
        ("new", "new", State.CANARY, "new-1", {"new", "old", "third"}),  # a canary of the same line needs a stable one
        ("new", "new", State.ROLLED_BACK, "new-1", {"old", "third"}),
        ("new", "old", State.ROLLED_BACK, "", {"new"}),  # nothing is live yet
    ],
)
def test_which_lines_may_be_deployed_as_stable(
    line: str, control: str, state: State, stable: str, bars: set[str]
) -> None:
    one = experiment(line=line, control_line=control, state=state)
    assert {name for name in ("new", "old", "third") if barred([one], stable, line=name)} == bars


def test_without_experiments_only_stables_own_line_increments_and_the_first_deployment_is_free() -> None:
    assert barred([], "", line="demo") == ""
    assert barred([], "demo-7", line="demo") == ""
    assert barred([], "demo-7", line="x") == f"line x is not the line of demo-7, which is stable: {ALONE}"


def test_every_experiment_counts_and_not_the_last_alone() -> None:
    rolled, after = experiment(**RIVAL, state=State.ROLLED_BACK), experiment(state=State.PROMOTED)
    assert barred([rolled, after], "new-2", line="rival", back=True) == f"line rival is rolled_back in rival-2: {ALONE}"
    promoted = experiment(**RIVAL, state=State.PROMOTED)
    assert barred([promoted, after], "new-2", line="rival", back=True) == ""


def test_a_canary_of_stables_own_line_that_was_rolled_back_does_not_come_by_its_name() -> None:
    one = experiment(line="demo", control_line="demo", release="demo-2", state=State.STOPPED)
    assert barred([one], "demo-1", line="demo", release="demo-2") == f"demo-2 is stopped in new-2: {ALONE}"
    assert barred([one], "demo-1", line="demo", release="demo-3") == ""


def test_while_a_canary_runs_only_its_own_line_takes_its_label() -> None:
    runs, same = experiment(), experiment(line="old", release="old-2")
    assert [bool(taken([runs], release=name)) for name in ("new-2", "new-9", "old-3")] == [False, False, True]
    assert [bool(taken([same], release=name)) for name in ("old-2", "old-3")] == [False, True]
    assert taken([runs], release="x-1") == "new-2 is canary, and its canary is new-2"
    assert taken([experiment(state=State.STOPPED)], release="x-1") == ""


def test_the_usual_flow_is_not_in_the_way(place: Place) -> None:
    for version in (1, 2, 3):
        deploy(place.candidate(version), PASS, registry=place.registry, may=guarded(place), **place.ends())
    rollback("demo-2", registry=place.registry, may=guarded(place, back=True), **place.ends())
    assert place.live() == "demo-2"
    assert Experiments(place.releases).history() == []


@pytest.mark.parametrize("state", [State.CANARY, State.ROLLED_BACK, State.STOPPED])
def test_a_canary_that_was_not_promoted_comes_to_stable_neither_by_deployment_nor_by_roll_back(
    place: Place, state: State
) -> None:
    place.deploy(place.candidate(1))
    rival = of_line(place, 2, "rival")
    place.deploy(rival, label="canary")
    ran(place, experiment(**RIVAL, state=state))
    said = rf"^rival-2 is not put under stable: line rival is {state} in rival-2: {ALONE}; a reason given with --why"
    with pytest.raises(Barred, match=said):
        deploy(rival, PASS, registry=place.registry, may=guarded(place), **place.ends())
    with pytest.raises(Barred, match=said):
        rollback("rival-2", registry=place.registry, may=guarded(place, back=True), **place.ends())
    assert place.live() == "demo-1"


def test_a_reason_overrides_and_is_in_the_history_before_anything_moves(place: Place) -> None:
    place.deploy(place.candidate(1))
    rival = of_line(place, 2, "rival")
    ran(place, experiment(**RIVAL, state=State.STOPPED))
    place.server.broken = [2]
    with pytest.raises(Exception, match="no graph in it"):
        deploy(rival, PASS, registry=place.registry, may=guarded(place, why="an order"), **place.ends())
    last = Experiments(place.releases).history()[-1]
    assert (last.who, last.at, last.why) == ("ada", 50.0, "an order")
    assert last.what == f"rival-2 put under stable by hand, against: line rival is stopped in rival-2: {ALONE}"
    assert last.record == Experiments(place.releases).read()


def test_a_deployment_by_hand_does_not_take_a_running_canarys_label(place: Place) -> None:
    place.deploy(place.candidate(1))
    place.deploy(of_line(place, 2, "rival"), label="canary")
    ran(place, experiment(**RIVAL))
    with pytest.raises(
        Barred, match=r"^other-3 is not put under canary: rival-2 is canary, and its canary is rival-2;"
    ):
        deploy(
            of_line(place, 3, "other"), PASS, registry=place.registry, label="canary", may=guarded(place, label="canary"),
            **place.ends(),
        )  # fmt: skip
    assert place.live("canary") == "rival-2"
    deploy(
        of_line(place, 4, "rival"), PASS, registry=place.registry, label="canary", may=guarded(place, label="canary"),
        **place.ends(),
    )  # fmt: skip
    assert place.live("canary") == "rival-4"


@pytest.fixture
def variant(place: Place) -> Callable[[Verdict], Path]:
    """A variant of demo-1, which is stable and was judged so."""

    def made(verdict: Verdict) -> Path:
        candidate = place.candidate(1)
        write_verdict(candidate, verdict)
        place.deploy(candidate)
        return make_variant(place.releases / "demo-1", line="likes", formula={"like": 5.0}, into=place.folder / "made")

    return made


def test_a_variant_has_a_verdict_on_its_models_and_none_on_its_formula(
    place: Place, variant: Callable[[Verdict], Path]
) -> None:
    made = variant(PASS)
    verdict = read_verdict(made)
    assert (verdict.outcome, verdict.reasons, verdict.evidence) == (Outcome.PASS, (Reason.MODELS_PASSED,), ())
    with pytest.raises(
        NotPassed, match=r"^likes-1 is not deployed as stable: its models passed, and its formula needs"
    ):
        place.deploy(made, verdict)
    place.deploy(made, verdict, label="canary")
    assert (place.live(), place.live("canary")) == ("demo-1", "likes-1")


def test_a_variant_of_what_did_not_pass_has_no_verdict(variant: Callable[[Verdict], Path]) -> None:
    made = variant(Verdict(outcome=Outcome.UNDECIDED, reasons=(Reason.NO_DATA,)))
    assert not (made / "verdict.json").exists()


def test_a_variant_under_the_line_of_stable_is_not_rolled_back_to_unless_it_was_promoted(
    place: Place, variant: Callable[[Verdict], Path]
) -> None:
    made = variant(PASS)
    place.deploy(made, read_verdict(made), label="canary")
    place.rollback("likes-1")
    back = guarded(place, back=True)
    with pytest.raises(Barred, match="the models of likes-1 passed, its formula was never judged"):
        rollback("likes-1", registry=place.registry, may=back, **place.ends())
    ran(place, experiment(**(RIVAL | {"line": "likes", "release": "likes-1"}), state=State.PROMOTED))
    rollback("likes-1", registry=place.registry, may=back, **place.ends())
    assert place.live() == "likes-1"


def test_a_note_leaves_the_record_as_it_is(tmp_path: Path) -> None:
    store = Experiments(tmp_path)
    store.note(who="ada", at=1.0, what="said", why="so")
    assert (store.read(), [one.what for one in store.history()], store.every()) == (Record(), ["said"], [])
