"""`livefeed promotion`: plain tables, one sentence for what goes wrong, and a whole canary by hand."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from registry.verdict import write_verdict
from release import promotion_parts
from release.promotion_commands import app
from tests.monitoring.shadow_stories import FAR, click, told
from tests.release.canaries import CONFIG, Canary
from tests.release.evenings import shown
from tests.release.place import PASS


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """The platform behind the commands; its clock follows --now."""
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    made = Canary(tmp_path)

    def open_promotion(*_: Any, clock: Any, **__: Any) -> Any:
        if clock is not None:
            made.clock.set(clock.now())
        return made.promotion

    monkeypatch.setattr(promotion_parts, "open_promotion", open_promotion)
    write_verdict(made.candidate, PASS)
    return made


def run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))


def start(canary: Canary, *words: str) -> Result:
    dials = canary.place.folder / "dials.json"
    dials.write_bytes(msgspec.json.encode({
        "planned": CONFIG.planned, "segments": [], "settle_s": 0,
        "gate": {"use_cuped": False, "check_fading": False, "min_events": 20, "day_hours": 1, "margin": 0.3},
    }))  # fmt: skip
    return run(
        "start", str(canary.candidate), "--why", "a try", "--share", "0.5", "--baseline", "0", "--ramp-hours", "0", "--hours",
        "2", "--max-hours", "4", "--mde", "0.3", "--min-viewers", "20", "--dials", str(dials), *words,
    )  # fmt: skip


def test_a_canary_by_hand_from_start_to_promotion(canary: Canary) -> None:
    canary.audited()
    begun = start(canary)
    assert (begun.exit_code, begun.stdout.splitlines()[-1]) == (
        0, "demo-2-20261101T180000 is canary: canary 50.0% (canary), stable 50.0% (stable)",
    )  # fmt: skip
    for hour in (1, 2):
        canary.hour(hour, canary=6, stable=3)
    later = ("--now", "2026-11-01T22:00:00")
    tried = run("decide", "--dry-run", *later)
    assert "promote" in tried.stdout and canary.traffic()["stable"] == "demo-1"
    done = run("decide", *later)
    assert done.exit_code == 0, done.stderr
    assert "beats_baseline" in done.stdout and canary.traffic() == {"stable": "demo-2"}
    shown = run("status").stdout
    assert "promoted (labels have followed)" in shown and "hour 2: promote, beats_baseline" in shown
    assert Path(shown.splitlines()[-1].removeprefix("page: ")).exists()
    changes = [json.loads(line) for line in run("history", "--json").stdout.splitlines()]
    assert [change["what"].split(": ")[1] for change in changes] == [
        "demo-2 began as canary", "promoted", "labels have followed",
    ]  # fmt: skip
    assert "promoted" in run("history").stdout
    assert run("revert", "--why", "complaints").exit_code == 0
    assert canary.traffic() == {"stable": "demo-1"}


def test_a_held_canary_is_said_and_ends_with_status_1(canary: Canary) -> None:
    canary.start()
    held = run("decide", "--now", "2026-11-01T21:00:00")
    assert held.exit_code == 1
    assert "hold" in held.stdout and "there is no table 'impressions'" in held.stdout


def test_without_anything_due_decide_says_so(canary: Canary) -> None:
    assert run("decide").stdout == "nothing was due\n"
    assert "none" in run("status").stdout


def test_stop_resume_and_pin(canary: Canary) -> None:
    canary.start()
    assert "demo-2-20261101T180000 is stopped" in run("stop", "--why", "enough").stdout
    assert canary.record().killed and canary.traffic() == {"stable": "demo-1"}
    assert run("resume", "--why", "again").exit_code == 0
    assert run("pin", "stable", "--why", "a fair").exit_code == 0
    assert canary.record().pin == "stable"
    assert run("pin", "--off", "--why", "over").exit_code == 0
    assert canary.record().pin == ""


def test_a_formula_gets_a_candidate_of_its_own(canary: Canary) -> None:
    words = ("variant", "demo-1", "--line", "demo-likes", "--formula", '{"click": 1, "like": 4}')
    assert run(*words).stdout == f"{canary.place.folder}/candidates/demo-likes-1\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pin", "--why", "x"), "give either a label or --off"),
        (("pin", "beta", "--why", "x"), "label 'beta' is not in traffic; allowed are stable"),
        (("revert", "--why", "x"), "nothing was promoted last; livefeed release rollback puts any release back"),
        (("variant", "demo-1", "--line", "x", "--formula", "no"), "--formula cannot be read: "),
        (("variant", "demo-1", "--line", "x", "--formula", "3"), "--formula is no JSON object"),
        (("start", "nowhere", "--why", "x"), "verdict "),
    ],
)
def test_what_goes_wrong_is_one_sentence(canary: Canary, words: tuple[str, ...], sentence: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence) and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--share", "1.5"), "shares canary 1.5, baseline 0.0"),
        (("--share", "nan"), "shares canary nan, baseline 0.0"),
        (
            ("--mde", "nan"),
            "the dials are not allowed: mde nan of a canary's gate is not allowed: above 0 and at most 1",
        ),
        (
            ("--min-viewers", "0"),
            "the dials are not allowed: min_viewers 0 of a canary's gate is not allowed: a number, at",
        ),
        (("--off-policy", "nowhere.json"), "the off-policy verdict nowhere.json cannot be read: "),
    ],
)
def test_values_that_are_not_allowed_are_one_sentence(canary: Canary, words: tuple[str, ...], sentence: str) -> None:
    refused(canary, start(canary, *words), sentence)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"rampp_hours": 2}, "'rampp_hours' is no dial of the dials in {file}; allowed are share, baseline, "),
        ({"gate": {"mdee": 0.1}}, "'mdee' is no dial of gate of the dials in {file}; allowed are hours, day_hours, "),
        ({"off_policy": {"leve": 0.1}}, "'leve' is no dial of off_policy of the dials in {file}; allowed are level, "),
        ({"gate": 3}, "gate 3 of the dials in {file} is not allowed: an object of dials by name"),
        ({"gate": {"hours": "two"}}, "the dials are not allowed: Expected `int`, got `str` - at `$.gate.hours`"),
        ({"gate": {"margin": 1.5}}, "the dials are not allowed: margin 1.5 of a canary's gate is not allowed: above 0"),
        ({"answered_share": 5}, "answered_share 5.0 of a promotion is not allowed: 0 to 1"),
        (
            {"segments": ["mood"]},
            "segments ('mood',) of a promotion are not allowed: any of language, age_band, gender",
        ),
        ({"planned": {"ctr": 0}}, "planned variances {'ctr': 0"),
        ([], "{file} is no JSON object"),
    ],
)
def test_dials_that_do_not_exist_are_refused(canary: Canary, body: Any, sentence: str) -> None:
    file = canary.place.folder / "more.json"
    file.write_bytes(msgspec.json.encode(body))
    refused(
        canary,
        run("start", str(canary.candidate), "--why", "x", "--dials", str(file)),
        sentence.replace("{file}", str(file)),
    )


def test_a_file_of_dials_that_is_not_there_is_one_sentence(canary: Canary) -> None:
    said = run("start", str(canary.candidate), "--why", "x", "--dials", "missing.json")
    refused(canary, said, "missing.json cannot be read: ")


def refused(canary: Canary, said: Result, sentence: str) -> None:
    assert (said.exit_code, canary.record().experiment) == (1, None)
    assert said.stderr.startswith(sentence) and said.stderr.count("\n") == 1


def test_what_the_log_says_of_a_release_in_shadow_is_a_plain_table_and_json(canary: Canary) -> None:
    assert run("off-policy").stderr == "there is no experiment\n"
    assert start(canary, "--shadow-hours", "2").exit_code == 0
    assert "not yet: livefeed promotion off-policy" in run("status").stdout
    late = shown("late", "late", "i", 8_200)  # what came before has all its answers
    canary.evening.store([click("nobody", "none", 0), *told(FAR, candidate=1).events, late])
    early = run("off-policy", "--now", "2026-11-01T19:30:00")
    assert early.exit_code == 0, early.stderr
    assert "clearly_worse" in early.stdout and "3200, of which demo-2 chose at 3200" in early.stdout
    done = run("decide", "--now", "2026-11-01T20:20:00")
    assert (done.exit_code, canary.state()) == (0, ("rolled_back", True)), done.stderr
    assert "the log speaks against demo-2: click is -" in run("status").stdout
    record = json.loads(run("off-policy", "--json").stdout)
    assert (record["verdict"]["outcome"], record["read"]["scored"]) == ("fail", 3_200)


def test_a_canary_that_was_never_in_shadow_has_nothing_to_show(canary: Canary) -> None:
    canary.start()
    assert run("off-policy").stderr == "demo-2-20261101T180000 is canary and was never in shadow\n"
