"""The canary's gate: one look at a time, in event time; evidence first, then one action. Pure: no tables, no clock.

The order is the argument. Broken data is a hold, never a pass. Harm is looked for every hour, with a bound that holds at
all looks at once. The gain is tested once, at the first decision with power enough: a canary that goes on after it has
passed that test and waits for something else (a guard, the audit), so later tests can only take its promotion away.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from statistics import NormalDist

from msgspec import Struct

from events.clock import utc
from monitoring import canary_findings as say
from monitoring.canary_checks import Finding, broken
from monitoring.canary_plan import HOUR_S, Audit, ExperimentPlan, HourLook, Looks
from monitoring.sequential import APART, lan_demets
from registry.verdict import Evidence, Outcome, Reason, Verdict

NORMAL = NormalDist()


class Action(StrEnum):
    """What is to be done with the canary."""

    CONTINUE = "continue"  # the next hour will be looked at
    HOLD = "hold"  # nothing is decided and somebody is told
    EXTEND = "extend"  # go on until the next decision
    ROLLBACK = "rollback"  # take its traffic away now
    END = "end"  # take its traffic away; it was not promoted
    PROMOTE = "promote"

    @property
    def final(self) -> bool:
        """True when nothing that comes later changes it."""
        return self in (Action.ROLLBACK, Action.END, Action.PROMOTE)


class State(Struct, frozen=True):
    """What a look hands to the next one."""

    held_since: float | None = None  # event time of the first look of the hold that lasts
    fractions: tuple[float, ...] = ()  # information at the early looks taken


class Decision(Struct, frozen=True, kw_only=True):
    """What one look led to."""

    experiment: str
    hour: int
    at: float  # event time of the look, epoch seconds
    action: Action
    verdict: Verdict
    text: str  # one sentence a finding; what a page to somebody on call says
    after: State


_OUTCOMES = {Action.PROMOTE: Outcome.PASS, Action.ROLLBACK: Outcome.FAIL}
# A decision that these reasons end was proved bad; every other end only lacks a proof of good.
_PROVED = {Reason.SEGMENT_HARMED, Reason.AUDIT_FAILED}
_ENDING = {Reason.NOT_BETTER, Reason.TOO_SMALL_A_GAIN} | _PROVED
COLLECTING = Finding(Reason.COLLECTING, "no harm is proved; the decision is not due yet")
LATE = Finding(Reason.OUT_OF_TIME, "the longest time a canary may take is over and nothing was decided")
PROMOTED = Finding(Reason.BEATS_BASELINE, "better, guarded, unharmed groups, audited")


def judge(plan: ExperimentPlan, look: HourLook, *, state: State | None = None, audit: Audit | None = None) -> Decision:
    """The decision at one look; `state` is what the look before it left."""
    state = state or State()
    due = plan.config.due(look.hour)
    found = broken(plan, look, due=due or plan.config.early(look.hour))
    if found:
        return _held(plan, look, state, found)
    harmed, shown = say.harm(plan, look)
    if harmed:
        return _decided(plan, look, Action.ROLLBACK, harmed, shown, State())
    if look.hour > plan.config.max_hours:
        return _decided(plan, look, Action.END, [LATE], shown, State())
    if not due and not plan.config.early(look.hour):
        return _decided(plan, look, Action.CONTINUE, [COLLECTING], shown, State(fractions=state.fractions))
    short, reach = say.power(plan, look)
    if not due:
        return _early(plan, look, state, audit, short, shown)
    if short:
        return _undecided(plan, look, state, short, [*shown, *reach])
    torn = [*say.disagreement(plan, look)]
    if torn:
        return _held(plan, look, state, torn, shown)
    return _decide(plan, look, state, audit, [*shown, *reach])


def judge_all(looks: Looks, *, audit: Audit | None = None, state: State | None = None) -> Iterator[Decision]:
    """Decisions at each look in turn, none after a final one."""
    for look in looks.hours:
        decision = judge(looks.experiment, look, state=state, audit=audit)
        yield decision
        if decision.action.final:
            return
        state = decision.after


def crashed(
    plan: ExperimentPlan, error: str, *, hour: int, at: float, canary_share: float = 1.0, state: State | None = None
) -> Decision:
    """The decision when no look could be made: a hold like any other, with the error in its text."""
    look = HourLook(hour=hour, at=at, arms={}, canary_share=canary_share)
    return _held(plan, look, state or State(), [Finding(Reason.CRASHED, f"the look failed: {error}")])


def _decide(plan: ExperimentPlan, look: HourLook, state: State, audit: Audit | None, shown: list[Evidence]) -> Decision:
    """The decision that is due, on data that can be believed and with power enough."""
    edge, fractions = NORMAL.inv_cdf(1 - plan.config.alpha / 2), state.fractions
    if plan.config.early_hours:
        edge = lan_demets([*fractions, 1.0], plan.config.alpha)[-1]
    found, numbers = _promotable(plan, look, audit, edge)
    shown = [*shown, *numbers]
    if not found:
        return _decided(plan, look, Action.PROMOTE, [PROMOTED], shown, State())
    ending = [finding for finding in found if finding.reason in _ENDING]
    if ending:
        return _decided(plan, look, Action.END, [*ending, *(f for f in found if f not in ending)], shown, State())
    return _undecided(plan, look, state, found, shown)


def _promotable(
    plan: ExperimentPlan, look: HourLook, audit: Audit | None, edge: float
) -> tuple[list[Finding], list[Evidence]]:
    """What stands against a promotion, all of it, and the numbers."""
    parts = [
        say.gain(plan, look, edge=edge), say.guards(plan, look), say.groups(plan, look), say.novelty(plan, look),
        say.audited(plan, look, audit),
    ]  # fmt: skip
    return [one for found, _ in parts for one in found], [one for _, shown in parts for one in shown]


def _early(
    plan: ExperimentPlan,
    look: HourLook,
    state: State,
    audit: Audit | None,
    short: Sequence[Finding],
    shown: list[Evidence],
) -> Decision:
    """A look that may promote before time; it needs no power (crossing the bound is the proof) and stops for nothing else."""
    waiting = _decided(plan, look, Action.CONTINUE, [COLLECTING], shown, State(fractions=state.fractions))
    if any(finding.reason is Reason.TOO_FEW_VIEWERS for finding in short):
        return waiting
    fraction = plan.deciding.planned_variance / say.decisive(plan, look).se ** 2
    last = state.fractions[-1] if state.fractions else 0.0
    if not last + APART <= fraction <= 1 - APART or [*say.disagreement(plan, look)]:
        return waiting
    fractions = (*state.fractions, fraction)
    found, numbers = _promotable(plan, look, audit, lan_demets(fractions, plan.config.alpha)[-1])
    if found:
        return _decided(plan, look, Action.CONTINUE, [COLLECTING], [*shown, *numbers], State(fractions=fractions))
    return _decided(plan, look, Action.PROMOTE, [PROMOTED], [*shown, *numbers], State())


def _undecided(
    plan: ExperimentPlan, look: HourLook, state: State, found: Sequence[Finding], shown: Sequence[Evidence]
) -> Decision:
    """Go on to the next decision, or end where none is left."""
    config = plan.config
    more = look.hour + config.day_hours <= config.max_hours
    return _decided(plan, look, Action.EXTEND if more else Action.END, found, shown, State(fractions=state.fractions))


def _held(
    plan: ExperimentPlan, look: HourLook, state: State, found: Sequence[Finding], shown: Sequence[Evidence] = ()
) -> Decision:
    """A hold; one that has lasted too long with canary traffic on is rolled back, and the last hour ends any other."""
    since = look.at if state.held_since is None else state.held_since
    held_h = (look.at - since) / HOUR_S
    numbers = [*shown, *(one for finding in found for one in finding.evidence)]
    after = State(held_since=since, fractions=state.fractions)
    if held_h >= plan.config.hold_hours and look.canary_share > 0:
        text = f"held for {held_h:.0f} h of event time with canary traffic on; {plan.config.hold_hours:g} h are allowed"
        return _decided(plan, look, Action.ROLLBACK, [Finding(Reason.HELD_TOO_LONG, text), *found], numbers, after)
    if look.hour > plan.config.max_hours:
        return _decided(plan, look, Action.END, [LATE, *found], numbers, after)
    return _decided(plan, look, Action.HOLD, found, numbers, after)


def _decided(
    plan: ExperimentPlan,
    look: HourLook,
    action: Action,
    found: Sequence[Finding],
    shown: Sequence[Evidence],
    after: State,
) -> Decision:
    proved = action is Action.END and any(finding.reason in _PROVED for finding in found)
    verdict = Verdict(
        outcome=Outcome.FAIL if proved else _OUTCOMES.get(action, Outcome.UNDECIDED), reasons=say.reasons(found),
        evidence=tuple(dict.fromkeys(shown)), decided_at=utc(look.at).isoformat(),
    )  # fmt: skip
    text = f"{plan.id} hour {look.hour}: {action}. " + ". ".join(finding.text for finding in found) + "."
    return Decision(
        experiment=plan.id, hour=look.hour, at=look.at, action=action, verdict=verdict, text=text, after=after
    )
