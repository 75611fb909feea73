"""The Airflow twin: it loads, its arrows are the pipeline's, and every command in it is one that the rooms have."""

import ast
import importlib
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
DAG = "livefeed_learn"
# What Airflow fills in, for a run of 2026-11-10 00:15.
RENDERED = {
    "data_interval_start | ds": "2026-11-10",
    "ti.xcom_pull(task_ids='train')": "var/candidates/demo-1",
    "macros.ds_add(data_interval_start | ds, -1)": "2026-11-09",
}


@pytest.fixture(scope="module")
def dag(bag: Any) -> Any:
    return bag.dags[DAG]


def words_of(command: str) -> list[str]:
    """A task's command as the shell sees it, templates rendered by hand."""
    for template, value in RENDERED.items():
        command = command.replace("{{ " + template + " }}", value)
    assert "{{" not in command
    return shlex.split(command)


def test_it_imports_nothing_of_ours() -> None:
    ours = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | {"settings", "cli"}
    for file in (ROOT / "dags").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & ours


def test_the_arrows_are_the_pipelines(dag: Any) -> None:
    arrows = {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}
    assert arrows == {
        ("events_stored", "feature_tables"),
        ("events_stored", "samples"),
        ("samples", "train"),
        ("train", "judge"),
        ("judge", "deploy"),
    }


def test_it_runs_every_15_minutes_over_data_intervals_one_at_a_time(dag: Any) -> None:
    assert type(dag.timetable).__name__ == "CronDataIntervalTimetable"
    assert dag.timetable.expression == "*/15 * * * *"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.doc_md


def test_every_command_is_one_that_the_rooms_have_with_its_options(dag: Any) -> None:
    """Parsed by the room's own typer app: an unknown command, option or a missing argument raises."""
    for task in dag.tasks:
        python, flag, room, name, *rest = words_of(task.bash_command)
        assert (python, flag) == ("python", "-m")
        group = typer.main.get_command(importlib.import_module(f"{room}.__main__").app)
        assert isinstance(group, click.Group) or hasattr(group, "commands"), room
        command = group.commands[name]  # type: ignore[union-attr]
        command.make_context(name, rest, resilient_parsing=False)


def test_judge_and_deploy_get_the_folder_that_training_prints_last(dag: Any) -> None:
    """A task's last line of standard output is what Airflow keeps as its result."""
    assert dag.get_task("train").do_xcom_push
    for name in ("judge", "deploy"):
        assert words_of(dag.get_task(name).bash_command)[-1] == "var/candidates/demo-1"
    from training.__main__ import train

    assert "its folder is the last line printed" in (train.__doc__ or "")


def test_a_refused_candidate_is_not_judged_again(dag: Any) -> None:
    assert dag.get_task("judge").retries == 0
    assert dag.get_task("samples").retries == 1
