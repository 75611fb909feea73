"""Impressions of explored places at which demo-2, in shadow, has chosen; and whole worlds of them whose truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from events import schema as s
from events.clock import utc
from monitoring.off_policy_log import LoggedPlaces
from tests.monitoring.off_policy_stories import EPSILON, N, log
from tests.release.evenings import START, clicked, shown

HOUR = 3_600.0
CHOSE = {"expected_target": {"click": 0.3, "completion": 0.1}, "expected_incumbent": {"click": 0.2, "completion": 0.1}}
SCORES = {"click": 0.4, "completion": 0.2}


def explored(rank: int | None = None, *, chose: bool | None = True, release: str = "demo-2", **more: Any) -> s.Explored:
    """Dice of a pool of four at epsilon 0.4; `chose` is None where no release in shadow chose."""
    shadow = None if chose is None else s.Shadowed(release=release, chose_shown=chose, **(CHOSE | more))
    return s.Explored(epsilon=EPSILON, pool=N, rank=rank, shadow=shadow)


def place(user: str, request: str, at: float, dice: s.Explored | None, **more: Any) -> s.Impression:
    """An impression of an explored place; its odds are those of the dice."""
    odds = None if dice is None else 1 - EPSILON if dice.rank is None else EPSILON / N
    fields = {"propensity": odds, "explored": dice, "scores": SCORES, "release": "demo-1"} | more
    found: s.Impression = shown(user, request, f"item-of-{request}", at, position=9, **fields)
    return found


def click(user: str, request: str, at: float) -> s.FeedClicked:
    return clicked(user, request, f"item-of-{request}", at)


def completion(user: str, request: str, at: float) -> s.MediaCompleted:
    return s.MediaCompleted(
        event_id=f"end-{request}-{at}", event_at=utc(START + at), user_id=user, item_id=f"item-of-{request}",
        request_id=request,
    )  # fmt: skip


FAR = {"click": [0.5, 0.05, 0.2, 0.2, 0.2], "completion": [0.2, 0.02, 0.1, 0.1, 0.1]}  # item 1 is ten times worse
NEAR = {"click": [0.2, 0.6, 0.2, 0.2, 0.2], "completion": [0.1, 0.4, 0.1, 0.1, 0.1]}  # and three times better


@dataclass(frozen=True)
class Told:
    """A world whose worth by item is known, as columns and as events."""

    logs: Mapping[str, LoggedPlaces]
    events: Sequence[s.Event]


MODEL = {"click": [0.3, 0.3, 0.1, 0.1, 0.1], "completion": [0.1, 0.2, 0.1, 0.0, 0.1]}


def told(worth: Mapping[str, list[float]], *, candidate: int, viewers: int = 800) -> Told:
    """Places of viewers who click and complete item i with probability worth[...][i], completions being clicked as well."""
    logs = {
        name: log(one, candidate=candidate, viewers=viewers, model=MODEL[name], seed=5) for name, one in worth.items()
    }
    direct = logs["click"]
    assert direct.support is not None and direct.support.rank is not None
    events: list[s.Event] = []
    for n in range(len(direct)):
        drawn = bool(direct.support.drawn[n])
        rank = int(direct.support.rank[n] * N) if drawn else None
        item = 0 if rank is None else rank + 1
        guess = {name: one.predicted for name, one in logs.items()}
        dice = explored(
            rank, chose=item == candidate,
            expected_target={name: float(one.target[n]) for name, one in guess.items() if one},
            expected_incumbent={name: float(one.incumbent[n]) for name, one in guess.items() if one},
        )  # fmt: skip
        user, request = f"u{int(direct.viewer[n]):04}", f"q{n:05}"
        events.append(place(user, request, n, dice, scores={name: MODEL[name][item] for name in MODEL}))
        events += [click(user, request, n + 10)] if direct.reward[n] else []
        events += [completion(user, request, n + 60)] if logs["completion"].reward[n] else []
    return Told(logs, events)
