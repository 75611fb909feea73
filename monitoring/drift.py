"""Do the ranker's inputs still look as they did in training? An Evidently report over two sets of logged snapshots.

Numbers by the population stability index, with the Kolmogorov-Smirnov test beside it, words by the Jensen-Shannon distance;
ids are left out, since new viewers and new items are no drift.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct

from features.encoder import DEFAULT_CONFIG, EncoderConfig
from monitoring.errors import NothingToCompare

Row = Mapping[str, Any]
IDS = frozenset({"user.user_id", "item.item_key", "item.creator_id"})
METHODS = {"number": "psi", "word": "jensenshannon"}
KS = "ks"
THRESHOLD = 0.1  # the usual first alarm of both measures
MAX_ROWS = 20_000  # a side; more changes no score and makes the page slow
NOTHING = "(none)"


class FeatureDrift(Struct, frozen=True, kw_only=True):
    """One feature: distance between the two sides and whether it reaches the threshold; None when a side has no value.

    `ks_p` is the p-value of the Kolmogorov-Smirnov test (numbers only); it decides nothing: with many rows any shift is
    significant.
    """

    name: str
    method: str
    score: float | None
    drifted: bool | None
    ks_p: float | None = None


class DriftReport(Struct, frozen=True, kw_only=True):
    """Every feature, worst first, and the share of the comparable ones that drifted (None when none is comparable)."""

    features: tuple[FeatureDrift, ...]
    share: float | None
    threshold: float
    reference_rows: int
    current_rows: int
    page: str

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)


def compared_features(config: EncoderConfig = DEFAULT_CONFIG) -> dict[str, str]:
    """The ranker's number and word features by name, with their kind."""
    numbers = {name: "number" for features in config.numbers.values() for name in features}
    return numbers | {name: "word" for name in config.words.values() if name not in IDS}


def drift_report(
    reference: Sequence[Row], current: Sequence[Row], out: Path, *, config: EncoderConfig = DEFAULT_CONFIG
) -> DriftReport:
    """Compare snapshot rows, write the HTML page to `out` and return the figures; NothingToCompare without rows."""
    for side, rows in (("reference", reference), ("current", current)):
        if not rows:
            raise NothingToCompare(f"the {side} side of the drift report has no rows; build more samples first")
    kinds = compared_features(config)
    before, now = to_frame(reference, kinds), to_frame(current, kinds)
    usable = {name: kind for name, kind in kinds.items() if before[name].notna().any() and now[name].notna().any()}
    scores, ks = _evidently(before[list(usable)], now[list(usable)], usable, out=out) if usable else ({}, {})
    features = tuple(
        FeatureDrift(
            name=name,
            method=METHODS[kind],
            score=scores.get(name),
            drifted=scores[name] >= THRESHOLD if name in scores else None,
            ks_p=ks.get(name),
        )
        for name, kind in kinds.items()
    )
    known = [feature.drifted for feature in features if feature.drifted is not None]
    return DriftReport(
        features=tuple(sorted(features, key=lambda feature: -(feature.score or 0.0))),
        share=sum(known) / len(known) if known else None,
        threshold=THRESHOLD,
        reference_rows=len(before),
        current_rows=len(now),
        page=str(out),
    )


def to_frame(rows: Sequence[Row], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Snapshots as columns, evenly thinned to MAX_ROWS: numbers float (missing NaN), words text (missing its own word)."""
    kept = [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).astype(int)]
    columns: dict[str, Any] = {}
    for name, kind in kinds.items():
        values = [row.get(name) for row in kept]
        if kind == "number":
            columns[name] = np.array([np.nan if value is None else float(value) for value in values], np.float64)
        else:
            columns[name] = [NOTHING if value is None else str(value) for value in values]
    return pd.DataFrame(columns)


Scores = dict[str, float]


def _evidently(
    before: pd.DataFrame, now: pd.DataFrame, kinds: Mapping[str, str], *, out: Path
) -> tuple[Scores, Scores]:
    """Run Evidently: its score by column, and the Kolmogorov-Smirnov p-value by numeric column."""
    from evidently import DataDefinition, Dataset, Report  # 10 s of imports, so only when a report is asked for
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    numbers = [name for name, kind in kinds.items() if kind == "number"]
    words = [name for name, kind in kinds.items() if kind == "word"]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)
    preset = DataDriftPreset(
        columns=list(kinds), num_method=METHODS["number"], cat_method=METHODS["word"],
        num_threshold=THRESHOLD, cat_threshold=THRESHOLD,
    )  # fmt: skip
    tests = [ValueDrift(column=name, method=KS) for name in numbers]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant feature has no correlation; its drift is defined
        snapshot = Report([preset, *tests]).run(
            Dataset.from_pandas(now, data_definition=definition),
            Dataset.from_pandas(before, data_definition=definition),
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save_html(str(out))
        found = snapshot.dict()["metrics"]
    said = {(one["config"].get("column"), one["config"].get("method")): one["value"] for one in found}
    scores = {name: float(said[name, METHODS[kind]]) for name, kind in kinds.items()}
    return scores, {name: float(said[name, KS]) for name in numbers}
