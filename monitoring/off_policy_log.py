"""What the log says of its explored places, and with what odds a policy would have shown what stood there.

    odds = probabilities(pool, by_merit, shown=[item], epsilon=0.2)      # by merit 0.8, each of the pool 0.2 / n
    LoggedPlaces(viewer=..., request=..., reward=..., propensity=..., target=..., incumbent=..., support=...)

One row an explored place: a place of a page where something might have been drawn, whether or not it was. The target is the
candidate, choosing by its own merits among what might have stood there while the rest of the page stays as it was shown:
so its choice is always one that the log could have shown, and a better order of the same items is not mistaken for a loss.
docs/guides/off-policy.md says what an impression must carry for these columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from monitoring.errors import BadPlaces

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def probabilities(
    pool: Sequence[Any] | npt.NDArray[Any], by_merit: Any, *, shown: Sequence[Any] | npt.NDArray[Any], epsilon: float
) -> Floats:
    """With what probability an arranging shows each of `shown` at one place: (1 - epsilon)[by merit] + epsilon / n [in pool].

    `pool` are the n different items of the place's own share; an empty one means that nothing is drawn there. BadPlaces for
    an epsilon outside [0, 1] or a pool that names an item twice.
    """
    drawable = set(pool)
    if not 0 <= epsilon <= 1:
        raise BadPlaces(f"epsilon={epsilon} is not allowed; give a number from 0 to 1")
    if len(drawable) != len(pool):
        raise BadPlaces(f"a pool of {len(pool)} names only {len(drawable)} different items; each may be named once")
    draw = epsilon if drawable else 0.0
    each = draw / max(len(drawable), 1)
    return np.array([(1.0 - draw) * (item == by_merit) + each * (item in drawable) for item in shown], np.float64)


@dataclass(frozen=True)
class Support:
    """What the logged pools say beyond the odds of the shown item; arrays [places]."""

    choices: Ints  # how many different items might have stood there: the pool's and the one by merit
    drawn: Flags  # whether what was shown came from the pool
    covered: Floats  # 0..1, probability of the target on these choices; 1 where it chooses among them
    incumbent_covered: Floats  # likewise of the incumbent
    rank: Floats | None = (
        None  # of a draw (row in the pool, best first, + 0.5) / n, in (0, 1); anything where not drawn
    )


@dataclass(frozen=True)
class Predicted:
    """A reward model's expectations; arrays [places]. No place's own viewer may have taught the model that speaks of it."""

    shown: Floats  # of what was shown
    target: Floats  # over the place's choices, as the target would show them
    incumbent: Floats  # likewise as the incumbent would


@dataclass(frozen=True)
class LoggedPlaces:
    """Explored places; arrays [places]. BadPlaces when their lengths differ."""

    viewer: npt.NDArray[Any]  # whoever's rows depend on each other
    request: npt.NDArray[Any]
    reward: Floats  # e.g. 1 for a click, 0 for none
    propensity: Floats  # logged probability of what was shown; NaN where there is none
    target: Floats  # probability under the candidate's policy of what was shown
    incumbent: Floats  # likewise under the incumbent's; equals the propensity where the incumbent is what logged
    support: Support | None = None  # None where pools were not logged
    predicted: Predicted | None = None

    def __post_init__(self) -> None:
        """Check the lengths."""
        parts = [("", self), ("support.", self.support), ("predicted.", self.predicted)]
        columns = {
            prefix + one.name: len(column)
            for prefix, part in parts
            if part is not None
            for one in fields(part)
            if isinstance(column := getattr(part, one.name), np.ndarray)
        }
        if len(set(columns.values())) != 1:
            raise BadPlaces(f"columns have {columns} rows; all must have as many as there are places")

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def cluster(self) -> Ints:
        """Number of each place's viewer, from 0, [places]."""
        return np.unique(self.viewer, return_inverse=True)[1].astype(np.int64)

    @property
    def viewers(self) -> int:
        """How many different viewers there are."""
        return int(self.cluster.max(initial=-1)) + 1

    def by_viewer(self, values: Floats) -> Floats:
        """Sums of a column by viewer, [viewers]."""
        return np.bincount(self.cluster, weights=values, minlength=self.viewers).astype(np.float64)

    def where(self, kept: Flags | Ints) -> "LoggedPlaces":
        """Only those places, by flags or by number."""
        return cast(LoggedPlaces, _cut(self, kept))


def _cut(part: Any, kept: Flags | Ints) -> Any:
    """A value with every column cut, and every part of it likewise."""
    columns = {one.name: getattr(part, one.name) for one in fields(part)}
    return replace(part, **{
        name: value[kept] if isinstance(value, np.ndarray) else _cut(value, kept)
        for name, value in columns.items() if value is not None
    })  # fmt: skip
