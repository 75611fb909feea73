"""How both models are fitted: in rounds, the number of steps chosen on the last tenth of training, then on all of it.

The data stay numpy columns in memory; tf.data shuffles row numbers and gathers batches, several times faster than slicing
row by row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from training.errors import Diverged
from training.layers import TwoSpeedModel, compiled
from training.progress import Report
from training.tf import seed_everything, tf

HELD_OUT = 0.1  # share of the training rows, the latest, that chooses the number of steps
VALIDATION_BATCH = 4096
Model = TypeVar("Model", bound=TwoSpeedModel)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Batch rows, most steps, steps between two looks at the held-out loss, and steps without a better one to stop at."""

    batch: int
    max_steps: int
    round_steps: int
    patience_steps: int

    def on(self, rows: int) -> "Schedule":
        """The schedule for that many rows: at least eight batches a pass, and a look every pass of ten steps or more.

        With 1,000 positives, batches of 126 reached a held-out retrieval loss of 4.75, batches of 512 only 4.82.
        """
        batch = min(self.batch, max(64, rows // 8))
        return replace(self, batch=batch, round_steps=min(self.round_steps, max(rows // batch, 10)))


@dataclass(frozen=True)
class Fitted(Generic[Model]):
    """A trained model, the steps it was trained for, and losses by round (training, held out while choosing)."""

    model: Model
    steps: int
    loss: Floats
    held_out_loss: Floats


def fit(
    make: Callable[[], Model], columns: Any, schedule: Schedule, *, seed: int, stage: str, report: Report
) -> Fitted[Model]:
    """Fit on columns (nested numpy arrays of equal length, in event-time order); the same seed gives the same model."""
    rows = len(tf.nest.flatten(columns)[0])
    earlier = rows - max(1, int(rows * HELD_OUT))
    train, held_out = _rows(columns, slice(0, earlier)), _rows(columns, slice(earlier, rows))
    schedule = schedule.on(rows)
    seed_everything(seed)
    steps, validation = _choose_steps(make(), train, held_out, schedule, seed=seed, stage=stage, report=report)
    # More rows need proportionally more steps for as many passes.
    steps = max(schedule.round_steps, math.ceil(steps * rows / earlier))
    seed_everything(seed)
    model, losses = make(), []
    batches = iter(_batches(columns, schedule.batch, seed=seed))
    step = compiled(model.train_step)
    for done in range(0, steps, schedule.round_steps):
        count = min(schedule.round_steps, steps - done)
        losses.append(_round(step, batches, count, stage=stage))
        report(stage, done + count, steps, f"loss {losses[-1]:.4f}")
    _refuse_nan(model, stage)
    return Fitted(model, steps, np.array(losses), validation)


def _choose_steps(
    model: TwoSpeedModel, train: Any, held_out: Any, schedule: Schedule, *, seed: int, stage: str, report: Report
) -> tuple[int, Floats]:
    """Steps with the lowest held-out loss, and that loss by round."""
    batches = iter(_batches(train, schedule.batch, seed=seed))
    step, measure = (
        compiled(model.train_step),
        compiled(model.compute_loss),
    )
    losses: list[float] = []
    for done in range(0, schedule.max_steps, schedule.round_steps):
        _round(step, batches, schedule.round_steps, stage=stage)
        losses.append(_mean_loss(measure, held_out))
        best = int(np.argmin(losses))
        report(
            f"{stage}: choosing steps",
            done + schedule.round_steps,
            schedule.max_steps,
            f"held-out loss {losses[-1]:.4f}",
        )
        if not math.isfinite(losses[-1]):
            raise Diverged(
                f"the held-out loss of the {stage} is {losses[-1]} after {done + schedule.round_steps} steps"
            )
        if (len(losses) - 1 - best) * schedule.round_steps >= schedule.patience_steps:
            break
    return (best + 1) * schedule.round_steps, np.array(losses)


def _round(step: Any, batches: Any, count: int, *, stage: str) -> float:
    """Mean training loss of `count` steps; Diverged when it is not a number."""
    total = tf.constant(0.0)
    for _ in range(count):
        total += step(next(batches))["loss"]
    loss = float(total) / count
    if not math.isfinite(loss):
        raise Diverged(
            f"the training loss of the {stage} became {loss}; lower its learning rates or look at its inputs"
        )
    return loss


def _mean_loss(measure: Any, columns: Any) -> float:
    rows = len(tf.nest.flatten(columns)[0])
    total = 0.0
    for start in range(0, rows, VALIDATION_BATCH):
        part = _rows(columns, slice(start, min(start + VALIDATION_BATCH, rows)))
        total += float(measure(tf.nest.map_structure(tf.constant, part))) * len(tf.nest.flatten(part)[0])
    return total / rows


def _batches(columns: Any, batch: int, *, seed: int) -> Any:
    """Endless shuffled batches; each pass leaves out the rows that do not fill one."""
    rows = len(tf.nest.flatten(columns)[0])
    held = tf.nest.map_structure(tf.constant, columns)
    numbers = tf.data.Dataset.range(rows).shuffle(rows, seed=seed).batch(min(batch, rows), drop_remainder=True).repeat()
    return numbers.map(lambda at: tf.nest.map_structure(lambda column: tf.gather(column, at), held)).prefetch(2)


def _rows(columns: Any, which: slice) -> Any:
    return tf.nest.map_structure(lambda column: column[which], columns)


def _refuse_nan(model: TwoSpeedModel, stage: str) -> None:
    for variable in model.variables:
        if not bool(tf.reduce_all(tf.math.is_finite(variable))):
            raise Diverged(f"weight {variable.name} of the {stage} is not finite after training")
