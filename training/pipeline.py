"""The main path of training: samples in, a candidate folder out (models, index, neighbours, encoder, arrays, manifest)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from events.clock import Clock, WallClock, utc
from features.packing import PACKING
from features.store import OnlineStore
from features.user_tower import USER_TOWER
from registry.evaluation import Evaluation, Floats
from registry.formula import parse
from registry.manifest import DEFAULT_FORMULA, Manifest, checksums, write_manifest
from training.catalogue import catalogue_of
from training.data import Prepared, SampleColumns, prepare
from training.dials import Plain, as_dials, require
from training.errors import SeenInTraining
from training.evaluate import evaluate
from training.export import Offer, export_candidate, scorers_of
from training.factors import FactorsConfig
from training.fit import Fitted
from training.interactions import HistoryConfig
from training.neighbours import NeighboursConfig, write_neighbours
from training.progress import Report, silent
from training.ranking import Ranker, RankerConfig, train_ranker
from training.shelf import shelf_of
from training.two_tower import TwoTower, TwoTowerConfig, train_two_tower

TRAINED_UNTIL = "trained_until"  # in the manifest's dials of the run: event time of the newest sample a weight has seen


@dataclass(frozen=True)
class TrainingConfig:
    """All dials of one candidate; saved whole in its manifest."""

    two_tower: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    train_share: float = 0.8  # of the samples by event time; the rest is the test period
    history: HistoryConfig = field(default_factory=HistoryConfig)
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    factors: FactorsConfig = field(default_factory=FactorsConfig)

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        require(self, positive=("train_share",), shares=("train_share",))


@dataclass(frozen=True)
class Trained:
    """Both models of a candidate."""

    two_tower: Fitted[TwoTower]
    ranker: Fitted[Ranker]


def train_candidate(
    samples: SampleColumns,
    store: OnlineStore,
    out: Path,
    *,
    line: str,
    version: int,
    seed: int = 1,
    config: TrainingConfig | None = None,
    report: Report = silent,
    tables: Mapping[str, int] | None = None,
    clock: Clock | None = None,
    formula: Mapping[str, Any] | None = None,
) -> Manifest:
    """Train both models on the first four fifths by time, measure them on the last, and write the folder `out`.

    `formula` is the line's own (registry.line_formula), None for the usual one; BadFormula where it does not fit what there
    is to learn.
    `samples` are sorted by event time; `store` says what the catalogue is (the index covers every shown media item);
    `tables` are the offline tables' versions. What is exported is what was measured: the models of the training period.
    TrainingError when there is too little, a loss is not a number, or the export does not answer as the trained model.
    """
    config, clock = config or TrainingConfig(), clock or WallClock()
    data = prepare(samples, train_share=config.train_share, report=report)
    formula = _formula(formula, data.objectives)
    catalogue = catalogue_of(store, samples)
    trained = Trained(
        train_two_tower(data, config.two_tower, seed=seed, report=report),
        train_ranker(data, config.ranker, seed=seed, report=report),
    )
    two_tower, ranker = trained.two_tower.model, trained.ranker.model
    evaluation = evaluate(data, catalogue, scorers_of(two_tower, ranker), curves=_curves(trained), report=report)
    report("export", 0, 1, f"writing {out}")
    out.mkdir(parents=True, exist_ok=True)
    indexed = export_candidate(
        out, data, catalogue, two_tower=two_tower, ranker=ranker, offer=_offer(store, samples, data, formula),
        report=report,
    )  # fmt: skip
    served = [path for path in (out / PACKING, out / USER_TOWER) if path.exists()]
    recall = write_neighbours(
        out, samples, data, catalogue.keys[catalogue.shown], config=config.neighbours, history=config.history,
        factors=config.factors, seed=seed,
    )  # fmt: skip
    evaluation.save(out)
    manifest = Manifest(
        line=line, version=version, created_at=utc(clock.now()).isoformat(), objectives=data.objectives,
        formula=formula, tables=dict(tables or {}),
        metrics=_metrics(evaluation, data, indexed), dials=_dials(config, trained, data, seed=seed),
        data_until=utc(float(samples.event_at[-1])).isoformat(), artefacts=checksums(out, [*recall, *served]),
    )  # fmt: skip
    write_manifest(out, manifest)
    report("export", 1, 1, f"{indexed} items in the index")
    return manifest


def _formula(given: Mapping[str, Any] | None, objectives: Sequence[str]) -> dict[str, Any]:
    """The release's formula as its manifest has it: what is given if it fits the objectives, else the usual one."""
    if given is None:
        return {name: DEFAULT_FORMULA[name] for name in objectives}
    parse(given, objectives)
    return dict(given)


def _offer(store: OnlineStore, samples: SampleColumns, data: Prepared, formula: Mapping[str, Any]) -> Offer:
    """What the exported `recommend` knows: items and live rooms as of the newest event, in event time.

    It weighs objectives as a plain sum does; a formula of another kind is the proxy's alone, and `recommend` takes the usual.
    """
    now = max(store.watermark() or 0.0, float(samples.event_at[-1]))
    score = parse(formula, data.objectives)
    plain = score.kind == "sum" and all(term.power == 1.0 for term in score.terms)
    own = {term.objective: term.number for term in score.terms}
    weights = [own.get(name, 0.0) if plain else DEFAULT_FORMULA[name] for name in data.objectives]
    return Offer(shelf_of(store, now=now), weights, samples.features[-1])


def refuse_seen(manifest: Manifest, data: Prepared) -> None:
    """SeenInTraining unless the test period begins after everything the candidate was trained on."""
    begins = utc(float(data.event_at[data.test[0]]))
    trained_until = manifest.dials["run"][TRAINED_UNTIL]
    if begins <= datetime.fromisoformat(str(trained_until)):
        raise SeenInTraining(
            f"{manifest.name} was trained on samples up to {trained_until}; "
            f"it cannot be measured on a test period that begins at {begins.isoformat()}"
        )


def _curves(trained: Trained) -> dict[str, Floats]:
    """Loss by round of both models; `held_out` while the number of steps was chosen."""
    pairs = (("two_tower", trained.two_tower), ("ranker", trained.ranker))
    out = {f"{name}.loss": fitted.loss for name, fitted in pairs}
    return out | {f"{name}.held_out_loss": fitted.held_out_loss for name, fitted in pairs}


def _metrics(evaluation: Evaluation, data: Prepared, indexed: int) -> dict[str, float]:
    counts = {"train_samples": len(data.train), "test_samples": len(data.test), "index_items": indexed}
    return evaluation.measured() | {name: float(count) for name, count in counts.items()}


def _dials(config: TrainingConfig, trained: Trained, data: Prepared, *, seed: int) -> dict[str, dict[str, Plain]]:
    """Every dial, and what training itself settled."""
    run: dict[str, Plain] = {
        "seed": seed, "train_share": config.train_share, "two_tower_steps": trained.two_tower.steps,
        "ranker_steps": trained.ranker.steps, TRAINED_UNTIL: utc(float(data.event_at[data.train[-1]])).isoformat(),
    }  # fmt: skip
    parts = ("two_tower", "ranker", "history", "neighbours", "factors")
    return {name: as_dials(getattr(config, name)) for name in parts} | {"run": run}
