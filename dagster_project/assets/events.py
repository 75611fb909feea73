"""Group events: the offline tables hold everything that is in the log."""

from dataclasses import asdict

import dagster as dg

from collector.lag import wait_until_stored
from dagster_project.metadata import plain
from dagster_project.resources import Platform, counts_to
from dagster_project.stored import stored_figures
from events.dead_letters import read_dead_letters

WAIT_S = 600.0


@dg.asset(group_name="events", kinds={"kafka", "deltalake"})
def events_stored(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """What the collector has stored, once it has caught up with the log as it was when asked."""
    bootstrap, tables = platform.settings.kafka, platform.tables
    wait_until_stored(bootstrap, tables, timeout_s=WAIT_S, report=counts_to(context, "messages stored"))
    figures = stored_figures(tables, read_dead_letters(bootstrap))
    return dg.MaterializeResult(metadata={"dagster/row_count": figures.rows, **plain(asdict(figures))})
