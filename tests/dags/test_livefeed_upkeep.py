"""The nightly twin: its order, and every command in it is one that `livefeed` has."""

import shlex
from typing import Any

import pytest
import typer

import cli


@pytest.fixture(scope="module")
def dag(bag: Any) -> Any:
    return bag.dags["livefeed_upkeep"]


def test_people_are_forgotten_before_files_are_joined_and_dropped(dag: Any) -> None:
    arrows = {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}
    assert arrows == {("forget", "compact"), ("compact", "expire"), ("expire", "vacuum")}
    assert dag.timetable.expression == "0 3 * * *" and dag.max_active_runs == 1 and not dag.catchup


def test_every_command_is_one_of_livefeeds(dag: Any) -> None:
    """Parsed by the app itself: an unknown command or option raises."""
    app = typer.main.get_command(cli.app)
    for task in dag.tasks:
        python, flag, module, group, name, *rest = shlex.split(task.bash_command)
        assert (python, flag, module) == ("python", "-m", "cli")
        command = app.commands[group].commands[name]  # type: ignore[attr-defined]
        command.make_context(name, rest, resilient_parsing=False)
