"""The nightly upkeep for teams that live in Airflow: erasures, then files joined, old days and unused files dropped.

Every task is one command, run from the project's folder with the settings of its LIVEFEED_ variables.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronTriggerTimetable

ROOT = Path(__file__).resolve().parent.parent

with DAG(
    dag_id="livefeed_upkeep",
    description="Erasures, compaction, retention and vacuum of the offline tables.",
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retry_delay": timedelta(minutes=5), "retries": 2, "execution_timeout": timedelta(hours=1), "cwd": str(ROOT),
        "append_env": True,
    },
    tags=["livefeed"],
    doc_md=__doc__,
):  # fmt: skip
    forget = BashOperator(task_id="forget", bash_command="python -m cli events forget --pending")
    compact = BashOperator(task_id="compact", bash_command="python -m cli features compact")
    expire = BashOperator(task_id="expire", bash_command="python -m cli features expire")
    vacuum = BashOperator(task_id="vacuum", bash_command="python -m cli features vacuum")

    forget >> compact >> expire >> vacuum
