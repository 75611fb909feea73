"""Plots of an evaluation as Markdown with the picture inside, so that they lie in Dagster's own storage."""

import base64
import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from registry.evaluation import Evaluation, Floats, RankingRows

BINS = 10


def loss_curves(curves: Mapping[str, Floats]) -> str:
    """Loss by round of steps, a panel a curve, since their scales differ."""
    figure = Figure(figsize=(4 * max(len(curves), 1), 3), layout="constrained")
    for place, (name, values) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, len(curves), place)
        axes.plot(np.arange(1, len(values) + 1), values, marker="o", markersize=3)
        axes.set(title=name, xlabel="round", ylabel="loss")
    return _markdown(figure, "loss by round")


def calibration(ranking: Mapping[str, RankingRows]) -> str:
    """Share of positives against predicted probability, in bins of equally many impressions."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, rows in ranking.items():
        predicted, seen = reliability(rows)
        axes.plot(predicted, seen, marker="o", markersize=3, label=name)
    axes.set(xlabel="predicted", ylabel="seen", title="calibration on the test period")
    axes.legend()
    return _markdown(figure, "calibration")


def roc(ranking: Mapping[str, RankingRows]) -> str:
    """ROC curves of the ranker (solid) and of its baseline (dotted)."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, rows) in enumerate(ranking.items()):
        for scores, style in ((rows.score, "-"), (rows.baseline, ":")):
            label = name if style == "-" else None
            axes.plot(*roc_points(rows, scores), linestyle=style, color=f"C{place}", label=label)
    axes.set(xlabel="false positives", ylabel="true positives", title="ranker (solid), baseline (dotted)")
    axes.legend()
    return _markdown(figure, "ROC")


def reliability(rows: RankingRows) -> tuple[Floats, Floats]:
    """Mean probability and share of positives by bin, [bins] each."""
    order = np.argsort(rows.score, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    predicted = np.array([rows.score[part].mean() for part in bins], np.float64)
    return predicted, np.array([np.asarray(rows.y)[part].mean() for part in bins], np.float64)


def roc_points(rows: RankingRows, scores: Floats, *, points: int = 200) -> tuple[Floats, Floats]:
    """False and true positive rates at evenly spaced cuts of the ranked rows, [points + 1] each, from (0, 0) to (1, 1)."""
    y = (np.asarray(rows.y) > 0)[np.argsort(-np.asarray(scores), kind="stable")]
    cuts = np.linspace(0, len(y), points + 1).astype(int)
    true, false = np.r_[0, np.cumsum(y)][cuts], np.r_[0, np.cumsum(~y)][cuts]
    return false / max(int(false[-1]), 1), true / max(int(true[-1]), 1)


def of_evaluation(evaluation: Evaluation) -> dict[str, str]:
    """All plots there is data for, by name."""
    out = {}
    if evaluation.curves:
        out["plot: loss"] = loss_curves(evaluation.curves)
    if evaluation.ranking:
        out["plot: calibration"] = calibration(evaluation.ranking)
        out["plot: ROC"] = roc(evaluation.ranking)
    return out


def _markdown(figure: Figure, title: str) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"
