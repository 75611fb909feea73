"""Three outcomes for many ratios at once: proved below the line, proved above it, or neither. Pure floats.

A ratio is judged by Fieller's pivot, so that a group with no click at all can still be proved below: its logarithm could not
be taken. Bounds are those of Holm's steps: a cell is proved exactly when its bound lies on the other side of the line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from monitoring.lift import holm
from monitoring.stats import Floats, Moments, RatioSums
from registry.verdict import Outcome

NORMAL = NormalDist()


@dataclass(frozen=True)
class Ratio:
    """`top` / `bottom`, two estimates with their variances and covariance."""

    top: float
    bottom: float
    top_variance: float
    bottom_variance: float
    covariance: float = 0.0

    @property
    def estimate(self) -> float:
        """The ratio; NaN when nothing can be divided."""
        return self.top / self.bottom if self.bottom else math.nan

    def z(self, line: float) -> float:
        """Standard score of the ratio against `line`: infinite where nothing varies, NaN where that says nothing.

        Fieller, "Some Problems in Interval Estimation", JRSS B 16 (1954): top - line * bottom is a difference of means.
        """
        variance = self.top_variance - 2 * line * self.covariance + line**2 * self.bottom_variance
        return _score(self.top - line * self.bottom, math.sqrt(max(variance, 0.0)))  # rounding may push nothing below 0

    def bound(self, z: float) -> float:
        """The line whose score is -z: an upper bound for z > 0, a lower one for z < 0; NaN when unbounded.

        Fieller (1954): the root of (top - r bottom)^2 = z^2 (var top - 2 r cov + r^2 var bottom).
        """
        if self.top_variance == self.bottom_variance == 0:
            return self.estimate
        lead = self.bottom**2 - z * z * self.bottom_variance
        middle = self.top * self.bottom - z * z * self.covariance
        inside = middle**2 - lead * (self.top**2 - z * z * self.top_variance)
        if -1e-12 * middle**2 < inside < 0:
            inside = 0.0  # rounding, where hardly anything varies
        if not lead > 0 or not inside >= 0:
            return math.nan
        return (middle + math.copysign(math.sqrt(inside), z)) / lead


@dataclass(frozen=True)
class Change:
    """How much a ratio changed, candidate minus incumbent, with its standard error; 0.05 is five points of the ratio.

    `due_se`, the standard error of the candidate's ratio, is given where 1 is what the group is due. Then only what is lost
    below 1 counts, and nothing does where the group came nearer to 1.
    """

    candidate: float
    incumbent: float
    se: float
    due_se: float | None = None

    @property
    def estimate(self) -> float:
        """Below 0 the group is served worse than it was: by so much, as far as that counts; above 0 it came nearer."""
        return max(one for one, _ in self._parts)

    def z(self, line: float) -> float:
        """Standard score of the change against `line`: infinite where nothing varies, NaN where that says nothing.

        Every part must lie below the line, so the largest score decides and none is corrected: Berger, "Multiparameter
        Hypothesis Testing and Acceptance Sampling", Technometrics 24 (1982). Above it one is enough, uncorrected: that it is
        proved that a group did not lose gates nothing.
        """
        scores = [_score(one - line, se) for one, se in self._parts]
        return math.nan if any(math.isnan(score) for score in scores) else max(scores)

    def bound(self, z: float) -> float:
        """The line whose score is -z."""
        return max(one + z * se for one, se in self._parts)

    @property
    def _parts(self) -> list[tuple[float, float]]:
        """What must be below a line, with standard errors: the difference, and below 1 also how far that is from it."""
        difference = (self.candidate - self.incumbent, self.se)
        if self.due_se is None:
            return [difference]
        nearer = abs(self.incumbent - 1.0) - abs(self.candidate - 1.0)
        if nearer >= 0:
            return [(nearer, 0.0)]  # no test: as it was seen
        return [difference] if self.candidate >= 1.0 else [difference, (self.candidate - 1.0, self.due_se)]


@dataclass(frozen=True)
class Judged:
    """One of several judged together: outcome against the line, simultaneous bounds (NaN: none), Holm-adjusted p-values."""

    outcome: Outcome
    low: float
    high: float
    p_below: float  # small: proved below the line
    p_above: float  # small: proved above the line


def judge_together(several: Sequence[Ratio | Change], *, line: float, alpha: float) -> list[Judged]:
    """FAIL where proved below the line, PASS where proved above, else UNDECIDED; each direction errs with at most `alpha`.

    Holm, Scand. J. Statist. 6 (1979). What has no standard score counts as p = 1 both ways: it is undecided, and the others
    are corrected for it.
    """
    scores = [one.z(line) for one in several]
    below = [1.0 if math.isnan(z) else NORMAL.cdf(z) for z in scores]
    above = [1.0 if math.isnan(z) else NORMAL.cdf(-z) for z in scores]
    p_below, p_above = holm(below), holm(above)
    out = []
    for one, under, over, reach_high, reach_low in zip(
        several, p_below, p_above, _reaches(below, alpha), _reaches(above, alpha), strict=True
    ):
        outcome = Outcome.FAIL if under < alpha else Outcome.PASS if over < alpha else Outcome.UNDECIDED
        out.append(Judged(outcome, one.bound(-reach_low), one.bound(reach_high), under, over))
    return out


def _score(distance: float, se: float) -> float:
    """Distance in standard errors. Where all viewers are alike none is left: what everybody does alike is proved."""
    if se > 0:
        return distance / se
    return math.copysign(math.inf, distance) if se == 0 and distance else math.nan


def _reaches(p: Sequence[float], alpha: float) -> list[float]:
    """Standard errors from estimate to bound: at alpha / (number not yet proved) of the Holm step at which each was decided.

    Guilbaud, "Simultaneous Confidence Regions Corresponding to Holm's Step-Down Procedure", Biometrical J. 50 (2008), gives
    those of what is not proved; for what is, the bound of its own step lies beyond the line as it must.
    """
    out, steps, stopped = [0.0] * len(p), 0, False
    for index in sorted(range(len(p)), key=p.__getitem__):
        level = alpha / (len(p) - steps)
        out[index] = NORMAL.inv_cdf(1 - level)
        stopped = stopped or p[index] >= level
        steps += not stopped
    return out


def group_to_rest(group: RatioSums, rest: RatioSums) -> Ratio:
    """A group's rate over everybody else's: different viewers, so independent."""
    return Ratio(group.ratio, rest.ratio, group.variance, rest.variance)


@np.errstate(divide="ignore", invalid="ignore")
def share_to_share(sums: Moments) -> Ratio:
    """(Sum of column 0 / column 1) over (sum of column 2 / column 3), of the same viewers: exposure share by merit share.

    Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, eq. 3-4, for two ratios at once.
    """
    mean, covariance = sums.mean(), sums.covariance() / sums.n
    top, bottom = _ratio_gradient(mean, 0, 1), _ratio_gradient(mean, 2, 3)
    return Ratio(
        float(mean[0] / mean[1]), float(mean[2] / mean[3]), float(top @ covariance @ top),
        float(bottom @ covariance @ bottom), float(top @ covariance @ bottom),
    )  # fmt: skip


@np.errstate(divide="ignore", invalid="ignore")
def group_change(group: Moments, rest: Moments) -> Change:
    """Change of group-to-rest; columns are candidate's y and x and incumbent's y and x, zeros for who did not meet a side.

    Delta method on all eight means. Viewers may meet one side, or both: then the covariance takes part of the noise away.
    """
    mean, other = group.mean(), rest.mean()
    rates = [mean[0] / mean[1], mean[2] / mean[3], other[0] / other[1], other[2] / other[3]]
    candidate, incumbent = rates[0] / rates[2], rates[1] / rates[3]
    ours = _ratio_gradient(mean, 0, 1) / rates[2] - _ratio_gradient(mean, 2, 3) / rates[3]
    theirs = -_ratio_gradient(other, 0, 1) * candidate / rates[2] + _ratio_gradient(other, 2, 3) * incumbent / rates[3]
    variance = ours @ (group.covariance() / group.n) @ ours + theirs @ (rest.covariance() / rest.n) @ theirs
    return Change(float(candidate), float(incumbent), math.sqrt(max(float(variance), 0.0)))


@np.errstate(divide="ignore", invalid="ignore")
def share_change(sums: Moments) -> Change:
    """Change of share-to-merit, of which 1 is due; columns: candidate's exposure of the group and of all, incumbent's two,
    merit's two.
    """
    mean, covariance = sums.mean(), sums.covariance() / sums.n
    shares = [mean[0] / mean[1], mean[2] / mean[3]]
    merit, by_merit = mean[4] / mean[5], _ratio_gradient(mean, 4, 5)
    ours, theirs = (
        _ratio_gradient(mean, at, at + 1) / merit - by_merit * share / merit**2
        for at, share in zip((0, 2), shares, strict=True)
    )
    errors = [math.sqrt(max(float(g @ covariance @ g), 0.0)) for g in (ours - theirs, ours)]
    return Change(float(shares[0] / merit), float(shares[1] / merit), *errors)


def _ratio_gradient(mean: Floats, y: int, x: int) -> Floats:
    """Gradient of mean[y] / mean[x] by all means."""
    out = np.zeros(len(mean))
    out[y], out[x] = 1 / mean[x], -mean[y] / mean[x] ** 2
    return out
