"""Sums and histograms by group of people, and intervals from resampling the groups (a bootstrap by viewer, or by host).

Everybody belongs whole to one of 200 groups, so what one person does never counts as many independent facts, and memory does
not grow with the number of events.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.streams import number_of, stream, uniform

Floats = npt.NDArray[np.float64]
GROUPS, REPLICATES = 200, 1_000
FEWEST_PEOPLE = 20  # below that an interval from resampling says too little
FEWEST_BEYOND = 5  # values beyond a quantile, below which it gets no interval
LOWEST, STEP, BINS = 0.1, 0.02, 900  # log-spaced bins, 2 % wide, from 0.1 to 6.5 million seconds
BLOCK = 50  # replicates at a time where a row has a column a host
MIDDLES: Floats = LOWEST * np.exp((np.arange(BINS) + 0.5) * STEP)


class Groups:
    """Who belongs to which group: by a hash of the id, since the order of appearance would sort people by what they do."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def of(self, who: str) -> int:
        """The group of a person, 0 to 199."""
        if who not in self._of:
            self._of[who] = int(uniform(0, "group", number_of(who)) * GROUPS)
        return self._of[who]

    def __len__(self) -> int:
        """People."""
        return len(self._of)


def bin_of(value: float) -> int:
    """The histogram's bin of a value; what is below 0.1 goes to the first."""
    return min(int(math.log(max(value, LOWEST) / LOWEST) / STEP), BINS - 1)


class Book:
    """Named sums [groups] and named tables [groups, columns]; a table's columns grow as they are used."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._tables: dict[str, Floats] = {}

    def add(self, name: str, group: int, *, amount: float = 1.0) -> None:
        """Add to a group's sum."""
        if name not in self._sums:
            self._sums[name] = [0.0] * GROUPS
        self._sums[name][group] += amount

    def cell(self, name: str, group: int, *, column: int, amount: float = 1.0) -> None:
        """Add to a group's column."""
        table = self._tables.get(name)
        if table is None or column >= table.shape[1]:
            grown = np.zeros((GROUPS, max(column + 1, 2 * table.shape[1] if table is not None else 8)))
            if table is not None:
                grown[:, : table.shape[1]] = table
            self._tables[name] = table = grown
        table[group, column] += amount

    def spread(self, name: str, group: int, *, value: float) -> None:
        """Count a value (seconds, or any number) in a group's histogram."""
        if name not in self._tables:
            self._tables[name] = np.zeros((GROUPS, BINS))
        self._tables[name][group, bin_of(value)] += 1.0

    def sums(self, name: str) -> Floats:
        """Sums by group, [groups]; zeros when nothing was added."""
        return np.array(self._sums.get(name, [0.0] * GROUPS))

    def table(self, name: str, *, columns: int = 0) -> Floats:
        """A table, [groups, columns or more]; zeros where nothing was added."""
        found = self._tables.get(name, np.zeros((GROUPS, columns)))
        short = columns - found.shape[1]
        return np.pad(found, ((0, 0), (0, short))) if short > 0 else found


class Draw(NamedTuple):
    """A statistic of everything, then of each replicate, [1 + replicates], or NaN; `n` is what it rests on."""

    values: Floats
    n: int


class Estimate(NamedTuple):
    """A value with its 95 % interval; None where the log does not say."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Sample:
    """A book with its resampling weights, [1 + replicates, groups]: the first row counts everybody once."""

    def __init__(self, book: Book, people: int, *, seed: int) -> None:
        self.book, self.people = book, people
        self.weights = np.ones((1 + REPLICATES, GROUPS))
        self.weights[1:] = stream(seed, "calibration").multinomial(GROUPS, [1.0 / GROUPS] * GROUPS, size=REPLICATES)

    def total(self, name: str) -> Floats:
        """A sum, [1 + replicates]."""
        total: Floats = self.weights @ self.book.sums(name)
        return total

    def columns(self, name: str, *, columns: int) -> Floats:
        """A table's columns, [1 + replicates, columns]."""
        table: Floats = self.weights @ self.book.table(name, columns=columns)[:, :columns]
        return table

    def ratio(self, over: str, under: str, *, scale: float = 1.0) -> Draw:
        """One sum over another, times `scale`."""
        above, below = self.total(over), self.total(under)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(below > 0, scale * above / below, np.nan)
        return Draw(values, round(float(below[0])))

    def quantile(self, name: str, q: float) -> Draw:
        """The value at or below which a share `q` of a histogram lies (nearest rank, within 1 %)."""
        running = np.cumsum(self.columns(name, columns=BINS), axis=1)
        total = running[:, -1]
        at = np.argmax(running >= q * total[:, None], axis=1)
        values = np.where(total > 0, MIDDLES[at], np.nan)
        if min(q, 1.0 - q) * total[0] < FEWEST_BEYOND:
            values[1:] = np.nan
        return Draw(values, int(total[0]))

    def by_row(self, name: str, statistic: Callable[[Floats], Floats]) -> Draw:
        """A statistic, [rows, columns] to [rows], of a table's used columns; in blocks, so that wide tables fit."""
        table = self.book.table(name)
        table = table[:, table.sum(axis=0) > 0]
        parts = [statistic(self.weights[at : at + BLOCK] @ table) for at in range(0, len(self.weights), BLOCK)]
        return Draw(np.concatenate(parts), table.shape[1])

    def estimate(self, draw: Draw, *, cycle: float | None = None, ranked: bool = False) -> Estimate:
        """The value and the middle 95 % of the replicates.

        With `cycle` values go round (hours of the day). A `ranked` statistic looks for the largest, which resampling makes
        larger still: its interval is shifted to have its median at the value. Where none of n was seen, the interval goes
        up to 3 / n (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249(13), 1983).
        """
        value = float(draw.values[0])
        if not math.isfinite(value):
            return Estimate(None, n=draw.n)
        others = draw.values[1:][np.isfinite(draw.values[1:])]
        if self.people < FEWEST_PEOPLE or len(others) < 0.95 * REPLICATES:
            return Estimate(value, n=draw.n)
        if cycle is not None:
            others = value + (others - value + cycle / 2) % cycle - cycle / 2
        low, middle, high = np.quantile(others, [0.025, 0.5, 0.975])
        if ranked:
            low, high = low + value - middle, high + value - middle
        if value == high == 0.0:
            high = 3.0 / max(draw.n, 3)
        return Estimate(value, float(low), float(high), draw.n)


def zipf_exponent(sizes: Floats, *, most: int = 100) -> Floats:
    """Minus the slope of log size on log (rank - 1/2) over the largest (at most 100, at most half), [rows] of [rows, n].

    Ranks less a half as in Gabaix and Ibragimov, "Rank - 1/2", Journal of Business & Economic Statistics 29(1), 2011.
    """
    count = min(most, sizes.shape[1] // 2)
    if count < 5:
        return np.full(len(sizes), np.nan)
    largest = -np.sort(-sizes, axis=1)[:, :count]
    largest = np.log(np.where(largest > 0, largest, np.nan))
    ranks = np.log(np.arange(1, count + 1) - 0.5)
    ranks -= ranks.mean()
    slope: Floats = -(largest @ ranks) / float(ranks @ ranks)
    return slope


def top_share(sizes: Floats, *, share: float) -> Floats:
    """What the largest `share` of the columns (at least one) holds of each row's total, [rows] of [rows, n]."""
    total = sizes.sum(axis=1)
    count = max(round(share * sizes.shape[1]), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, -np.sort(-sizes, axis=1)[:, :count].sum(axis=1) / total, np.nan)


def power_of_place(clicks: Floats, shown: Floats) -> Floats:
    """Minus the slope of log click rate on log place (from 1), places weighted by clicks, [rows] of [rows, places]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where((clicks > 0) & (shown > 0), np.log(clicks / shown), 0.0)
    weight = np.where(shown > 0, clicks, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log(np.arange(1, clicks.shape[1] + 1))
        off = place - (weight * place).sum(axis=1, keepdims=True) / total
        slope: Floats = -(weight * off * rate).sum(axis=1) / (weight * off * off).sum(axis=1)
    return slope


def around_the_day(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Middle of the busiest three hours, middle of the quietest three, and their ratio, [rows] each of [rows, 24]."""
    three = counts + np.roll(counts, -1, axis=1) + np.roll(counts, -2, axis=1)
    most, least = three.max(axis=1), three.min(axis=1)
    ratio = np.where(least > 0, most / np.where(least > 0, least, 1.0), np.nan)
    known = most > 0
    peak, trough = (three.argmax(axis=1) + 1.5) % 24, (three.argmin(axis=1) + 1.5) % 24
    return np.where(known, peak, np.nan), np.where(known, trough, np.nan), ratio
