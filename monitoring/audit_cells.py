"""From sums by group to judged cells: small groups pooled and never dropped, a family judged at once, months remembered."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeVar

from msgspec.structs import replace

from monitoring.audit_record import (
    POOLED,
    UNKNOWN,
    AuditConfig,
    AuditReason,
    AuditRecord,
    Cell,
    Check,
    Family,
    Trouble,
    finite,
)  # fmt: skip
from monitoring.audit_stats import Change, Judged, Ratio, group_change, group_to_rest, judge_together
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome

Sums = TypeVar("Sums", RatioSums, Moments)
Members = Mapping[str, tuple[str, ...]]  # group as judged -> groups as they are
_REASON = {
    (Check.LEVEL, Outcome.PASS): AuditReason.PROVED_ABOVE,
    (Check.LEVEL, Outcome.FAIL): AuditReason.PROVED_BELOW,
    (Check.LEVEL, Outcome.UNDECIDED): AuditReason.INTERVAL_COVERS,
    (Check.CHANGE, Outcome.PASS): AuditReason.NOT_WORSENED,
    (Check.CHANGE, Outcome.FAIL): AuditReason.WORSENED,
    (Check.CHANGE, Outcome.UNDECIDED): AuditReason.WORSENING_UNCLEAR,
}


@dataclass(frozen=True)
class Size:
    """How much is known of a group: its viewers, and the numerator events that the platform's rate would give it.

    Expected events and not its own: a group that is never clicked would else be pooled away for the very thing it suffers.
    """

    viewers: float
    events: float


@dataclass(frozen=True)
class FamilyCells:
    """One family's cells, or what kept it from having any; `members` says how its groups were pooled."""

    cells: tuple[Cell, ...]
    troubles: tuple[Trouble, ...]
    members: Members


def pooled(sizes: Mapping[str, Size], config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Groups to judge by name, each with its members; every group is in exactly one.

    All groups below a floor become one. While that is itself below, the next smallest joins it: so each group reaches both
    floors, or there is one group alone.
    """

    def small(one: Size) -> bool:
        return one.viewers < config.min_viewers or one.events < config.min_events

    rising = sorted(sizes, key=lambda name: (not small(sizes[name]), sizes[name].viewers, name))
    pool = [name for name in rising if small(sizes[name])]
    rest = rising[len(pool) :]
    while pool and rest and small(Size(*(sum(getattr(sizes[n], f) for n in pool) for f in ("viewers", "events")))):
        pool.append(rest.pop(0))
    out = {name: (name,) for name in rest}
    return out | ({POOLED: tuple(pool)} if pool else {})


def merged(sums: Mapping[str, Sums], members: Members) -> dict[str, Sums]:
    """The sums of groups as judged."""
    return {name: reduce(add, (sums[one] for one in inside)) for name, inside in members.items()}


def judge_level(
    family: Family, groups: Mapping[str, RatioSums], *, config: AuditConfig, before: AuditRecord | None = None
) -> FamilyCells:
    """A family's groups, each against everybody else; `groups` are disjoint and `before` is last month's record."""
    if not all(one.possible for one in groups.values()):
        return _none(Trouble(AuditReason.NOT_A_NUMBER, f"{family}: the sums of a group are not those of numbers"))
    whole = reduce(add, groups.values(), RatioSums())
    rate = whole.ratio if whole.x else 0.0
    sizes = {name: Size(one.n, one.x * rate) for name, one in groups.items()}
    members = pooled(sizes, config)
    troubles = too_little(family, sizes, members=members, config=config)
    if troubles:
        return FamilyCells((), troubles, members)
    sums = merged(groups, members)
    ratios = {name: group_to_rest(one, _others(sums, name)) for name, one in sums.items()}
    judged = {name: Size(one.n, one.y) for name, one in sums.items()}
    return FamilyCells(
        judge_ratios(family, ratios, sizes=judged, members=members, config=config, before=before), (), members
    )


def judge_ratios(
    family: Family, ratios: Mapping[str, Ratio], *, sizes: Mapping[str, Size], members: Members, config: AuditConfig,
    before: AuditRecord | None = None,
) -> tuple[Cell, ...]:  # fmt: skip
    """The cells of ratios that are given; a gating one that stayed undecided too long fails."""
    line = config.four_fifths
    judged = judge_together(list(ratios.values()), line=line, alpha=config.alpha)
    cells = [
        _cell(Check.LEVEL, family, name, ratio, result, size=sizes[name], members=members[name], threshold=line)
        for (name, ratio), result in zip(ratios.items(), judged, strict=True)
    ]
    held = {cell.key: cell.months_held for cell in before.cells} if before is not None else {}
    return tuple(_remembered(cell, held.get(cell.key, 0), config) for cell in cells)


def judge_changes(
    family: Family, changes: Mapping[str, Change], *, sizes: Mapping[str, Size], members: Members, config: AuditConfig
) -> tuple[Cell, ...]:
    """The cells of changes against the incumbent; a group fails that is proved to have lost more than is allowed."""
    line = -config.worsened
    judged = judge_together(list(changes.values()), line=line, alpha=config.alpha)
    return tuple(
        _cell(Check.CHANGE, family, name, change, result, size=sizes[name], members=members[name], threshold=line)
        for (name, change), result in zip(changes.items(), judged, strict=True)
    )


def judge_change(
    family: Family, groups: Mapping[str, Moments], *, members: Members, config: AuditConfig
) -> FamilyCells:
    """A family's change; moments are of candidate's y and x, incumbent's y and x, groups pooled as its level was.

    A group without a rate under one of the two is left out, and the others are judged against each other; it holds the audit.
    Where nobody has met the incumbent there is nothing that could have changed.
    """
    every = merged(groups, members)
    if len(every) < 2 or not any(one.sums[3] for one in every.values()):
        return FamilyCells((), (), members)
    sums = {name: one for name, one in every.items() if one.n >= 2 and one.sums[1] and one.sums[3]}
    troubles = tuple(_unmet(family, name, members[name]) for name in every if name not in sums)
    if len(sums) < 2:
        return FamilyCells((), troubles, members)
    changes = {name: group_change(one, _others(sums, name)) for name, one in sums.items()}
    sizes = {name: Size(one.n, one.sums[0]) for name, one in sums.items()}
    cells = judge_changes(family, changes, sizes=sizes, members=members, config=config)
    return FamilyCells(cells, troubles, members)


def _unmet(family: Family, name: str, inside: tuple[str, ...]) -> Trouble:
    who = name if inside == (name,) else f"{name} ({', '.join(inside)})"
    text = f"{family}: {who} has no rate under one of candidate and incumbent, so that its change was not measured"
    return Trouble(AuditReason.NOT_MEASURED, text)


def too_little(
    family: Family, sizes: Mapping[str, Size], *, members: Members, config: AuditConfig
) -> tuple[Trouble, ...]:
    """Why groups cannot be compared; nothing when they can."""
    if set(sizes) <= {UNKNOWN}:
        return (Trouble(AuditReason.ATTRIBUTE_UNKNOWN, f"{family}: nobody's {family.dimension} is known"),)
    if len(sizes) == 1:
        only = next(iter(sizes))
        return (Trouble(AuditReason.ONLY_ONE_GROUP, f"{family}: everybody is {only}", holds=False),)
    if len(members) > 1:
        return ()
    viewers, events = (sum(getattr(one, f) for one in sizes.values()) for f in ("viewers", "events"))
    if viewers >= 2 * config.min_viewers and events < 2 * config.min_events:
        return (
            Trouble(AuditReason.TOO_FEW_EVENTS, f"{family}: {events:.0f} events are too few to compare any two groups"),
        )
    return (
        Trouble(AuditReason.TOO_FEW_VIEWERS, f"{family}: {viewers:.0f} viewers are too few to compare any two groups"),
    )


def _none(trouble: Trouble) -> FamilyCells:
    return FamilyCells((), (trouble,), {})


def _others(sums: Mapping[str, Sums], name: str) -> Sums:
    return reduce(add, (one for other, one in sums.items() if other != name))


def _cell(
    check: Check, family: Family, name: str, one: Ratio | Change, result: Judged, *, size: Size,
    members: tuple[str, ...], threshold: float,
) -> Cell:  # fmt: skip
    sides = (one.top, one.bottom) if isinstance(one, Ratio) else (one.candidate, one.incumbent)
    reason = _REASON[check, result.outcome]
    if result.outcome is Outcome.UNDECIDED and math.isnan(one.z(threshold)):
        reason = AuditReason.NOT_A_NUMBER
    return Cell(
        check=check, family=family, group=name, members=members, viewers=int(size.viewers), events=float(size.events),
        value=finite(sides[0]), reference=finite(sides[1]), estimate=finite(one.estimate), low=finite(result.low),
        high=finite(result.high), threshold=threshold, p_below=result.p_below, p_above=result.p_above,
        outcome=result.outcome, reason=reason,
    )  # fmt: skip


def _remembered(cell: Cell, months: int, config: AuditConfig) -> Cell:
    """The cell with the months it was undecided in a row; too many are a failure."""
    if cell.outcome is not Outcome.UNDECIDED or cell.reason is not AuditReason.INTERVAL_COVERS:
        return cell
    now = replace(cell, months_held=months + 1)
    if now.months_held < config.held_months:
        return now
    return replace(now, outcome=Outcome.FAIL, reason=AuditReason.HELD_AGAIN)
