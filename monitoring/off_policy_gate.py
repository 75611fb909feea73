"""Before a canary: does the log of explored places say that the candidate is clearly worse? It can stop one, never promote.

    verdict = judge({"click": places, "completion": places_by_completion})     # fail: no canary; else as the plan says

A pass says only that nothing speaks against a canary and that a large loss is excluded; what is better the canary decides.
Undecided is neither: the log could not tell, and says why.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from msgspec import Struct

from monitoring.dials import CHANCE, POSITIVE, Allowed, check_dials
from monitoring.errors import BadPlaces
from monitoring.off_policy import Comparison, disagreement, doubly_robust, snips
from monitoring.off_policy_checks import KnownSum, Overlap, broken, known_sums, overlap
from monitoring.off_policy_log import Flags, Floats, LoggedPlaces
from registry.verdict import Outcome


class OffPolicyReason(StrEnum):
    """Why; a verdict carries at least one."""

    CLEARLY_WORSE = "clearly_worse"  # fail
    NOT_CLEARLY_WORSE = "not_clearly_worse"  # pass
    # undecided
    NO_DATA = "no_data"
    NOT_A_NUMBER = "not_a_number"
    PROPENSITY_MISSING = "propensity_missing"
    PROPENSITY_IMPOSSIBLE = "propensity_impossible"
    PROPENSITY_BROKEN = "propensity_broken"
    SUPPORT_UNKNOWN = "support_unknown"
    LOW_OVERLAP = "low_overlap"
    SAME_CHOICES = "same_choices"
    TOO_FEW_VIEWERS = "too_few_viewers"
    SMALL_SAMPLE = "small_sample"
    TOO_WIDE = "too_wide"
    ESTIMATES_DISAGREE = "estimates_disagree"


_ALLOWED = {
    "level": Allowed(0.5, 1, high_counts=False), "min_viewers": Allowed(2), "min_ess": POSITIVE,
    "min_effective_viewers": POSITIVE, "min_covered": Allowed(0, 1, low_counts=False),
    "max_missing": Allowed(0, 1, high_counts=False), "propensity_alpha": CHANCE,
    "largest_loss": Allowed(0, 1, low_counts=False), "disagree": POSITIVE,
}  # fmt: skip


@dataclass(frozen=True)
class OffPolicyConfig:
    """The check's dials; BadPlan for one that would switch a part of it off."""

    level: float = 0.95  # of the intervals; divided among rewards, since any of them can stop a canary
    min_viewers: int = 500  # intervals are normal over viewers
    min_ess: float = 100.0  # effective rows for what only one policy would show
    min_effective_viewers: float = 15.0  # that carry the error; below, a few clicks decide it
    min_covered: float = 0.95  # the target's mean probability on what might have been shown; the rest is not known
    max_missing: float = 0.01  # share of places without a propensity that are left out
    propensity_alpha: float = 0.001  # for all tests of the propensities together
    largest_loss: float = 0.5  # share of the incumbent's value; a pass excludes a greater loss
    disagree: float = 4.0  # standard errors between the two methods

    def __post_init__(self) -> None:
        check_dials("an off-policy check", self, _ALLOWED)


DEFAULT = OffPolicyConfig()


class Judged(Struct, frozen=True, kw_only=True):
    """One reward by one method; values a place, None where they are no number."""

    reward: str
    method: str
    target: float | None
    incumbent: float | None
    difference: float | None
    se: float | None
    low: float | None
    high: float | None
    effective_viewers: float | None


class OffPolicyVerdict(Struct, frozen=True, kw_only=True):
    """The whole answer: outcome, reasons, a sentence for each, and every number."""

    outcome: Outcome
    reasons: tuple[OffPolicyReason, ...]
    texts: tuple[str, ...]
    judged: tuple[Judged, ...] = ()
    overlap: Overlap | None = None
    propensities: tuple[KnownSum, ...] = ()
    missing: int = 0  # places left out for want of a propensity

    @property
    def stops(self) -> bool:
        """True when there must be no canary."""
        return self.outcome is Outcome.FAIL


class Objection(Struct, frozen=True):
    """One reason with its sentence."""

    reason: OffPolicyReason
    text: str


def judge(logs: Mapping[str, LoggedPlaces], *, config: OffPolicyConfig = DEFAULT) -> OffPolicyVerdict:
    """The verdict over the same places by reward; undecided with every reason found, before any estimate is believed.

    Fail when the interval of any reward's difference is below zero. The deciding method is the doubly robust one where
    rewards were predicted, else the self-normalised one. BadPlaces when the logs are not of the same places.
    """
    first = next(iter(logs.values()), None)
    if first is None or not len(first) or np.isnan(first.propensity).all():
        return _undecided([Objection(OffPolicyReason.NO_DATA, "the log has no explored place with a propensity")])
    if not all(np.array_equal(one.propensity, first.propensity, equal_nan=True) for one in logs.values()):
        raise BadPlaces(f"the logs of {', '.join(logs)} are not the same places; one judgement is over the same ones")
    objections = list(_columns(logs, config))
    missing = np.isnan(first.propensity)
    if objections:
        return _undecided(objections, missing=int(missing.sum()))
    known = {reward: one.where(~missing) for reward, one in logs.items()} if missing.any() else logs
    places = next(iter(known.values()))
    seen, sums = overlap(places), tuple(known_sums(places))
    against = list(_propensities(sums, config)) or list(_reach_of_the_log(seen, config))
    judged: list[Judged] = []
    worse: list[Objection] = []
    for reward, one in known.items() if not against else ():
        numbers, objection = _reward(reward, one, config=config, level=1 - (1 - config.level) / len(known))
        judged += numbers
        if objection is not None:
            (worse if objection.reason is OffPolicyReason.CLEARLY_WORSE else against).append(objection)
    found = worse or against or [_nothing_against(judged)]
    return OffPolicyVerdict(
        outcome=Outcome.FAIL if worse else Outcome.UNDECIDED if against else Outcome.PASS,
        reasons=tuple(dict.fromkeys(one.reason for one in found)), texts=tuple(one.text for one in found),
        judged=tuple(judged), overlap=seen, propensities=sums, missing=int(missing.sum()),
    )  # fmt: skip


def _nothing_against(judged: Sequence[Judged]) -> Objection:
    said = "; ".join(f"{one.reward} {one.difference:+.3g} a place" for one in judged if one.difference is not None)
    return Objection(OffPolicyReason.NOT_CLEARLY_WORSE, f"nothing speaks against a canary: {said}")


def undecided(reason: OffPolicyReason, text: str) -> OffPolicyVerdict:
    """The verdict where there is nothing to judge by, and why."""
    return _undecided([Objection(reason, text)])


def _undecided(objections: Sequence[Objection], *, missing: int = 0) -> OffPolicyVerdict:
    return OffPolicyVerdict(
        outcome=Outcome.UNDECIDED, reasons=tuple(dict.fromkeys(one.reason for one in objections)),
        texts=tuple(one.text for one in objections), missing=missing,
    )  # fmt: skip


def _columns(logs: Mapping[str, LoggedPlaces], config: OffPolicyConfig) -> Iterator[Objection]:
    """What is missing from the columns, or cannot be."""
    places = next(iter(logs.values()))
    p, missing = places.propensity, np.isnan(places.propensity)
    if missing.mean() > config.max_missing:
        text = f"{int(missing.sum())} of {len(places)} places have no propensity; at most {config.max_missing:.0%} may"
        yield Objection(OffPolicyReason.PROPENSITY_MISSING, text)
    wrong = p[~missing & ~((p > 0) & (p <= 1))]
    if len(wrong):
        text = f"{len(wrong)} propensities are impossible, the first is {wrong[0]:g}; allowed is above 0, at most 1"
        yield Objection(OffPolicyReason.PROPENSITY_IMPOSSIBLE, text)
    if places.support is None:
        text = "the pools were not logged, so neither overlap nor propensities can be checked"
        yield Objection(OffPolicyReason.SUPPORT_UNKNOWN, text)
    for reward, one in logs.items():
        if not all(map(np.all, _numbers(one))) or not _odds(one.target) or not _odds(one.incumbent):
            text = f"{reward} or what belongs to it is not a number, or a policy's probability is outside 0 to 1"
            yield Objection(OffPolicyReason.NOT_A_NUMBER, text)


def _numbers(places: LoggedPlaces) -> Iterator[Flags]:
    yield np.isfinite(places.reward)
    if places.predicted is not None:
        yield from map(np.isfinite, (places.predicted.shown, places.predicted.target, places.predicted.incumbent))
    if places.support is not None:
        yield from map(np.isfinite, (places.support.covered, places.support.incumbent_covered))


def _odds(values: Floats) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _propensities(sums: Sequence[KnownSum], config: OffPolicyConfig) -> Iterator[Objection]:
    for one in broken(list(sums), alpha=config.propensity_alpha):
        text = f"the propensities are not what happened: sum {one.name!r} is off by {one.mean:+.3g} a place (z {one.z:.1f})"
        yield Objection(OffPolicyReason.PROPENSITY_BROKEN, text)


def _reach_of_the_log(seen: Overlap, config: OffPolicyConfig) -> Iterator[Objection]:
    """What this many places, and these choices, cannot say."""
    if seen.viewers < config.min_viewers:
        text = f"{seen.viewers} viewers cannot be judged by; needed are {config.min_viewers}"
        yield Objection(OffPolicyReason.TOO_FEW_VIEWERS, text)
    if seen.covered < config.min_covered:
        text = f"the log could have shown {seen.covered:.1%} of what the candidate would; needed are {config.min_covered:.0%}"
        yield Objection(OffPolicyReason.LOW_OVERLAP, text)
    if not seen.differing:
        text = "the candidate would choose what the incumbent chose at every place: nothing was compared"
        yield Objection(OffPolicyReason.SAME_CHOICES, text)
    elif seen.ess_difference < config.min_ess:
        text = f"{seen.ess_difference:.0f} effective rows speak for what differs; needed are {config.min_ess:g}"
        yield Objection(OffPolicyReason.SMALL_SAMPLE, text)


def _reward(
    reward: str, places: LoggedPlaces, *, config: OffPolicyConfig, level: float
) -> tuple[list[Judged], Objection | None]:
    """The numbers of each method for one reward, and what speaks against a pass."""
    methods = [snips(places)] if places.predicted is None else [doubly_robust(places), snips(places)]
    judged = [_judged(reward, one, level) for one in methods]
    deciding, incumbent = methods[0].difference, methods[0].incumbent.value
    apart = disagreement(methods[0], methods[-1])
    low, high = judged[0].low, judged[0].high
    if low is None or high is None or judged[-1].low is None:
        return judged, Objection(OffPolicyReason.NOT_A_NUMBER, f"the difference in {reward} has no interval")
    if not deciding.effective_viewers >= config.min_effective_viewers:
        text = f"{deciding.effective_viewers:.0f} viewers carry the error of {reward}; "
        text += f"needed are {config.min_effective_viewers:g}"
        return judged, Objection(OffPolicyReason.SMALL_SAMPLE, text)
    if not abs(apart) <= config.disagree:
        text = f"the two methods' differences in {reward} are {apart:+.1f} standard errors apart"
        return judged, Objection(OffPolicyReason.ESTIMATES_DISAGREE, text)
    if high < 0:
        text = f"{reward} is {deciding.value:+.3g} a place, at most {high:+.3g}"
        return judged, Objection(OffPolicyReason.CLEARLY_WORSE, text)
    least = -config.largest_loss * incumbent
    if not low > least:
        text = f"{reward} may be {low:+.3g} a place; a pass must exclude {least:+.3g}"
        return judged, Objection(OffPolicyReason.TOO_WIDE, text)
    return judged, None


def _judged(reward: str, one: Comparison, level: float) -> Judged:
    low, high = one.difference.bounds(level)
    return Judged(
        reward=reward, method=one.method, target=_number(one.target.value), incumbent=_number(one.incumbent.value),
        difference=_number(one.difference.value), se=_number(one.difference.se), low=_number(low), high=_number(high),
        effective_viewers=_number(one.difference.effective_viewers),
    )  # fmt: skip


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
