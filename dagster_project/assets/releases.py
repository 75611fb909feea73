"""Group releases: the candidate in the registry, and, when the gate passes it, in traffic."""

import dagster as dg

from dagster_project.assets.models import Candidate
from dagster_project.metadata import plain
from dagster_project.resources import Platform, logs_to
from events.clock import WallClock
from registry.evaluation import Evaluation
from registry.verdict import Verdict
from release.deploy import deploy
from release.guard import Guard
from serving.tf_serving import TfServing


@dg.asset(group_name="releases", kinds={"mlflow"})
def registered_release(candidate: Candidate, platform: Platform) -> dg.MaterializeResult[str]:
    """The candidate's run, artifacts and model versions in MLflow, whatever the gate says."""
    figures = Evaluation.load(candidate.folder).measured()
    run_id = platform.registry.register(candidate.folder, candidate.manifest, figures)
    return dg.MaterializeResult(value=run_id, metadata={"mlflow_run": run_id, **plain(figures)})


@dg.asset(group_name="releases", kinds={"tensorflow"})
def deployment(
    context: dg.AssetExecutionContext,
    platform: Platform,
    candidate: Candidate,
    verdict: Verdict,
    registered_release: str,
) -> dg.MaterializeResult[str]:
    """The release in traffic: published, loaded by the model server, answering, pointed at, the line's champion."""
    settings = platform.settings
    guard = Guard(releases=settings.releases, clock=WallClock(), who="dagster")  # a promotion may have come meanwhile
    name = deploy(
        candidate.folder, verdict, releases=settings.releases, models=settings.models, may=guard,
        server=TfServing(settings.model_server), registry=platform.registry, report=logs_to(context),
    )  # fmt: skip
    return dg.MaterializeResult(
        value=name,
        metadata={"release": name, "version": candidate.manifest.version, "mlflow_run": registered_release},
    )
