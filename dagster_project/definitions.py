"""The code location: `dagster dev -m dagster_project.definitions`, or the Dagster part of the stack."""

import dagster as dg

from dagster_project.assets.audit import bias_audit
from dagster_project.assets.canary import canary_decision, canary_looks, promotion
from dagster_project.assets.events import events_stored
from dagster_project.assets.features import feature_tables, samples, samples_corrected
from dagster_project.assets.models import candidate, verdict
from dagster_project.assets.monitoring import drift_report
from dagster_project.assets.releases import deployment, registered_release
from dagster_project.assets.skew import skew_report
from dagster_project.assets.upkeep import erased_people, tidy_tables
from dagster_project.checks import CHECKS
from dagster_project.jobs import (
    audit,
    automation,
    canary,
    canary_due,
    every_15_minutes,
    every_hour,
    every_month,
    every_night,
    learn,
    upkeep,
)
from dagster_project.resources import Platform

defs = dg.Definitions(
    assets=[
        events_stored,
        feature_tables,
        samples,
        samples_corrected,
        skew_report,
        candidate,
        verdict,
        drift_report,
        registered_release,
        deployment,
        erased_people,
        tidy_tables,
        canary_looks,
        canary_decision,
        promotion,
        bias_audit,
    ],
    asset_checks=list(CHECKS),
    jobs=[learn, upkeep, canary, audit],
    schedules=[every_15_minutes, every_night, every_hour, every_month],
    sensors=[automation, canary_due],
    resources={"platform": Platform()},
    # One process a run: a process a step would start Spark and import TensorFlow again and again on two cores.
    executor=dg.in_process_executor,
)
