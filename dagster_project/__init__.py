"""Shell of lineage: the pipeline from stored events to a deployed release as one Dagster asset graph."""

import warnings

# Dagster says so at every load; ranges of days in one Spark job need it, and the version is pinned.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")
