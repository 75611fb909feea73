"""Dials outside their range are refused in one sentence that names dial, value and range; the commands pass it on."""

from datetime import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from simulator import BadDial, WorldConfig
from simulator.__main__ import app


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"viewers": 0}, "world dial viewers=0 is not allowed; give a number from 1 to 1000000"),
        ({"hosts": 0}, "world dial hosts=0 is not allowed; give a number from 1 to 100000"),
        ({"items": 0}, "world dial items=0 is not allowed; give a number from 1 to 1000000"),
        ({"duplicate_share": 1.5}, "world dial duplicate_share=1.5 is not allowed; give a number from 0 to 1"),
        ({"late_share": -0.1}, "world dial late_share=-0.1 is not allowed; give a number from 0 to 1"),
        ({"broken_share": float("nan")}, "world dial broken_share=nan is not allowed; give a number from 0 to 1"),
        ({"viewers": 2.5}, "world dial viewers=2.5 is not allowed; give a whole number"),
        ({"start_at": datetime(2026, 11, 2)}, "has no time zone; give an aware UTC time"),  # noqa: DTZ001
    ],
)
def test_a_bad_dial_is_refused(dials: dict[str, Any], message: str) -> None:
    with pytest.raises(BadDial) as refused:
        WorldConfig(**dials)
    assert message in str(refused.value)


def test_the_command_says_a_bad_dial_in_one_sentence_and_exits_1() -> None:
    done = CliRunner().invoke(app, ["run", "--dry-run", "--duplicates", "2"])
    assert done.exit_code == 1
    assert done.stderr == "livefeed: world dial duplicate_share=2.0 is not allowed; give a number from 0 to 1\n"


def test_a_dry_run_counts_without_any_part() -> None:
    done = CliRunner().invoke(
        app, ["run", "--dry-run", "--hours", "6", "--viewers", "20", "--hosts", "5", "--items", "50"]
    )
    assert done.exit_code == 0, done.output
    table = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert int(table["messages to profiles"]) == 20 + 5 + 120
    assert int(table["feed requests"]) > 0
    assert table["feed errors"] == "0"


def test_without_a_broker_the_command_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from events import kafka
    from events.errors import LogUnavailable

    def absent(bootstrap: str) -> None:
        raise LogUnavailable(f"the event log at {bootstrap} did not answer within 30 s")

    monkeypatch.setattr(kafka, "KafkaWriter", absent)
    done = CliRunner().invoke(app, ["run", "--hours", "1"])
    assert done.exit_code == 1
    assert done.stderr.startswith("livefeed: the event log at 127.0.0.1:")
    assert "Traceback" not in done.output
