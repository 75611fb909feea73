"""The learning loop for teams that live in Airflow: feature tables, samples, training, verdict, deployment, every 15 minutes.

Every task is one command of a room, run from the project's folder with the settings of its LIVEFEED_ variables. A verdict
that is not a pass ends the judge's command with status 1, and nothing is deployed.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable

ROOT = Path(__file__).resolve().parent.parent
# A label may come a day after its impression: the day before is built again.
DAYS = "--from {{ macros.ds_add(data_interval_start | ds, -1) }} --to {{ data_interval_start | ds }}"
CANDIDATE = "{{ ti.xcom_pull(task_ids='train') }}"  # the last line that training prints is the candidate's folder

with DAG(
    dag_id="livefeed_learn",
    description="Events that are stored, to a release in traffic.",
    schedule=CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retry_delay": timedelta(minutes=1), "cwd": str(ROOT), "append_env": True},
    tags=["livefeed"],
    doc_md=__doc__,
):

    def command(task_id: str, line: str, *, minutes: int, retries: int = 1) -> BashOperator:
        """One command of ours as a task that may take so many minutes."""
        return BashOperator(
            task_id=task_id,
            bash_command=f"python -m {line}",
            execution_timeout=timedelta(minutes=minutes),
            retries=retries,
        )

    stored = command("events_stored", "collector status --wait", minutes=10)
    tables = command("feature_tables", f"features tables {DAYS}", minutes=30)
    samples = command("samples", f"features samples {DAYS}", minutes=30)
    train = command("train", "training train", minutes=60)
    judge = command("judge", f"monitoring judge {CANDIDATE}", minutes=10, retries=0)  # it would say the same again
    deploy = command("deploy", f"release deploy {CANDIDATE}", minutes=10)

    stored >> [tables, samples]
    samples >> train >> judge >> deploy
