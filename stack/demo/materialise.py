"""`python -m stack.demo.materialise JOB [--only ASSET]`: run one job of the asset graph in this process, once.

What the daemon does when a schedule is due, for a demonstration that has no daemon: the same job, the same instance that the
web page shows; exit 1 with the sentence of what failed.
"""

import json
import os
import sys
import uuid
from datetime import datetime
from typing import Annotated, Any

import typer

from settings import load

DAY = ["%Y-%m-%d"]


def materialise(
    job: Annotated[str, typer.Argument(help="Name of a job of the asset graph.")],
    first: Annotated[datetime | None, typer.Option("--from", formats=DAY, help="First event date.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=DAY, help="Last event date, included.")] = None,
    partition: Annotated[str, typer.Option(help="One partition, such as the first day of a month.")] = "",
    only: Annotated[str, typer.Option(help="One asset of the job.")] = "",
    config: Annotated[str, typer.Option(help="Configuration of the assets as JSON, by name.")] = "{}",
) -> None:
    """Run the job and say what its assets reported."""
    home = load().var / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    from dagster import AssetKey, DagsterInstance

    from dagster_project.definitions import defs
    from dagster_project.jobs import range_tags
    from dagster_project.run import QUIET, learned

    tags = range_tags(f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}") if first and last else {}
    more: dict[str, Any] = {"partition_key": partition} if partition else {}
    more |= {"asset_selection": [AssetKey(only)]} if only else {}
    ops = {"ops": {name: {"config": one} for name, one in json.loads(config).items()}}
    run_id = str(uuid.uuid4())
    with DagsterInstance.get() as instance:
        found = defs.resolve_job_def(job).execute_in_process(
            run_config=QUIET | ops, instance=instance, run_id=run_id, tags=tags, raise_on_error=False, **more
        )
    done = learned(run_id, found.all_events)
    for name, seconds in done.seconds.items():
        print(f"{name}: {seconds:.1f} s", flush=True)
    if not done.succeeded:
        print(done.failure, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(materialise)
