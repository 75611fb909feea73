"""What trends, by row of the item table."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from serving.item_columns import Rows
from serving.item_rows import UNKNOWN


@dataclass(frozen=True)
class Trend:
    """A trending list by row, best first; rows that hold nothing are UNKNOWN."""

    rows: Rows
    scores: npt.NDArray[np.float64]

    @cached_property
    def _order(self) -> Rows:
        return np.argsort(self.rows, kind="stable")

    def of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The score of each row; NaN for those that do not trend."""
        if not len(self.rows):
            return np.full(len(rows), np.nan)
        ordered = self.rows[self._order]
        at = np.minimum(np.searchsorted(ordered, rows), len(ordered) - 1)
        return np.where((ordered[at] == rows) & (rows != UNKNOWN), self.scores[self._order][at], np.nan)

    @property
    def top(self) -> float:
        """The best score; 1 where nothing trends."""
        return float(self.scores.max(initial=0.0)) or 1.0


NO_TREND = Trend(np.zeros(0, np.intp), np.zeros(0))
