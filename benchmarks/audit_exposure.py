"""What becomes of a group of creators between two rankers: months of exposure and merit by viewer, with true ratios.

Each viewer has her own leaning among three groups, about the month's shares, and meets one of the two rankers; the few places
that were drawn for say what each group merits. Judged by the audit's rule for changes, and by the plain difference beside it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from monitoring.audit_cells import Size, judge_changes, judge_ratios
from monitoring.audit_record import AuditConfig, Family
from monitoring.audit_stats import Change, share_change, share_to_share
from monitoring.stats import Floats, Moments
from registry.verdict import Outcome

MERIT = (0.15, 0.35, 0.5)  # share of merit by group; the first is the one that a ranker may wrong
CROWD, VIEWERS = 200_000, 20_000  # from whom, and how many a month, half of them by each ranker
PLACES, ANSWERS = 30.0, 0.8  # a viewer's exposure, and her answers on places that were drawn for
LEANING = 12.0  # how alike viewers are: concentration of their own shares about the common ones
FAMILY = Family("creator", "language", "exposure_to_merit")
CONFIG = AuditConfig()
# (incumbent's ratio of exposure to merit, candidate's) of the first group
CASES: Mapping[str, tuple[float, float]] = {
    "same": (1.0, 1.0),
    "same_over": (1.4, 1.4),
    "same_under": (0.9, 0.9),
    "corrected": (1.5, 1.0),
    "corrected_past": (1.4, 0.9),  # on the other side of what is due, and nearer to it
    "at_the_line": (1.0, 0.95),  # lost exactly what may be lost: here the error is what alpha says
    "worse15": (1.0, 0.85),
    "worse20_from_over": (1.05, 0.85),
    "worse10_under": (0.9, 0.8),
    "worse30": (1.0, 0.70),
    "worse30_from_over": (1.3, 0.70),
}


def drawn(rng: np.random.Generator, ratio: tuple[float, float]) -> Floats:
    """A crowd, shape (CROWD, 3 x groups): exposure under the incumbent, under the candidate, and merit, of each viewer.

    Whoever draws a month takes the first columns for one half of the viewers and the second for the other.
    """
    sides = [_exposure(rng, one) for one in ratio]
    merit = rng.poisson(ANSWERS * rng.dirichlet(LEANING * np.array(MERIT), CROWD))
    return np.concatenate([*sides, merit], axis=1).astype(np.float64)


def _exposure(rng: np.random.Generator, ratio: float) -> Floats:
    shares = np.array([ratio * MERIT[0], *(np.array(MERIT[1:]) * (1 - ratio * MERIT[0]) / (1 - MERIT[0]))])
    activity = rng.gamma(1.0, PLACES, CROWD)
    return np.asarray(rng.poisson(activity[:, None] * rng.dirichlet(LEANING * shares, CROWD)), np.float64)


def months(rng: np.random.Generator, ratio: tuple[float, float], runs: int) -> Counter[str]:
    """How many months in which the first group's change fails, by both rules, its level fails, and either of these."""
    crowd, counts = drawn(rng, ratio), Counter[str]()
    for _ in range(runs):
        month = crowd[rng.integers(0, CROWD, VIEWERS)]
        counts.update(judged(month))
    return counts


def judged(month: Floats) -> Counter[str]:
    """One month by the audit's own functions; the rows of the first half of the viewers are the candidate's."""
    groups, half = len(MERIT), len(month) // 2
    ours, theirs = month[:, groups : 2 * groups].copy(), month[:, :groups].copy()
    merit = month[:, 2 * groups :]
    ours[half:], theirs[:half] = 0.0, 0.0
    names = [f"g{n}" for n in range(groups)]
    sums = {name: [one for side in (ours, theirs, merit) for one in (side[:, n], side.sum(1))]
            for n, name in enumerate(names)}  # fmt: skip
    changes = {name: share_change(Moments.of(*columns)) for name, columns in sums.items()}
    ratios = {name: share_to_share(Moments.of(*columns[:2], *columns[4:])) for name, columns in sums.items()}
    sizes = {name: Size(half, 1_000.0) for name in names}
    members = {name: (name,) for name in names}
    plain = {name: replace(one, due_se=None) for name, one in changes.items()}
    level = judge_ratios(FAMILY, ratios, sizes=sizes, members=members, config=CONFIG)[0].outcome is Outcome.FAIL
    found = {rule: _any_fails(one, sizes, members) for rule, one in (("change", changes), ("difference", plain))}
    return Counter({**found, "level": level, "blocked": level or found["change"]})


def _any_fails(
    changes: Mapping[str, Change], sizes: Mapping[str, Size], members: Mapping[str, tuple[str, ...]]
) -> bool:
    """Whether any group is found to have lost: also those that gave what the first one gained."""
    cells = judge_changes(FAMILY, changes, sizes=sizes, members=members, config=CONFIG)
    return any(cell.outcome is Outcome.FAIL for cell in cells)
