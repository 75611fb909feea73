"""Canaries for teams that live in Airflow: a look at the running canary every hour, a bias audit every month.

Every task runs commands from the project's folder with the settings of its LIVEFEED_ variables. A canary that is held
ends `promotion decide` with status 1, an audit that does not pass ends `monitoring audit` with it: somebody is told.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, CronTriggerTimetable

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {"retry_delay": timedelta(minutes=5), "retries": 1, "cwd": str(ROOT), "append_env": True}
MONTH = "{{ data_interval_start.strftime('%Y-%m') }}"
# The file names viewers, so it goes whatever happens. There is none where no candidate is waiting; the audit uses it only
# where the line's own traffic met too few.
AUDIT = f"""
scratch="$(mktemp -d)" && trap 'rm -rf "$scratch"' EXIT || exit 1
python -m cli training rerank --month {MONTH} --out "$scratch/again.parquet" || exit 1
[ -e "$scratch/again.parquet" ] && set -- --reranked "$scratch/again.parquet"
python -m cli monitoring audit --month {MONTH} --out "${{LIVEFEED_VAR:-var}}/audits" "$@"
"""

with DAG(
    dag_id="livefeed_canary",
    description="The running canary: look, decide, act.",
    schedule=CronTriggerTimetable("7 * * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULTS, "execution_timeout": timedelta(minutes=30)},
    tags=["livefeed"],
    doc_md=__doc__,
):
    BashOperator(task_id="decide", bash_command="python -m cli promotion decide")

with DAG(
    dag_id="livefeed_audit",
    description="The bias audit of the month that is over.",
    schedule=CronDataIntervalTimetable("0 4 1 * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULTS, "execution_timeout": timedelta(hours=2)},
    tags=["livefeed"],
    doc_md=__doc__,
):
    BashOperator(task_id="audit", bash_command=AUDIT)
