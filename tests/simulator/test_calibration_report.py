"""The calibration report as a user meets it: what a null world must give, the record, the page and the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from events import schema as s
from events.clock import utc
from events.topics import encode
from simulator import BadDial, report_commands
from simulator.calibration import Calibration, calibrate, read_record, tape_of, write_record
from simulator.calibration_figures import FIGURES
from simulator.calibration_log import Tape
from simulator.errors import WorldError
from simulator.report_page import PAGE, between, said, to_html, write_page
from simulator.worlds import named

DAY = 86_400.0
START = 1_793_577_600.0  # 2026-11-02 00:00 UTC
SMALL: dict[str, Any] = {"viewers": 60, "hosts": 40, "creators": 10, "items": 60, "sessions_per_day": 6.0}


@pytest.fixture(scope="module")
def null() -> Calibration:
    """Three days of a null world, every page at random."""
    config = replace(named("null"), **(SMALL | {"viewers": 400}))
    return calibrate(config, name="null", hours=72.0, warm_up_h=6.0, policy="random")


def test_in_the_null_world_every_place_is_looked_at_nothing_is_late_and_no_host_is_new(null: Calibration) -> None:
    found = {one.key: one for one in null.figures}
    place = found["place"]
    assert place.low is not None and place.high is not None
    assert place.low < 0.0 < place.high < 0.3
    assert found["follow_after"].value == pytest.approx(1.0, rel=0.011)
    assert [found[key].value for key in ("late", "disordered", "duplicates", "lost_beats", "new_hosts")] == [0.0] * 5


def test_the_same_seed_gives_the_same_json_and_page_and_another_seed_others(tmp_path: Path) -> None:
    config = replace(named("live-first"), **SMALL)
    records = [calibrate(replace(config, seed=seed), name="live-first", hours=6.0, warm_up_h=1.0) for seed in (7, 7, 8)]
    written = [write_record(one, tmp_path / str(number)).read_bytes() for number, one in enumerate(records)]
    assert written[0] == written[1] != written[2]
    assert to_html(records[0]) == to_html(records[1])


def test_the_page_has_every_row_and_every_plot_and_needs_nothing_beside_it(null: Calibration) -> None:
    page = to_html(null)
    assert [row.key for row in FIGURES if f"<tr id='{row.key}'" not in page] == []
    assert [plot.title for plot in null.plots if plot.lines and f"alt='{plot.title}'" not in page] == []
    assert all(plot.lines for plot in null.plots)
    assert "http" not in page.replace("https://", "http://").replace("http://www.w3.org", "")


def test_the_record_is_read_back_as_written_and_another_version_is_refused(null: Calibration, tmp_path: Path) -> None:
    path = write_record(null, tmp_path)
    assert read_record(tmp_path) == null
    path.write_bytes(msgspec.json.encode(json.loads(path.read_bytes()) | {"version": 99}))
    with pytest.raises(WorldError, match="has version 99; this program reads version 1"):
        read_record(tmp_path)


def test_the_faults_of_a_rough_road_are_seen_in_its_log() -> None:
    config = replace(
        named("rough-road"), **(SMALL | {"viewers": 600, "hosts": 100}), duplicate_share=0.05, lost_heartbeat_share=0.1
    )
    found = {one.key: one for one in calibrate(config, name="rough-road", hours=24.0, warm_up_h=0.0).figures}
    for key, share in (("duplicates", 0.05 / 1.05), ("lost_beats", 0.1), ("lost_room_beats", 0.1)):
        one = found[key]
        assert one.low is not None and one.high is not None
        assert one.low < share < one.high, key


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--world", "atlantis"], "world 'atlantis' is not known; allowed are demo, live-first"),
        (["--hours", "0"], "world dial hours=0.0 is not allowed; give a number above 0"),
        (["--warm-up", "-1"], "world dial warm_up=-1.0 is not allowed; give a number from 0"),
        (["--policy", "magic"], "policy 'magic' is not known; allowed are random, popularity, repeat, oracle"),
        (["--random-pages", "2"], "random_feed_share=2.0 is not allowed; give a number from 0 to 1"),
        (["--dial", "viewers=0"], "world dial viewers=0 is not allowed; give a number from 1"),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    report_commands.mount(app)
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("livefeed: ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_both_files_and_shows_the_verdicts(tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    report_commands.mount(app)
    dials = [word for name, value in SMALL.items() for word in ("--dial", f"{name}={value}")]
    done = CliRunner().invoke(
        app, ["report", "--hours", "3", "--warm-up", "1", "--out", str(tmp_path / "deep" / "er"), *dials]
    )
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "deep" / "er").iterdir()} == {"report.json", PAGE}
    assert "against what others published:" in done.stdout


def test_a_folder_that_is_a_file_is_one_sentence(null: Calibration, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(WorldError, match=r"the report cannot be written to .*taken"):
        write_record(null, tmp_path / "taken")
    with pytest.raises(WorldError, match=r"the report cannot be written to .*taken"):
        write_page(null, tmp_path / "taken")


def test_values_are_said_for_people() -> None:
    assert [said(0.0123, "share"), said(7_300.0, "s"), said(25.5, "hour"), said(None, "s")] == [
        "1.23 %",
        "2.03 h",
        "01:30",
        "none",
    ]
    assert between(0.2, 0.3, "share") == "20 to 30 %"
    assert between(90.0, 360.0, "s") == "90 s to 6 min"


def test_the_tape_takes_every_event_of_the_schema() -> None:
    tape, _ = tape_of(since=START, until=START + DAY)
    assert isinstance(tape, Tape)
    event = s.SubscriptionToCreator(event_id="x", event_at=utc(START), user_id="ann", creator_id="c")
    tape.send(event)
    assert tape.kinds == {"subscription_to_creator": 1}
    assert encode(event)


def test_hours_above_half_a_year_are_refused() -> None:
    with pytest.raises(BadDial, match="at most 4392"):
        calibrate(named("demo"), name="demo", hours=5_000.0)
