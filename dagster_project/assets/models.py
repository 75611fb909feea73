"""Group models: the candidate (both models, trained and exported once) and the gate's verdict on it."""

from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from dagster_project import plots
from dagster_project.assets.features import samples
from dagster_project.assets.skew import skew_report
from dagster_project.metadata import evidence_table, plain
from dagster_project.resources import Platform, steps_to
from events.clock import WallClock, utc
from features.history import store_as_of
from features.offline_tables import versions_now
from features.training_input import TRAINED_ON, read_samples
from monitoring.gate import judge_offline
from registry.evaluation import Evaluation
from registry.line_formula import formula_of
from registry.manifest import Manifest
from registry.verdict import Verdict, write_verdict


class Training(dg.Config):
    """What a run may set for training and judging."""

    seed: int = 1


@dataclass(frozen=True)
class Candidate:
    """A trained, not yet published release: its folder and what it pins."""

    folder: Path
    manifest: Manifest


@dg.asset(deps=[samples, skew_report], group_name="models", kinds={"tensorflow"})
def candidate(
    context: dg.AssetExecutionContext, platform: Platform, config: Training
) -> dg.MaterializeResult[Candidate]:
    """Two-tower and ranker trained on the first four fifths of the samples, measured on the last, exported."""
    from training.pipeline import train_candidate  # TensorFlow: the web server and the daemon load this module too

    platform.stop_spark()
    settings, registry = platform.settings, platform.registry
    version = registry.next_version(settings.line)
    folder = settings.var / "candidates" / f"{settings.line}-{version}"
    tables = versions_now(settings.lake, tables=TRAINED_ON)  # first, then everything is read at them
    manifest = train_candidate(
        read_samples(settings.lake, version=tables.get("samples")), store_as_of(settings.lake, versions=tables), folder,
        line=settings.line, version=version, seed=config.seed, report=steps_to(context), tables=tables,
        formula=formula_of(settings.releases, settings.line),
    )  # fmt: skip
    evaluation = Evaluation.load(folder)
    pictures = {name: dg.MetadataValue.md(text) for name, text in plots.of_evaluation(evaluation).items()}
    figures = {"folder": dg.MetadataValue.path(folder), "version": version, **plain(evaluation.figures())}
    return dg.MaterializeResult(value=Candidate(folder, manifest), metadata=figures | pictures)


@dg.asset(group_name="models", kinds={"numpy"})
def verdict(candidate: Candidate, config: Training) -> dg.MaterializeResult[Verdict]:
    """Pass, fail or undecided, from intervals over viewers."""
    evaluation = Evaluation.load(candidate.folder)
    judged = judge_offline(evaluation, seed=config.seed, decided_at=utc(WallClock().now()).isoformat())
    write_verdict(candidate.folder, judged)
    return dg.MaterializeResult(
        value=judged,
        metadata={
            "outcome": str(judged.outcome),
            "reasons": ", ".join(judged.reasons),
            "evidence": evidence_table(judged),
        },
    )
