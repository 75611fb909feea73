"""The canary's twins: when they run, and every command in them is one that `livefeed` has."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

import cli


def test_the_canary_is_looked_at_every_hour_and_one_look_at_a_time(bag: Any) -> None:
    dag = bag.dags["livefeed_canary"]
    assert (dag.timetable.expression, dag.max_active_runs, dag.catchup) == ("7 * * * *", 1, False)


def test_the_audit_is_of_the_month_that_is_over(bag: Any) -> None:
    dag = bag.dags["livefeed_audit"]
    assert (dag.timetable.expression, dag.max_active_runs) == ("0 4 1 * *", 1)
    assert "--month {{ data_interval_start.strftime('%Y-%m') }}" in dag.tasks[0].bash_command


def test_every_command_is_one_of_livefeeds(bag: Any) -> None:
    """Parsed by the app itself: an unknown command or option raises."""
    app, seen = typer.main.get_command(cli.app), []
    for task in [one for name in ("livefeed_canary", "livefeed_audit") for one in bag.dags[name].tasks]:
        script = task.bash_command.replace("{{ data_interval_start.strftime('%Y-%m') }}", "2026-11")
        for line in [one for one in script.splitlines() if one.startswith("python ")]:
            command = line.removesuffix(" || exit 1").replace('"$@"', '--reranked "$scratch/again.parquet"')
            python, flag, module, group, name, *rest = shlex.split(command)
            assert (python, flag, module) == ("python", "-m", "cli")
            app.commands[group].commands[name].make_context(name, rest, resilient_parsing=False)  # type: ignore[attr-defined]
            seen.append(f"{group} {name}")
    assert seen == ["promotion decide", "training rerank", "monitoring audit"]


def the_audit(bag: Any) -> str:
    """The audit's script of November."""
    (task,) = bag.dags["livefeed_audit"].tasks
    return str(task.bash_command).replace("{{ data_interval_start.strftime('%Y-%m') }}", "2026-11")


@pytest.mark.parametrize(("written", "given"), [(True, ["--reranked"]), (False, [])])
def test_the_audit_is_given_the_reranked_requests_where_there_are_some_and_they_go(
    bag: Any, tmp_path: Path, written: bool, given: list[str]
) -> None:
    """Run by bash, with a python that notes what it is asked and writes the file or does not."""
    script = (
        bag.dags["livefeed_audit"]
        .tasks[0]
        .bash_command.replace("{{ data_interval_start.strftime('%Y-%m') }}", "2026-11")
    )
    fake = tmp_path / "python"
    touch = '[ "$4" = rerank ] && touch "${@: -1}"' if written else ":"
    fake.write_text(f'#!/bin/bash\necho "$@" >> "{tmp_path}/asked"\n{touch}\nexit 0\n')
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    subprocess.run(["bash", "-c", script], env=env, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[2:4] for line in asked] == [["training", "rerank"], ["monitoring", "audit"]]
    assert [word for word in asked[1].split() if word == "--reranked"] == given
    assert {one.name for one in tmp_path.iterdir()} == {"python", "asked"}


def test_a_reranking_that_fails_fails_the_task(bag: Any, tmp_path: Path) -> None:
    script = the_audit(bag)
    (tmp_path / "python").write_text('#!/bin/bash\n[ "$4" = audit ]\n')
    (tmp_path / "python").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    assert subprocess.run(["bash", "-c", script], env=env, check=False).returncode == 1
