"""The demo's own rules: wrong input is said before anything starts, foreign folders are safe, accounts must agree."""

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from settings import Settings
from simulator.report import WorldReport
from stack.demo.command import MARK, start_afresh
from stack.demo.run import DemoFailed, _insist, demo_settings
from stack.demo.source import Played
from stack.demo.stored import Ledger

RUN = CliRunner()
GOOD = {"items": [{"item_id": "m1"}], "degraded": []}


def played(**report: object) -> Played:
    return Played(date(2026, 11, 1), date(2026, 11, 2), 0.0, 10, ["u"], WorldReport(**report))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "netflix"], "unknown data set 'netflix'; allowed are movielens, kuairand"),
        (["--dataset", "movielens"], "the data set movielens needs --path"),
        (["--dataset", "movielens", "--path", "/no/such/folder"], "/no/such/folder is not a folder"),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], says: str) -> None:
    done = RUN.invoke(app, ["demo", *arguments])
    assert done.exit_code == 1
    assert says in done.output
    assert "Traceback" not in done.output


def test_a_folder_that_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DemoFailed, match="was not made by the demo"):
        start_afresh(Settings(var=tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_earlier_demos_folder_is_emptied(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "demo")
    start_afresh(settings)
    (settings.var / "old").mkdir()
    start_afresh(settings)
    assert [path.name for path in settings.var.iterdir()] == [MARK]


def test_each_data_set_has_a_folder_and_partitions_of_its_own(tmp_path: Path) -> None:
    settings = demo_settings(Settings(var=tmp_path), "movielens")
    assert (settings.var, settings.clock) == (tmp_path / "movielens", "request")
    assert settings.partitions_start <= date(1997, 9, 20)
    assert settings.partitions_end is not None
    assert settings.partitions_end > date(1998, 4, 22)


def test_accounts_that_do_not_agree_fail_the_demo() -> None:
    agree = Ledger(produced=100, stored=93, duplicates=5, late=1, dead_letters=2, impressions=40)
    _insist(agree, played(), played(), GOOD)
    lost = Ledger(produced=100, stored=92, duplicates=5, late=1, dead_letters=2, impressions=40)
    with pytest.raises(DemoFailed, match="92 events are stored and 93 should be"):
        _insist(lost, played(), played(), GOOD)


def test_a_failed_request_or_a_degraded_last_feed_fails_the_demo() -> None:
    agree = Ledger(produced=1, stored=1, duplicates=0, late=0, dead_letters=0, impressions=0)
    with pytest.raises(DemoFailed, match="1 feed requests failed, the first with: no answer"):
        _insist(agree, played(feed_errors=1, first_error="no answer"), played(), GOOD)
    with pytest.raises(DemoFailed, match="degraded by"):
        _insist(agree, played(), played(), GOOD | {"degraded": ["model_unavailable"]})
